// Recording: the server records the dream and offers a file, which is fetched once and handed to the browser.
import { $, vidar, address, put, send } from "./state.js";

let since = 0, seconds = 0;

export function toggleRecording() {
  if (vidar.playing) send({ t: "record", on: !vidar.recording });
}

function show(on) {
  vidar.recording = on;
  $("record").setAttribute("aria-pressed", String(on));
  tick();
}

export function tick() {
  const at = Math.floor((performance.now() - since) / 1000);
  put("record", vidar.recording ? `Stop ${Math.floor(at / 60)}:${String(at % 60).padStart(2, "0")}` : "Record");
}

export function forgetRecording() {
  if (vidar.recording) put("told", "The recording is lost: the session has ended.");
  show(false);
}

export function recordingTold(message) {
  if (message.on) {
    since = performance.now();
    seconds = message.seconds;
    put("told", `Recording this dream, at most ${Math.round(seconds)} s of it.`);
  } else put("told", `Nothing recorded: ${message.why}.`);
  show(message.on);
}

export async function recordingDone({ path, name, frames }) {
  show(false);
  put("told", `Fetching ${name}.`);
  try {
    const answer = await fetch(address(`.${path}`), { method: "POST", headers: { "X-Vidar-Session": vidar.hello.session } });
    if (!answer.ok) throw new Error(String(answer.status));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    vidar.recorded = { name, frames };
    put("told", `Saved ${name}: ${frames} frames, their actions, and the file for vidar replay.`);
  } catch (error) {
    put("told", `The recording could not be fetched (${error.message}).`);
  }
}
