// One page, one socket. Pictures come in as binary messages (16 bytes of header, then JPEG or H.264), all else is JSON.
import { $, vidar, pending, line, send, put, address } from "./state.js";
import { dream, game, figures } from "./pictures.js";
import { chooseCodec, codecTold, videoPicture } from "./codec.js";
import { setKeys, plays, release, showSensitivity } from "./input.js";
import { legend } from "./keys.js";
import { toggleRecording, forgetRecording, recordingTold, recordingDone, tick } from "./record.js";
import { showMap, forgetMap } from "./map.js";
import { onStart, emptyStarts, startPicture, markStart } from "./starts.js";

const HEADER = 16, DREAM = 1, START = 2, GAME = 3, VIDEO = 4, WATCHED = 5;
const KEY = 1;                                // flag of a picture of VIDEO that needs none before it
const BACK_OFF = [500, 1000, 2000, 4000, 8000], FOR_GOOD = [1000, 1003, 1007, 1008, 1009, 4401];
const STILL = 2000;                           // ms without a picture, and at least three periods, after which it says so

let tries = 0, retry = 0;

// ---- the socket

function connect() {
  clearTimeout(retry);
  const one = new WebSocket(address("ws").replace(/^http/, "ws"));
  let opened = false;
  one.binaryType = "arraybuffer";
  line.socket = one;
  tell("waiting", tries ? "reconnecting" : "connecting");
  one.onopen = () => {
    if (location.hash.length > 1) send({ t: "token", token: location.hash.slice(1, 65) });
    opened = vidar.connected = true;
    vidar.connections += 1;
  };
  one.onmessage = (event) => {
    if (line.socket !== one) return;
    if (typeof event.data === "string") read(JSON.parse(event.data));
    else picture(event.data);
  };
  one.onclose = async (event) => {
    if (line.socket !== one) return;
    const refused = opened ? "" : await knock();
    if (line.socket === one) closed(event.code, event.reason, refused);
  };
}

// Why the server does not let this page in, which a browser does not tell of a socket; "" where it would.
async function knock() {
  try {
    const answer = await fetch(address("door"), { method: "POST" });
    return answer.status === 403 ? await answer.text() : "";
  } catch { return ""; }
}

const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

function closed(code, reason, refused) {
  vidar.connected = vidar.playing = false;
  vidar.closed = code;
  vidar.queue = 0;
  pending.length = 0;
  release();
  forgetRecording();
  enable(false);
  if (refused || FOR_GOOD.includes(code)) {
    tell("ended", refused ? "refused" : "ended");
    put("again", refused ? "Try again" : "Play on");
    return veil(refused || (code === 4401
      ? "A token is needed. Open the address that vidar play has printed, with all that follows the #."
      : `The session has ended: ${reason || `code ${code}`}.`), true);
  }
  const wait = BACK_OFF[Math.min(tries, BACK_OFF.length - 1)] * (0.8 + 0.4 * Math.random());
  tries += 1;
  tell("waiting", code === 1013 ? "no place is free" : "reconnecting");
  veil(`${reason ? sentence(reason) : "No connection."} Trying again shortly.`, false);
  retry = setTimeout(connect, wait);
}

function read(message) {
  if (message.t === "hello") greet(message);
  else if (message.t === "queue") queued(message);
  else if (message.t === "figures") {
    vidar.figures = message;
    const tried = message.hits + message.misses;
    put("f-model", message.model_ms_p50 === undefined ? "-" : `${message.model_ms_p50.toFixed(1)} ms`);
    put("f-hits", tried ? `${Math.round((100 * message.hits) / tried)} %` : "-");
  } else if (message.t === "seed") begun(message);
  else if (message.t === "recording") recordingTold(message);
  else if (message.t === "recorded") recordingDone(message);
  else if (message.t === "codec") codecTold(message);
  else if (message.t === "chart") showMap(message);
  else if (message.t === "beside") put("game-label", `the real game: ${message.why}`);
}

