// What all parts of the page share: the state that can be looked at, the socket, and the elements of the page.

export const $ = (id) => document.getElementById(id);

export const vidar = {
  connected: false, playing: false, paused: false, frames: 0, fps: 0, latencies: [], seq: 0, echo: 0, frame: 0, mask: 0,
  seed: null, start: 0, seat: null, queue: 0, watched: 0, painted: 0, figures: {}, hello: null, connections: 0,
  closed: null, game: null, starts: 0, recording: false, recorded: null, codec: null, chart: null,
  charts: 0, sensitivity: 1,
};
window.vidar = vidar;

export const pending = [];                    // [seq, time of the event] not answered by a painted frame yet
export const line = { socket: null };

export function send(message) {
  if (line.socket && line.socket.readyState === WebSocket.OPEN) line.socket.send(JSON.stringify(message));
}

// An address of the server, relative to the page: a proxy may have put the page under any path.
export const address = (path) => new URL(path, location.href).href;

export function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

export function element(tag, text, into) {
  const made = document.createElement(tag);
  made.textContent = text;
  into.append(made);
  return made;
}
