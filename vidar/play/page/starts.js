// The gallery: small pictures of the places where a dream may begin.
import { $, vidar, element } from "./state.js";

let chosen = () => {};
export function onStart(act) { chosen = act; }

export function emptyStarts(count) {
  $("starts").hidden = count < 2;
  $("starts").replaceChildren();
  vidar.starts = 0;
}

export async function startPicture(number, count, jpeg) {
  const list = $("starts");
  while (list.children.length < count) {
    const mine = list.children.length, button = element("button", "", list);
    button.type = "button";
    button.setAttribute("aria-label", `Begin at place ${mine + 1}`);
    element("canvas", "", button);
    button.addEventListener("click", () => chosen(mine));
  }
  markStart();
  const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  const canvas = list.children[number].querySelector("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  vidar.starts += 1;
}

export function markStart() {
  [...$("starts").children].forEach((button, n) => button.setAttribute("aria-pressed", String(n === vidar.start)));
}