function queued({ place, world, width, height }) {
  vidar.queue = place;
  called(world);
  dream.size(width, height);
  tell("waiting", `place ${place} in the queue`);
  veil(`All places are taken. You are number ${place} in the queue; this is the game of somebody who plays.`, false);
  $("veil").classList.add("queue");
}

function called(world) {
  put("world", world);
  document.title = `${world} - vidar play`;
}

function greet(hello) {
  Object.assign(vidar, { hello, playing: true, seat: hello.seat, queue: 0, frame: 0, echo: 0, paused: false, game: null });
  vidar.painted = performance.now();
  tries = 0;
  called(hello.world);
  for (const painter of [dream, game]) painter.size(hello.width, hello.height);
  $("game-figure").hidden = $("dream-label").hidden = !hello.beside;
  setKeys(hello.keys);
  emptyStarts(hello.starts);
  begun({ seed: hello.seed, start: 0 });
  if (hello.map) SHORTCUTS.KeyM = ["map-button", "map"];
  else delete SHORTCUTS.KeyM;
  legend(hello, SHORTCUTS);
  showSensitivity();
  enable(true);
  $("veil").hidden = true;
  release();
  chooseCodec(hello);
}

function begun({ seed, start }) {
  vidar.seed = seed;
  vidar.start = start;
  put("f-seed", String(seed));
  forgetMap();
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
  else if (kind === WATCHED && !vidar.playing) {
    vidar.watched += 1;
    dream.show(null, coded);
  }
}

// ---- the page around the picture

function tell(state, text) {
  $("state").dataset.state = state;
  put("state", text);
}

function veil(text, again) {
  $("veil").classList.remove("queue");
  put("veil-text", text);
  $("again").hidden = !again;
  $("veil").hidden = false;
  if (again) $("again").focus();
}

// Not what the page has asked for, but what happens.
function showState() {
  if (!vidar.playing) return;
  const still = performance.now() - vidar.painted > Math.max(STILL, vidar.hello.fps ? 3000 / vidar.hello.fps : 0);
  if (vidar.paused) tell("paused", "paused");
  else if (still && !document.hidden) tell("waiting", "waiting for pictures");
  else tell("playing", "playing");
}

function enable(on) {
  for (const id of ["reset", "seed", "pause", "record", "full"]) $(id).disabled = !on;
  showPause();
}

function showPause() {
  $("pause").setAttribute("aria-pressed", String(vidar.paused));
  put("pause", vidar.paused ? "Go on" : "Pause");
  $("step").disabled = !vidar.paused || !vidar.playing;
  showState();
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
  KeyR: ["record", "record"], KeyF: ["full", "full screen"],
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
  vidar.painted = performance.now();
  pending.length = 0;
  send({ t: "pause", on: vidar.paused });
  showPause();
});
press("step", () => send({ t: "step" }));
press("record", toggleRecording);
press("full", async () => {
  try {
    if (document.fullscreenElement) return await document.exitFullscreen();
    await $("stage").requestFullscreen();
    if (navigator.keyboard && navigator.keyboard.lock) await navigator.keyboard.lock(vidar.hello.keys.map((key) => key.code));
  } catch (error) { put("told", `No full screen: ${error.message}`); }
});
press("again", () => { tries = 0; $("veil").hidden = true; connect(); });
onStart((start) => { begin(vidar.seed, start); $("screen").focus({ preventScroll: true }); });
toggle("map-button", "map");
toggle("figures-button", "figures");
toggle("help-button", "help");
if (matchMedia("(pointer: coarse)").matches) $("help-button").setAttribute("aria-pressed", "false");

$("full").hidden = !document.fullscreenEnabled;
if (!document.fullscreenEnabled) delete SHORTCUTS.KeyF;

// A page that a browser keeps for the way back would keep its place, too.
window.addEventListener("pagehide", () => { line.socket.close(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

enable(false);
setInterval(() => { figures(); tick(); showState(); }, 500);
setInterval(() => send({ t: "ping", at: performance.now() }), 10000);
connect();
