// The map of what the world remembers, seen from above: walls, the places of the pictures it keeps, and the player.
import { $, vidar } from "./state.js";

const LEAST = 160, MOST = 640;                // map units from the middle to an edge, and from the player to what counts
const EASE = 0.35;                            // share of the way that the view moves towards what is known, each time
const LOOK = Math.PI / 4, FAR = 70;           // of the player's view: half its angle, and how far it is drawn, in map units
const COLOURS = { wall: "#e6ebf2", view: "#5ad1b2", you: "#f0b35a", cone: "#f0b35a38" };
const canvas = $("map-picture"), context = canvas.getContext("2d");

let view = null;                              // what the map shows: its middle and half its side, in map units

export function forgetMap() {
  vidar.chart = view = null;
  $("map").hidden = $("map-button").hidden = !(vidar.hello && vidar.hello.map);
}

export function showMap(chart) {
  vidar.chart = chart;
  vidar.charts += 1;
  aim(chart);
  draw();
}

const groups = (numbers, size) => Array.from({ length: numbers.length / size }, (_, n) => numbers.slice(n * size, (n + 1) * size));

// Move towards a view of all walls that are not too far away, and of the player.
function aim({ pose, walls, cell }) {
  const near = groups(walls, 2).filter(([x, y]) => Math.abs(x - pose[0]) < MOST && Math.abs(y - pose[1]) < MOST);
  const spans = [0, 1].map((axis) => {
    const all = [pose[axis] - 2 * cell, pose[axis] + 2 * cell, ...near.flatMap((at) => [at[axis], at[axis] + cell])];
    return [Math.min(...all), Math.max(...all)];
  });
  const wanted = {
    x: (spans[0][0] + spans[0][1]) / 2, y: (spans[1][0] + spans[1][1]) / 2,
    half: Math.max(LEAST, 1.08 * Math.max(...spans.map(([low, high]) => (high - low) / 2))),
  };
  if (!view) view = wanted;
  for (const name of Object.keys(view)) view[name] += EASE * (wanted[name] - view[name]);
}

function draw() {
  const side = Math.round(canvas.clientWidth * devicePixelRatio), chart = vidar.chart;
  if (!side || !chart) return;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const scale = side / (2 * view.half), dot = Math.max(1.5, side / 90);
  const place = (x, y) => [side / 2 + (x - view.x) * scale, side / 2 - (y - view.y) * scale];
  context.clearRect(0, 0, side, side);
  context.fillStyle = COLOURS.wall;
  const width = Math.ceil(Math.max(chart.cell * scale, 0.8 * dot));
  for (const [x, y] of groups(chart.walls, 2)) {
    const [left, low] = place(x, y);
    context.fillRect(Math.floor(left), Math.floor(low) - width, width, width);
  }
  context.fillStyle = COLOURS.view;
  for (const [x, y] of groups(chart.views, 3)) disc(...place(x, y), dot);
  player(...place(chart.pose[0], chart.pose[1]), -(chart.pose[2] * Math.PI) / 180, dot, FAR * scale);
}

function disc(x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// An arrow that points where the player looks, and the view before it.
function player(x, y, turn, dot, far) {
  context.save();
  context.translate(x, y);
  context.rotate(turn);
  context.fillStyle = COLOURS.cone;
  context.beginPath();
  context.moveTo(0, 0);
  context.arc(0, 0, Math.max(far, 9 * dot), -LOOK, LOOK);
  context.fill();
  context.fillStyle = COLOURS.you;
  context.strokeStyle = "#0b0e13";
  context.lineWidth = dot / 2;
  context.beginPath();
  for (const [ahead, left] of [[4.2, 0], [-3, 2.8], [-1.6, 0], [-3, -2.8]]) context.lineTo(ahead * dot, left * dot);
  context.closePath();
  context.stroke();
  context.fill();
  context.restore();
}

new ResizeObserver(draw).observe(canvas);
