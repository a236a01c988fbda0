// One page, one socket. Pictures come in as binary messages (16 bytes of header, then JPEG or H.264), all else is JSON.
import { $, vidar, pending, line, send, put, element } from "./state.js";
import { dream, game, figures } from "./pictures.js";
import { chooseCodec, codecTold, videoPicture } from "./codec.js";
import { setKeys, plays, hold, release } from "./input.js";
import { toggleRecording, forgetRecording, recordingTold, recordingDone, tick } from "./record.js";
import { onStart, emptyStarts, startPicture, markStart } from "./starts.js";

const HEADER = 16, DREAM = 1, START = 2, GAME = 3, VIDEO = 4;
const KEY = 1;                                // flag of a picture of VIDEO that needs none before it
const BACK_OFF = [500, 1000, 2000, 4000, 8000], FOR_GOOD = [1000, 1003, 1007, 1008, 1009, 4401];

let tries = 0, retry = 0;

// ---- the socket

function connect() {
  clearTimeout(retry);
  const one = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/ws");
  one.binaryType = "arraybuffer";
  line.socket = one;
  tell("waiting", tries ? "reconnecting" : "connecting");
  one.onopen = () => {
    if (location.hash.length > 1) send({ t: "token", token: location.hash.slice(1, 65) });
    vidar.connected = true;
    vidar.connections += 1;
  };
  one.onmessage = (event) => {
    if (line.socket !== one) return;
    if (typeof event.data === "string") read(JSON.parse(event.data));
    else picture(event.data);
  };
  one.onclose = (event) => { if (line.socket === one) closed(event.code, event.reason); };
}

function closed(code, reason) {
  vidar.connected = vidar.playing = false;
  vidar.closed = code;
  vidar.queue = 0;
  pending.length = 0;
  release();
  forgetRecording();
  enable(false);
  if (FOR_GOOD.includes(code)) {
    const why = code === 4401 ? "A token is needed. Open the address that vidar play has printed, with all that follows the #."
      : reason === "idle" ? "Nobody has played for a while." : reason === "time is up" ? "This session's time is up."
      : `The server has ended the session: ${reason || code}.`;
    tell("ended", "ended");
    veil(why, true);
    return;
  }
  const wait = BACK_OFF[Math.min(tries, BACK_OFF.length - 1)] * (0.8 + 0.4 * Math.random());
  tries += 1;
  tell("waiting", "reconnecting");
  veil(code === 1013 ? "All places are taken. Trying again shortly." : "No connection. Trying again.", false);
  retry = setTimeout(connect, wait);
}

function read(message) {
  if (message.t === "hello") greet(message);
  else if (message.t === "queue") {
    vidar.queue = message.place;
    tell("waiting", `place ${message.place} in the queue`);
    veil(`All places are taken. You are number ${message.place} in the queue.`, false);
  } else if (message.t === "figures") {
    vidar.figures = message;
    const tried = message.hits + message.misses;
    put("f-model", message.model_ms_p50 === undefined ? "-" : `${message.model_ms_p50.toFixed(1)} ms`);
    put("f-hits", tried ? `${Math.round((100 * message.hits) / tried)} %` : "-");
  } else if (message.t === "seed") begun(message);
  else if (message.t === "recording") recordingTold(message);
  else if (message.t === "recorded") recordingDone(message);
  else if (message.t === "codec") codecTold(message);
  else if (message.t === "beside") put("game-label", `the real game: ${message.why}`);
}

function greet(hello) {
  Object.assign(vidar, { hello, playing: true, seat: hello.seat, queue: 0, frame: 0, echo: 0, paused: false, game: null });
  tries = 0;
  $("world").textContent = hello.world;
  document.title = `${hello.world} - vidar play`;
  for (const painter of [dream, game]) painter.size(hello.width, hello.height);
  $("game-figure").hidden = $("dream-label").hidden = !hello.beside;
  setKeys(hello.keys);
  emptyStarts(hello.starts);
  begun({ seed: hello.seed, start: 0 });
  legend(hello);
  enable(true);
  tell("playing", hello.fps ? `playing at ${hello.fps.toFixed(1)} frames/s` : "playing");
  $("veil").hidden = true;
  release();
  chooseCodec(hello);
}

function begun({ seed, start }) {
  vidar.seed = seed;
  vidar.start = start;
  put("f-seed", String(seed));
  markStart();
}

