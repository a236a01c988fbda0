// How the dream's pictures are coded: JPEG, or H.264 where address or server ask for it and the browser decodes it.
import { vidar, put, send } from "./state.js";
import { dream } from "./pictures.js";

const NAMES = { jpeg: "JPEG", h264: "H.264" };
let decoder = null, chunks = 0;
const waiting = new Map();                    // time stamp of a chunk -> [its place among the pictures, its header]

const asked = () => new URLSearchParams(location.search).get("codec");
const settings = (hello) => ({ codec: hello.h264, optimizeForLatency: true });

// A session begins with JPEG; afterwards it may be asked for the other.
export async function chooseCodec(hello) {
  use("jpeg");
  const wanted = asked() ?? hello.codec;
  if (!Object.hasOwn(NAMES, wanted)) return put("told", `No codec is called "${wanted}": the pictures are JPEG.`);
  if (wanted !== "h264") return;
  const why = await lacking(hello);
  if (vidar.hello !== hello) return;          // it is another session's by now
  if (why) stay(why);
  else send({ t: "codec", codec: "h264" });
}

async function lacking(hello) {
  if (!hello.h264) return "this server has no encoder for it";
  if (!isSecureContext) return "browsers decode it only over https, or on the machine of the server";
  if (!window.VideoDecoder) return "this browser has no VideoDecoder";
  try {
    if ((await VideoDecoder.isConfigSupported(settings(hello))).supported) return "";
  } catch { /* not even a question that it knows */ }
  return "this browser does not decode it";
}

function stay(why) { put("told", `No H.264: ${why}. The pictures are JPEG.`); }

export function codecTold({ codec, why }) {
  if (why) stay(why);
  use(codec);
}

// The server has said what comes from now on.
function use(codec) {
  if (decoder && decoder.state !== "closed") decoder.close();
  decoder = null;
  waiting.clear();
  vidar.codec = codec;
  put("f-codec", NAMES[codec]);
  if (codec !== "h264") return;
  const one = new VideoDecoder({ output: (frame) => decoded(one, frame), error: (error) => failed(one, error) });
  decoder = one;
  attempt(() => one.configure(settings(vidar.hello)));
}

export function videoPicture(header, data, key) {
  if (!decoder) return;
  const timestamp = chunks++;
  waiting.set(timestamp, [dream.place(), header]);
  attempt(() => decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data })));
}

function attempt(act) {
  try { act(); } catch (error) { failed(decoder, error); }
}

function decoded(one, frame) {
  const found = waiting.get(frame.timestamp);
  waiting.delete(frame.timestamp);
  if (one !== decoder || !found) return frame.close();
  const { width, height } = dream.canvas;     // odd sides are padded
  dream.offer(...found, frame, width, height);
}

function failed(one, error) {
  if (one !== decoder) return;
  use("jpeg");
  send({ t: "codec", codec: "jpeg" });
  stay(`it could not be decoded (${error.message})`);
}
