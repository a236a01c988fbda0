// Pictures: from messages to canvases, the newest one only, and how long they took.
import { $, vidar, pending, put } from "./state.js";

const KEEP = 400;
const times = [];                             // of the last painted frames

export class Painter {
  constructor(canvas, painted) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.context.imageSmoothingEnabled = true;
    this.painted = painted;
    this.next = null;                         // what is to be painted: a bitmap, or a frame of video
    this.asked = this.shown = 0;              // the newest picture that came, and that was painted
  }

  size(width, height) {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
  }

  place() { return ++this.asked; }            // of a picture that has come, among all of them

  async show(header, jpeg) {                  // header: null of a picture that is somebody else's
    const number = this.place();
    let bitmap;
    try { bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })); } catch { return; }
    this.offer(number, header, bitmap, bitmap.width, bitmap.height);
  }

  // Its upper left corner, width x height, will be painted, unless a newer picture is there first.
  offer(number, header, image, width, height) {
    if (number < this.shown || (this.next && this.next.number > number)) return image.close();
    if (this.next) this.next.image.close();
    else requestAnimationFrame(() => this.paint());
    this.next = { image, width, height, number, header };
  }

  paint() {
    const { image, width, height, number, header } = this.next;
    this.next = null;
    this.shown = number;
    this.context.drawImage(image, 0, 0, width, height, 0, 0, this.canvas.width, this.canvas.height);
    image.close();
    if (header) this.painted(header);
  }
}

export const dream = new Painter($("screen"), ({ frame, echo }) => {
  const at = performance.now();
  vidar.frames += 1;
  vidar.frame = frame;
  vidar.painted = at;
  vidar.echo = echo;
  times.push(at);
  while (times.length > 2 && at - times[0] > 2000) times.shift();
  while (pending.length && pending[0][0] <= echo) {
    vidar.latencies.push(at - pending.shift()[1]);
    if (vidar.latencies.length > KEEP) vidar.latencies.shift();
  }
});

export const game = new Painter($("game"), ({ frame }) => {
  vidar.game = frame;
  put("game-label", "the real game");
});

export function figures() {
  const now = performance.now();
  const recent = times.filter((at) => now - at < 2000);
  const span = recent.length > 1 ? recent[recent.length - 1] - recent[0] : 0;
  vidar.fps = span > 0 ? (1000 * (recent.length - 1)) / span : 0;
  put("f-fps", vidar.fps ? vidar.fps.toFixed(1) : "-");
  put("f-frame", String(vidar.frame));
  const sorted = [...vidar.latencies].sort((a, b) => a - b);
  const at = (q) => sorted.length ? `${Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))])} ms` : "-";
  put("f-p50", at(0.5));
  put("f-p95", at(0.95));
}
