// Input: a key is held while anybody holds it, motion is summed up between two messages.
import { $, vidar, pending, put, send } from "./state.js";

const KEEP = 400;
const STICK = 0.4, DEAD = 0.15, LOOK_SPEED = 840;    // of a gamepad: shares of the way, pixels a second
const TOUCH_SPEED = 2;                               // pixels of motion for one under the finger
const GAP = 15;                                      // ms between two messages of motion: fewer than the server allows
const FLAGS = { ctrlKey: "Control", altKey: "Alt", metaKey: "Meta" };  // Shift makes no shortcuts of a browser
const BUTTONS = { MouseLeft: 1, MouseRight: 2, MouseMiddle: 4, MouseBack: 8, MouseForward: 16 };  // in event.buttons
const screen = $("screen");

let bits = new Map();                         // event.code -> bit
const holders = new Map();                    // event.code -> who holds it: "key CODE", "mouse", "touch", "pad"
let dx = 0, dy = 0, sent = 0, polled = 0;
let away = false;                             // the user is elsewhere: a gamepad goes on telling of its buttons

export function setKeys(keys) {
  bits = new Map(keys.map((key, bit) => [key.code, bit]));
  holders.clear();
  vidar.mask = 0;
}

// The key of the world that a key of the keyboard stands for: itself, or of a pair of modifiers the left one.
function bound(code) {
  if (bits.has(code)) return code;
  const twin = code.replace(/^(Shift|Control|Alt|Meta)Right$/, "$1Left");
  return bits.has(twin) ? twin : null;
}

export const plays = (code) => bound(code) !== null;

export function hold(code, who, down, at) {
  if (!bits.has(code)) return;
  const by = holders.get(code) || new Set();
  if (by.has(who) === down) return;
  if (down) by.add(who); else by.delete(who);
  holders.set(code, by);
  changed(at);
}

export function release() {
  for (const by of holders.values()) by.clear();
  dx = dy = 0;
  changed(performance.now());
}

function letGo(kind, at) {
  for (const [code, by] of holders) for (const who of [...by]) if (who.startsWith(kind)) hold(code, who, false, at);
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
  sent = performance.now();
  if (!vidar.paused) pending.push([vidar.seq, at]);
  if (pending.length > KEEP) pending.shift();
}

const looks = () => Boolean(vidar.playing && vidar.hello && vidar.hello.mouse);

function move(x, y) {
  if (vidar.paused || !looks()) return;       // a paused dream takes no motion, also not afterwards
  dx += x;
  dy += y;
}

// ---- keyboard

// With a modifier that the world does not use, a key belongs to the browser.
const foreign = (event) => Object.entries(FLAGS).some(([flag, name]) => event[flag] && !plays(`${name}Left`) && !plays(`${name}Right`));

window.addEventListener("keydown", (event) => {
  const code = bound(event.code);
  if (code === null || foreign(event) || !document.hasFocus()) return;
  if (event.target.closest && event.target.closest("button") && ["Space", "Enter"].includes(event.code)) return;
  event.preventDefault();
  if (!event.repeat) hold(code, `key ${event.code}`, true, event.timeStamp);
});
window.addEventListener("keyup", (event) => {
  const code = bound(event.code);
  if (code !== null && !foreign(event)) event.preventDefault();  // Alt by itself would open a menu
  if (event.key === "Meta") letGo("key", event.timeStamp);  // while it is down, some systems keep other keyups back
  else if (code !== null) hold(code, `key ${event.code}`, false, event.timeStamp);
});
window.addEventListener("blur", () => leave(true));
window.addEventListener("focus", () => { away = false; });
window.addEventListener("pagehide", release);
document.addEventListener("visibilitychange", () => leave(document.hidden));

function leave(on) {
  away = on;
  release();
}

window.addEventListener("contextmenu", (event) => { if (event.target.closest("#stage")) event.preventDefault(); });
window.addEventListener("beforeunload", (event) => {  // Ctrl+W, pressed to run forward
  if ([...holders].some(([code, by]) => by.size && /^(Control|Meta)/.test(code))) event.preventDefault();
});

// ---- mouse and finger

const locked = () => document.pointerLockElement === screen;

