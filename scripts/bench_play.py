"""`vidar play` with a real headless Chromium that holds keys: first free running, then at the world's own rate.

    python scripts/bench_play.py [MODEL] [SECONDS] [OPTION of vidar play ...]

For each: frames per second made by the server and painted by the page, over SECONDS (60); the share of late frames
from /metrics; and the time from a key event in the page to the first painted frame that echoes it, p50 and p95, with
the frame period for comparison. A key is pressed or released every 0.4 seconds: left, right and forward in turn.
"""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from screenshot_play import WAIT, Page, opened

import vidar
from vidar.eval.provenance import hardware

KEYS, HOLD = ("ArrowLeft", "ArrowUp", "ArrowRight"), 0.4
CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}


def metric(url: str, name: str) -> float:
    """One value of /metrics."""
    text = urllib.request.urlopen(f"{url.rstrip('/')}/metrics", timeout=WAIT).read().decode()
    found = re.search(rf"^vidar_play_{name}(?:_total)? ([0-9.e+-]+)$", text, re.M)
    if found is None:
        raise SystemExit(f"bench_play: /metrics has no {name}:\n{text}")
    return float(found.group(1))


def press(page: Page, seconds: float) -> None:
    """Press keys one after another, each for HOLD seconds."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        key = KEYS[number % len(KEYS)]
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, code=key, key=key, windowsVirtualKeyCode=CODES[key])
            time.sleep(HOLD)
        number += 1


def measured(model: str, seconds: float, *options: str) -> str:
    """One line of figures for one server and one page."""
    with opened(model, *options) as (page, url):
        page.call("Page.navigate", url=url)
        page.until("window.vidar && vidar.playing && vidar.frames > 2")
        press(page, 5.0)  # warm-up
        page.value("vidar.latencies.length = 0")
        start, made, painted = time.monotonic(), metric(url, "frames"), page.value("vidar.frames")
        press(page, seconds)
        spent = time.monotonic() - start
        made, painted = metric(url, "frames") - made, page.value("vidar.frames") - painted
        late, echo = metric(url, "late"), np.array(page.value("vidar.latencies"))
    p50, p95 = np.percentile(echo, (50, 95))
    return (
        f"{made / spent:5.1f} made and {painted / spent:5.1f} painted a second, {spent:.0f} s; late {100 * late:.2f} % "
        f"of the latest; key to painted echo p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(echo)} keys)"
    )


def main(model: str = "doom", seconds: str = "60", *options: str) -> None:
    """Print both lines."""
    fps = vidar.load(model).config.fps
    told = " ".join((Path(model).name, *options))
    print(f"{hardware('cpu')}; {told}, {fps:g} frames/s, a period is {1000 / fps:.0f} ms")
    print("free:", measured(model, float(seconds), "--fps", "0", *options), flush=True)
    print("paced:", measured(model, float(seconds), *options))


if __name__ == "__main__":
    main(*sys.argv[1:])