function picture(data) {
  const view = new DataView(data, 0, HEADER), coded = new Uint8Array(data, HEADER);
  if (view.getUint8(0) !== 1) return;
  const kind = view.getUint8(1), frame = view.getUint32(4);
  if (kind === DREAM) dream.show({ frame, echo: view.getUint32(12) }, coded);
  else if (kind === VIDEO) videoPicture({ frame, echo: view.getUint32(12) }, coded, Boolean(view.getUint16(2) & KEY));
  else if (kind === START) startPicture(frame, view.getUint32(8), coded);
  else if (kind === GAME) game.show({ frame }, coded);
}

// ---- the page around the picture

const ARROWS = { ArrowUp: "\u2191", ArrowDown: "\u2193", ArrowLeft: "\u2190", ArrowRight: "\u2192" };
const LABELS = { ...ARROWS, Backspace: "\u232b", Enter: "\u21b5" };
const label = (code) => LABELS[code] || code.replace(/^(Key|Digit)/, "");
const words = (action) => action.toLowerCase().replaceAll("_", " ");

function legend(hello) {
  for (const id of ["keys", "pad-left", "pad-right"]) $(id).replaceChildren();
  const touched = new Set();
  for (const { code, action } of hello.keys) {
    keyLine(code, words(action)).dataset.code = code;
    if (touched.has(action)) continue;
    touched.add(action);
    const arrow = ARROWS[code];
    const button = element("button", arrow || words(action), arrow ? $("pad-left") : $("pad-right"));
    button.type = "button";
    button.dataset.code = code;
    button.setAttribute("aria-label", words(action));
    if (arrow) button.className = code.slice(5).toLowerCase();
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      hold(code, "touch", true, event.timeStamp);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(end, (event) => hold(code, "touch", false, event.timeStamp));
    }
  }
  for (const [code, [id, does]] of Object.entries(SHORTCUTS)) if (!plays(code)) keyLine(code, does).dataset.does = id;
  $("mouse-help").hidden = !hello.mouse;
  $("touch").hidden = !matchMedia("(pointer: coarse)").matches;
}

function keyLine(code, does) {
  const item = element("li", "", $("keys"));
  element("kbd", label(code), item);
  element("span", does, item);
  return item;
}

function tell(state, text) {
  $("state").dataset.state = state;
  put("state", text);
}

function veil(text, again) {
  put("veil-text", text);
  $("again").hidden = !again;
  $("veil").hidden = false;
  if (again) $("again").focus();
}

function enable(on) {
  for (const id of ["reset", "seed", "pause", "record"]) $(id).disabled = !on;
  showPause();
}

function showPause() {
  $("pause").setAttribute("aria-pressed", String(vidar.paused));
  put("pause", vidar.paused ? "Go on" : "Pause");
  $("step").disabled = !vidar.paused || !vidar.playing;
}

function press(id, act) {
  $(id).addEventListener("click", () => { act(); $("screen").focus({ preventScroll: true }); });
}

function begin(seed, start = vidar.start) {
  pending.length = 0;
  send({ t: "reset", seed, start });
}

function toggle(button, target) {
  press(button, () => {
    const on = $(button).getAttribute("aria-pressed") !== "true";
    $(button).setAttribute("aria-pressed", String(on));
    $(target).style.display = on ? (target === "help" ? "block" : "") : "none";
  });
}

// a key does what its button does, where the world has no use for it
const SHORTCUTS = {
  Backspace: ["reset", "again"], Enter: ["seed", "new seed"], KeyP: ["pause", "pause"], KeyN: ["step", "one frame"],
  KeyR: ["record", "record"],
};

window.addEventListener("keydown", (event) => {
  const shortcut = SHORTCUTS[event.code];
  if (!shortcut || plays(event.code) || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest && event.target.closest("button") && event.code === "Enter") return;
  event.preventDefault();
  $(shortcut[0]).click();
});

press("reset", () => begin(vidar.seed));
press("seed", () => begin(Math.floor(Math.random() * 2 ** 31)));
press("pause", () => {
  vidar.paused = !vidar.paused;
  pending.length = 0;
  send({ t: "pause", on: vidar.paused });
  showPause();
});
press("step", () => send({ t: "step" }));
press("record", toggleRecording);
press("again", () => { tries = 0; $("veil").hidden = true; connect(); });
onStart((start) => { begin(vidar.seed, start); $("screen").focus({ preventScroll: true }); });
toggle("figures-button", "figures");
toggle("help-button", "help");
if (matchMedia("(pointer: coarse)").matches) $("help-button").setAttribute("aria-pressed", "false");

enable(false);
setInterval(() => { figures(); tick(); }, 500);
setInterval(() => send({ t: "ping", at: performance.now() }), 10000);
connect();
