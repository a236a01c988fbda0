"use strict";
// One page, one socket. Frames come in as binary messages (16 bytes of header, then a JPEG), all else is JSON.

const HEADER = 16, KEEP = 400, BACK_OFF = [500, 1000, 2000, 4000, 8000], FOR_GOOD = [1000, 1003, 1007, 1008, 1009, 4401];
const STICK = 0.4, DEAD = 0.15, LOOK_SPEED = 14;
const $ = (id) => document.getElementById(id);
const screen = $("screen"), context = screen.getContext("2d", { alpha: false });
context.imageSmoothingEnabled = true;

const vidar = {
  connected: false, playing: false, frames: 0, fps: 0, latencies: [], seq: 0, echo: 0, frame: 0, mask: 0,
  seed: null, seat: null, queue: 0, figures: {}, hello: null, connections: 0, closed: null,
};
window.vidar = vidar;

let socket = null, tries = 0, retry = 0, paused = false;
let next = null, newest = 0;                  // the bitmap to be painted, the number of the newest picture asked for
let bits = new Map();                         // event.code -> bit
const holders = new Map();                    // event.code -> who holds it: "key", "touch", "pad"
let dx = 0, dy = 0;
const pending = [];                           // [seq, time of the event] not answered by a painted frame yet
const painted = [];                           // times of the last frames

// ---- the socket

function connect() {
  clearTimeout(retry);
  const one = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/ws");
  one.binaryType = "arraybuffer";
  socket = one;
  tell("waiting", tries ? "reconnecting" : "connecting");
  one.onopen = () => {
    if (location.hash.length > 1) send({ t: "token", token: location.hash.slice(1, 65) });
    vidar.connected = true;
    vidar.connections += 1;
  };
  one.onmessage = (event) => {
    if (socket !== one) return;
    if (typeof event.data === "string") read(JSON.parse(event.data));
    else picture(event.data);
  };
  one.onclose = (event) => { if (socket === one) closed(event.code, event.reason); };
}

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function closed(code, reason) {
  vidar.connected = vidar.playing = false;
  vidar.closed = code;
  vidar.queue = 0;
  pending.length = 0;
  release();
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
  } else if (message.t === "seed") seeded(message.seed);
}

function greet(hello) {
  Object.assign(vidar, { hello, playing: true, seat: hello.seat, queue: 0, frame: 0, echo: 0 });
  tries = 0;
  newest = 0;
  paused = false;
  $("world").textContent = hello.world;
  document.title = `${hello.world} - vidar play`;
  screen.width = hello.width;
  screen.height = hello.height;
  screen.style.aspectRatio = `${hello.width} / ${hello.height}`;
  bits = new Map(hello.keys.map((key, bit) => [key.code, bit]));
  seeded(hello.seed);
  legend(hello);
  enable(true);
  showPause();
  tell("playing", hello.fps ? `playing at ${hello.fps.toFixed(1)} frames/s` : "playing");
  $("veil").hidden = true;
  release();
}

function seeded(seed) {
  vidar.seed = seed;
  put("f-seed", String(seed));
}

// ---- pictures

async function picture(data) {
  const header = new DataView(data, 0, HEADER);
  if (header.getUint8(0) !== 1 || header.getUint8(1) !== 1) return;
  const number = ++newest, frame = header.getUint32(4), echo = header.getUint32(12);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }));
  } catch { return; }
  if (next && next.number > number) return bitmap.close();
  if (next) next.bitmap.close();
  else requestAnimationFrame(paint);
  next = { bitmap, number, frame, echo };
}

function paint(now) {
  const { bitmap, frame, echo } = next;
  next = null;
  context.drawImage(bitmap, 0, 0, screen.width, screen.height);
  bitmap.close();
  const at = performance.now();
  vidar.frames += 1;
  vidar.frame = frame;
  vidar.echo = echo;
  painted.push(at);
  while (painted.length > 2 && at - painted[0] > 2000) painted.shift();
  while (pending.length && pending[0][0] <= echo) {
    vidar.latencies.push(at - pending.shift()[1]);
    if (vidar.latencies.length > KEEP) vidar.latencies.shift();
  }
}

function figures() {
  const now = performance.now();
  const recent = painted.filter((at) => now - at < 2000);
  const span = recent.length > 1 ? recent[recent.length - 1] - recent[0] : 0;
  vidar.fps = span > 0 ? (1000 * (recent.length - 1)) / span : 0;
  put("f-fps", vidar.fps ? vidar.fps.toFixed(1) : "-");
  put("f-frame", String(vidar.frame));
  const sorted = [...vidar.latencies].sort((a, b) => a - b);
  const at = (q) => sorted.length ? `${Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))])} ms` : "-";
  put("f-p50", at(0.5));
  put("f-p95", at(0.95));
}

// ---- input: a key is held while anybody holds it

function hold(code, who, down, at) {
  if (!bits.has(code)) return;
  const by = holders.get(code) || new Set();
  if (by.has(who) === down) return;
  if (down) by.add(who); else by.delete(who);
  holders.set(code, by);
  changed(at);
}

function release() {
  for (const by of holders.values()) by.clear();
  dx = dy = 0;
  changed(performance.now());
}

function changed(at) {
  let mask = 0;
  for (const [code, by] of holders) if (by.size && bits.has(code)) mask += 2 ** bits.get(code);
  if (mask === vidar.mask && !dx && !dy) return;
  vidar.mask = mask;
  for (const shown of document.querySelectorAll("[data-code]")) {
    const by = holders.get(shown.dataset.code);
    shown.classList.toggle("held", Boolean(by && by.size));
  }
  input(at);
}

