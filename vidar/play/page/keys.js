// The list of keys: what each one does, named as on the keyboard that is there.
import { $, element, put } from "./state.js";
import { hold, plays } from "./input.js";

export const ARROWS = { ArrowUp: "\u2191", ArrowDown: "\u2193", ArrowLeft: "\u2190", ArrowRight: "\u2192" };
const NAMES = {
  ...ARROWS, Backspace: "\u232b", Enter: "\u21b5", ShiftLeft: "Shift", ShiftRight: "right Shift", ControlLeft: "Ctrl",
  ControlRight: "right Ctrl", AltLeft: "Alt", AltRight: "right Alt", MetaLeft: "Cmd or Win", Escape: "Esc", Minus: "-",
  Equal: "=", BracketLeft: "[", BracketRight: "]", Backslash: "\\", Semicolon: ";", Quote: "'", Backquote: "`",
  Comma: ",", Period: ".", Slash: "/", MouseLeft: "left button", MouseMiddle: "middle button",
  MouseRight: "right button", MouseBack: "back button", MouseForward: "forward button",
};
const layout = new Map();                     // of the user's keyboard, as far as known: code -> what is printed on it

export const label = (code) => layout.get(code) || NAMES[code] || code.replace(/^(Key|Digit)/, "");
const words = (action) => action.toLowerCase().replaceAll("_", " ");

// shortcuts: code -> [what it does, the button that does it]; those that the world has a use for are left out
export function legend(hello, shortcuts) {
  for (const id of ["keys", "pad-left", "pad-right"]) $(id).replaceChildren();
  const touched = new Set();
  for (const { code, action } of hello.keys) {
    keyLine(code, words(action)).dataset.code = code;
    if (touched.has(action)) continue;
    touched.add(action);
    touchButton(code, words(action));
  }
  for (const [code, [id, does]] of Object.entries(shortcuts)) if (!plays(code)) keyLine(code, does).dataset.does = id;
  $("mouse-help").hidden = !hello.mouse;
  const fingers = matchMedia("(pointer: coarse)").matches;
  $("touch").hidden = !fingers;
  if (fingers && hello.mouse) {
    for (const id of ["mouse-how", "told"]) put(id, "Move a finger over the picture to look around.");
  }
  const kept = ["Control", "Alt", "Meta"].filter((name) => plays(`${name}Left`) || plays(`${name}Right`));
  $("browser-keys").hidden = !kept.length;
  $("browser-keys").textContent = `This world uses ${kept.map((name) => label(`${name}Left`)).join(", ")}: the browser`
    + " keeps some shortcuts for itself, such as Ctrl+W, which closes this page. In full screen, Chrome and Edge leave"
    + " them to the world.";
  relabel();
}

function keyLine(code, does) {
  const item = element("li", "", $("keys"));
  element("kbd", label(code), item).dataset.key = code;
  element("span", does, item);
  return item;
}

function touchButton(code, does) {
  const arrow = ARROWS[code];
  const button = element("button", arrow || does, arrow ? $("pad-left") : $("pad-right"));
  button.type = "button";
  button.dataset.code = code;
  button.setAttribute("aria-label", does);
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

// Keys are bound by their position, so an AZERTY keyboard has Z where the world says W.
async function relabel() {
  try {
    for (const [code, sign] of await navigator.keyboard.getLayoutMap()) layout.set(code, sign.toUpperCase());
  } catch { return; }                         // this browser does not tell; key presses do
  show();
}

window.addEventListener("keydown", (event) => {
  if (event.key.length !== 1 || event.key === " " || event.shiftKey || event.ctrlKey || event.altKey) return;
  layout.set(event.code, event.key.toUpperCase());
  show();
});

function show() {
  for (const key of document.querySelectorAll("[data-key]")) {
    const text = label(key.dataset.key);
    if (key.textContent !== text) key.textContent = text;
  }
}
