// Input: a key is held while anybody holds it, motion is summed up between two messages.
import { $, vidar, pending, send } from "./state.js";

const KEEP = 400;
const STICK = 0.4, DEAD = 0.15, LOOK_SPEED = 840;    // of a gamepad: shares of the way, pixels a second
const TOUCH_SPEED = 2;                               // pixels of motion for one under the finger
const GAP = 15;                                      // ms between two messages of motion: fewer than the server allows
const screen = $("screen");

let bits = new Map();                         // event.code -> bit
const holders = new Map();                    // event.code -> who holds it: "key", "touch", "pad"
let dx = 0, dy = 0, sent = 0, polled = 0;

export function setKeys(keys) {
  bits = new Map(keys.map((key, bit) => [key.code, bit]));
  holders.clear();
  vidar.mask = 0;
}

export const plays = (code) => bits.has(code);

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

function letGo(who, at) { for (const code of holders.keys()) hold(code, who, false, at); }

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

// ---- keyboard

window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !bits.has(event.code)) return;
  if (event.target.closest && event.target.closest("button") && ["Space", "Enter"].includes(event.code)) return;
  event.preventDefault();
  if (!event.repeat) hold(event.code, "key", true, event.timeStamp);
});
window.addEventListener("keyup", (event) => {
  if (event.key === "Meta") letGo("key", event.timeStamp);  // while it is down, some systems keep other keyups back
  else hold(event.code, "key", false, event.timeStamp);
});
window.addEventListener("blur", release);
document.addEventListener("visibilitychange", release);
window.addEventListener("contextmenu", (event) => { if (event.target.closest("#stage")) event.preventDefault(); });

// ---- mouse and finger

screen.addEventListener("click", async (event) => {
  screen.focus();
  if (!looks() || event.pointerType === "touch" || document.pointerLockElement === screen) return;
  if (!screen.requestPointerLock) return;
  try { await screen.requestPointerLock({ unadjustedMovement: true }); }
  catch { try { await screen.requestPointerLock(); } catch { /* not allowed here: keys still work */ } }
});
document.addEventListener("mousemove", (event) => {
  if (document.pointerLockElement !== screen || !looks()) return;
  dx += event.movementX;
  dy += event.movementY;
});
document.addEventListener("pointerlockchange", () => { if (document.pointerLockElement !== screen) dx = dy = 0; });

let finger = null;                            // the one that looks around: its id and where it was

screen.addEventListener("pointerdown", (event) => {
  if (event.pointerType !== "touch" || finger || !looks()) return;
  finger = { id: event.pointerId, x: event.clientX, y: event.clientY };
  screen.setPointerCapture(event.pointerId);
});
screen.addEventListener("pointermove", (event) => {
  if (!finger || event.pointerId !== finger.id) return;
  dx += TOUCH_SPEED * (event.clientX - finger.x);
  dy += TOUCH_SPEED * (event.clientY - finger.y);
  [finger.x, finger.y] = [event.clientX, event.clientY];
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  screen.addEventListener(end, (event) => { if (finger && event.pointerId === finger.id) finger = null; });
}

// ---- gamepad

const PAD = [["ArrowUp", 12], ["ArrowDown", 13], ["ArrowLeft", 14], ["ArrowRight", 15]];

function gamepad(at, seconds) {
  const pads = navigator.getGamepads ? [...navigator.getGamepads()].filter((pad) => pad && pad.connected) : [];
  const pad = pads.find((one) => one.mapping === "standard") || pads[0];
  if (!pad) return letGo("pad", at);
  const [x = 0, y = 0, lookX = 0, lookY = 0] = pad.axes;
  const pushed = (button) => Boolean(pad.buttons[button] && pad.buttons[button].pressed);
  const stick = { ArrowUp: y < -STICK, ArrowDown: y > STICK, ArrowLeft: x < -STICK, ArrowRight: x > STICK };
  for (const [code, button] of PAD) hold(code, "pad", pushed(button) || stick[code], at);
  [...bits.keys()].filter((code) => !code.startsWith("Arrow")).slice(0, 8).forEach((code, n) => hold(code, "pad", pushed(n), at));
  if (looks()) {
    dx += Math.abs(lookX) > DEAD ? lookX * LOOK_SPEED * seconds : 0;
    dy += Math.abs(lookY) > DEAD ? lookY * LOOK_SPEED * seconds : 0;
  }
}

function poll(at) {
  gamepad(at, Math.min(0.05, (at - polled) / 1000));
  polled = at;
  if ((dx || dy) && performance.now() - sent >= GAP) changed(at);
  requestAnimationFrame(poll);
}

requestAnimationFrame(poll);