function input(at) {
  if (!vidar.playing) return;
  vidar.seq = (vidar.seq + 1) % 2 ** 32;
  const most = (v) => Math.max(-10000, Math.min(10000, v));
  send({ t: "input", seq: vidar.seq, keys: vidar.mask, dx: most(dx), dy: most(dy) });
  dx = dy = 0;
  if (!paused) pending.push([vidar.seq, at]);
  if (pending.length > KEEP) pending.shift();
}

window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !bits.has(event.code)) return;
  if (event.target.closest && event.target.closest("button") && ["Space", "Enter"].includes(event.code)) return;
  event.preventDefault();
  if (!event.repeat) hold(event.code, "key", true, event.timeStamp);
});
window.addEventListener("keyup", (event) => hold(event.code, "key", false, event.timeStamp));
window.addEventListener("blur", release);
document.addEventListener("visibilitychange", release);
window.addEventListener("contextmenu", (event) => { if (event.target.closest("#stage")) event.preventDefault(); });

screen.addEventListener("click", async () => {
  screen.focus();
  if (!vidar.hello || !vidar.hello.mouse || document.pointerLockElement === screen || !screen.requestPointerLock) return;
  try { await screen.requestPointerLock({ unadjustedMovement: true }); }
  catch { try { await screen.requestPointerLock(); } catch { /* not allowed here: keys still work */ } }
});
document.addEventListener("mousemove", (event) => {
  if (document.pointerLockElement !== screen) return;
  dx += event.movementX;
  dy += event.movementY;
});
document.addEventListener("pointerlockchange", () => { if (document.pointerLockElement !== screen) dx = dy = 0; });

const PAD = [["ArrowUp", 12], ["ArrowDown", 13], ["ArrowLeft", 14], ["ArrowRight", 15]];

function gamepad(at) {
  const pads = navigator.getGamepads ? [...navigator.getGamepads()].filter(Boolean) : [];
  const pad = pads[0];
  if (!pad) return;
  const [x = 0, y = 0, lookX = 0, lookY = 0] = pad.axes;
  const pushed = (button) => Boolean(pad.buttons[button] && pad.buttons[button].pressed);
  const stick = { ArrowUp: y < -STICK, ArrowDown: y > STICK, ArrowLeft: x < -STICK, ArrowRight: x > STICK };
  for (const [code, button] of PAD) hold(code, "pad", pushed(button) || stick[code], at);
  [...bits.keys()].filter((code) => !code.startsWith("Arrow")).slice(0, 8).forEach((code, n) => hold(code, "pad", pushed(n), at));
  if (vidar.hello && vidar.hello.mouse) {
    dx += Math.abs(lookX) > DEAD ? lookX * LOOK_SPEED : 0;
    dy += Math.abs(lookY) > DEAD ? lookY * LOOK_SPEED : 0;
  }
}

function poll(at) {
  gamepad(at);
  if (dx || dy) changed(at);
  requestAnimationFrame(poll);
}

// ---- the page around the picture

const ARROWS = { ArrowUp: "\u2191", ArrowDown: "\u2193", ArrowLeft: "\u2190", ArrowRight: "\u2192" };
const label = (code) => ARROWS[code] || code.replace(/^(Key|Digit)/, "");
const words = (action) => action.toLowerCase().replaceAll("_", " ");

function element(tag, text, into) {
  const made = document.createElement(tag);
  made.textContent = text;
  into.append(made);
  return made;
}

function legend(hello) {
  $("keys").replaceChildren();
  $("pad-left").replaceChildren();
  $("pad-right").replaceChildren();
  const touched = new Set();
  for (const { code, action } of hello.keys) {
    const line = element("li", "", $("keys"));
    line.dataset.code = code;
    element("kbd", label(code), line);
    element("span", words(action), line);
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
  $("mouse-help").hidden = !hello.mouse;
  $("touch").hidden = !matchMedia("(pointer: coarse)").matches;
}

function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

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

function enable(on) { for (const id of ["reset", "seed", "pause"]) $(id).disabled = !on; showPause(); }

function showPause() {
  $("pause").setAttribute("aria-pressed", String(paused));
  put("pause", paused ? "Go on" : "Pause");
  $("step").disabled = !paused || !vidar.playing;
}

function press(id, act) {
  $(id).addEventListener("click", () => { act(); screen.focus({ preventScroll: true }); });
}

function begin(seed) {
  pending.length = 0;
  send({ t: "reset", seed });
}

function toggle(button, target) {
  press(button, () => {
    const on = $(button).getAttribute("aria-pressed") !== "true";
    $(button).setAttribute("aria-pressed", String(on));
    $(target).style.display = on ? (target === "help" ? "block" : "") : "none";
  });
}

press("reset", () => begin(vidar.seed));
press("seed", () => begin(Math.floor(Math.random() * 2 ** 31)));
press("pause", () => {
  paused = !paused;
  pending.length = 0;
  send({ t: "pause", on: paused });
  showPause();
});
press("step", () => send({ t: "step" }));
press("again", () => { tries = 0; $("veil").hidden = true; connect(); });
toggle("figures-button", "figures");
toggle("help-button", "help");
if (matchMedia("(pointer: coarse)").matches) $("help-button").setAttribute("aria-pressed", "false");

enable(false);
setInterval(figures, 500);
setInterval(() => send({ t: "ping", at: performance.now() }), 10000);
requestAnimationFrame(poll);
connect();