screen.addEventListener("click", async (event) => {
  screen.focus();
  if (!looks() || event.pointerType === "touch" || locked() || !screen.requestPointerLock) return;
  try { await screen.requestPointerLock({ unadjustedMovement: true }); }
  catch { try { await screen.requestPointerLock(); } catch { /* not allowed here: keys still work */ } }
});
document.addEventListener("mousemove", (event) => {
  letUp(event);
  if (locked()) move(vidar.sensitivity * event.movementX, vidar.sensitivity * event.movementY);
});
document.addEventListener("pointerlockchange", () => { if (!locked()) release(); });

// Buttons act on the picture; where the mouse looks around, only after a click has given it to the page.
screen.addEventListener("mousedown", (event) => {
  if (looks() && screen.requestPointerLock && !locked()) return;
  for (const [code, flag] of Object.entries(BUTTONS)) if (event.buttons & flag) hold(code, "mouse", true, event.timeStamp);
  if (event.button > 0) event.preventDefault();
});
window.addEventListener("mouseup", (event) => {
  letUp(event);
  if (event.button > 2 && plays("MouseBack")) event.preventDefault();
});

function letUp(event) {
  for (const [code, flag] of Object.entries(BUTTONS)) if (!(event.buttons & flag)) hold(code, "mouse", false, event.timeStamp);
}

let finger = null;                            // the one that looks around: its id and where it was

screen.addEventListener("pointerdown", (event) => {
  if (event.pointerType !== "touch" || finger || !looks()) return;
  finger = { id: event.pointerId, x: event.clientX, y: event.clientY };
  screen.setPointerCapture(event.pointerId);
});
screen.addEventListener("pointermove", (event) => {
  if (!finger || event.pointerId !== finger.id) return;
  const turn = TOUCH_SPEED * vidar.sensitivity;
  move(turn * (event.clientX - finger.x), turn * (event.clientY - finger.y));
  [finger.x, finger.y] = [event.clientX, event.clientY];
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  screen.addEventListener(end, (event) => { if (finger && event.pointerId === finger.id) finger = null; });
}

const STORED = "vidar.sensitivity";

function sensitivity(value) {
  vidar.sensitivity = value;
  showSensitivity();
}

export function showSensitivity() {
  const degrees = (vidar.hello ? vidar.hello.degrees : 0) * vidar.sensitivity;
  put("degrees", `${degrees.toFixed(3).replace(/0$/, "")}\u00b0 per count`);
}

$("sensitivity").addEventListener("input", (event) => {
  sensitivity(Number(event.target.value));
  try { localStorage.setItem(STORED, String(vidar.sensitivity)); } catch { /* not kept, then */ }
});
$("sensitivity").addEventListener("change", () => screen.focus({ preventScroll: true }));
try { $("sensitivity").value = localStorage.getItem(STORED) || "1"; } catch { /* nothing is kept */ }
sensitivity(Number($("sensitivity").value));

// ---- gamepad

const PAD = [["ArrowUp", 12], ["ArrowDown", 13], ["ArrowLeft", 14], ["ArrowRight", 15]];

function gamepad(at, seconds) {
  const pads = navigator.getGamepads ? [...navigator.getGamepads()].filter((pad) => pad && pad.connected) : [];
  const pad = pads.find((one) => one.mapping === "standard") || pads[0];
  if (!pad || away) return letGo("pad", at);
  const [x = 0, y = 0, lookX = 0, lookY = 0] = pad.axes;
  const pushed = (button) => Boolean(pad.buttons[button] && pad.buttons[button].pressed);
  const stick = { ArrowUp: y < -STICK, ArrowDown: y > STICK, ArrowLeft: x < -STICK, ArrowRight: x > STICK };
  for (const [code, button] of PAD) hold(code, "pad", pushed(button) || stick[code], at);
  [...bits.keys()].filter((code) => !code.startsWith("Arrow")).slice(0, 8).forEach((code, n) => hold(code, "pad", pushed(n), at));
  const turn = (way) => (Math.abs(way) > DEAD ? way * LOOK_SPEED * vidar.sensitivity * seconds : 0);
  move(turn(lookX), turn(lookY));
}

function poll(at) {
  gamepad(at, Math.min(0.05, (at - polled) / 1000));
  polled = at;
  if ((dx || dy) && performance.now() - sent >= GAP) changed(at);
  requestAnimationFrame(poll);
}

requestAnimationFrame(poll);
