"""The page of a batch: index.html, one card per video. It needs no network and no server, and links relatively."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from vidar.data.atomic import replacing
from vidar.synth.jobs import PAGE
from vidar.synth.manifest import DONE, FAILED, RUNNING, WAITING, Manifest

STATES = RUNNING, WAITING, FAILED, DONE
PERIOD = 5.0  # seconds between two versions of the page while videos are made

SORTS = {"place": "order of the jobs", "id": "id", "state": "state", "seed": "seed", "length": "length"}

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --text: #777; --bad: #c33; --good: #2a7d46; }
body { margin: 0 auto; max-width: 1400px; padding: 16px; font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 22px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; color: var(--text); overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-bottom: 16px; }
nav button { min-height: 44px; padding: 0 14px; font: inherit; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: 8px; cursor: pointer; }
nav button[aria-pressed=true] { border-color: currentColor; font-weight: 600; }
main { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); }
article { display: flex; flex-direction: column; gap: 8px; min-width: 0; padding: 12px;
  border: 1px solid var(--line); border-radius: 10px; }
article header { display: flex; gap: 8px; justify-content: space-between; align-items: baseline; }
h2 { margin: 0; font-size: 16px; overflow-wrap: anywhere; }
video, .empty { width: 100%; aspect-ratio: var(--shape); background: #111; border-radius: 6px; }
video { object-fit: cover; object-position: left; }
video.on { object-fit: contain; object-position: center; }
.empty { display: grid; place-items: center; color: #ccc; }
img { display: block; width: 100%; height: auto; border-radius: 4px; }
a img { background: #fff; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 10px; margin: 0; font-size: 14px; }
dt { color: var(--text); }
dd { margin: 0; overflow-wrap: anywhere; }
.done { color: var(--good); } .failed { color: var(--bad); }
progress { width: 100%; }
"""

SCRIPT = """
const list = document.querySelector('main'), buttons = [...document.querySelectorAll('nav button')];
const videos = [...document.querySelectorAll('video')];
function sort(by) {
  const compare = (a, b) => by === 'id' ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
  [...list.children].sort((a, b) => compare(a.dataset[by], b.dataset[by])).forEach((card) => list.append(card));
  buttons.forEach((button) => button.setAttribute('aria-pressed', button.dataset.by === by));
}
const kept = new URLSearchParams(location.hash.slice(1)).get('sort');
if (buttons.some((button) => button.dataset.by === kept)) sort(kept);
buttons.forEach((button) => button.addEventListener('click', () => {
  sort(button.dataset.by);
  location.hash = 'sort=' + button.dataset.by;
}));
videos.forEach((video) => video.addEventListener('play', () => video.classList.add('on')));
if (document.body.className === 'growing') setInterval(() => {
  if (videos.every((video) => video.paused)) location.reload();
}, 10000);
"""

PAGE_HTML = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style:root { --shape: $shape; }
</style>
</head>
<body class="$growing">
<h1>$title</h1>
<p>$states. Made with $made.</p>
<nav aria-label="Sort the videos">Sort by $sorts</nav>
<main>
$cards</main>
<script>$script</script>
</body>
</html>
""")


class Page:
    """The page of the videos in a folder, kept up to date while they are made. shape: width and height of the world."""

    def __init__(self, manifest: Manifest, shape: tuple[int, int]) -> None:
        self.manifest, self.shape = manifest, shape
        self.frames: dict[str, int] = {}  # written frames of the videos in work, by id
        self._due = 0.0

    def grow(self, name: str, frames: int) -> None:
        """Note how many frames of a video are written; write the page if the last version is PERIOD seconds old."""
        self.frames[name] = frames
        if time.monotonic() >= self._due:
            self.write(running=True)

    def write(self, running: bool) -> None:
        """Write the page. running: whether videos are being made. Raises VidarError if the disk refuses."""
        text = page(self.manifest.content(), dict(self.frames), self.shape, running)
        with replacing(self.manifest.file.parent / PAGE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._due = time.monotonic() + PERIOD


def page(content: Mapping[str, Any], frames: Mapping[str, int], shape: tuple[int, int], running: bool) -> str:
    """The page as HTML. content: of a manifest; frames: written frames of unfinished videos, by id."""
    jobs, fps = content["jobs"], content["fps"]
    count = {state: sum(job["status"] == state for job in jobs) for state in STATES}
    sorts = (
        f'<button type="button" data-by="{by}" aria-pressed="{str(by == "place").lower()}">{text}</button>'
        for by, text in SORTS.items()
    )
    return PAGE_HTML.substitute(
        title=escape(f"{Path(str(content['model'])).name}: {len(jobs)} video{'' if len(jobs) == 1 else 's'}"),
        style=STYLE,
        shape=f"{shape[0]} / {shape[1]}",
        growing="growing" if running else "",
        states=", ".join(f"{number} {state}" for state, number in count.items() if number),
        made=escape(f"vidar {content['versions']['vidar']} on {content['device']}, {fps:g} frames per second"),
        sorts="\n".join(sorts),
        cards="".join(_card(job, place, frames, fps) for place, job in enumerate(jobs)),
        script=SCRIPT,
    )


def _card(job: Mapping[str, Any], place: int, frames: Mapping[str, int], fps: float) -> str:
    """One job: its video, the facts of it, its strip of pictures and its drift plot."""
    state, name = job["status"], job["id"]
    title = f"line {job['line']}" if name is None else str(name)
    total = job.get("frames")
    facts: dict[str, str] = {}
    if total is not None:
        facts["length"] = f"{total / fps:.1f} s, {total:,} frames"
    if job.get("seed") is not None:
        facts["seed"] = str(job["seed"])
    if job.get("context") is not None:
        facts["begins at"] = "/".join(Path(job["context"]).parts[-2:])
    if job["error"] is not None:
        facts["line"], facts["error"] = str(job["line"]), str(job["error"])
    listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    data = f'data-place="{place}" data-id="{escape(title)}" data-state="{STATES.index(state)}"'
    data += f' data-seed="{job.get("seed") or 0}" data-length="{total or 0}"'
    return (
        f'<article {data}>\n<header><h2>{escape(title)}</h2><span class="{state}">{state}</span></header>\n'
        f"{_picture(state, title, frames.get(title, 0), total)}<dl>{listed}</dl>\n"
        f"{_links(quote(title)) if state == DONE else ''}</article>\n"
    )


def _picture(state: str, name: str, written: int, total: int | None) -> str:
    """The video of a finished job; otherwise how far it has come."""
    file = quote(name)
    if state == DONE:
        return f'<video controls playsinline preload="none" poster="{file}.png" src="{file}.mp4"></video>\n'
    if state == FAILED:
        return ""
    if state != RUNNING or not total:
        return f'<div class="empty">{state}</div>\n'
    bar = f'<progress value="{written}" max="{total}"></progress>'
    return (
        f'<div class="empty">{written:,} of {total:,} frames</div>\n{bar}\n'
        f'<a href="{file}.parts/index.m3u8">what is there so far (HLS)</a>\n'
    )


def _links(file: str) -> str:
    """The strip, the drift plot and the side file of a finished video."""
    return (
        f'<img src="{file}.png" alt="Pictures from the whole video" loading="lazy">\n'
        f'<a href="{file}.drift.png"><img src="{file}.drift.png" loading="lazy" '
        'alt="Brightness, contrast and sharpness over time"></a>\n'
        f'<a href="{file}.json">how it was made (JSON)</a>\n'
    )
