"""A screenshot of `vidar play` in headless Chromium, 1280 x 800, with a key held for a second.

    python scripts/screenshot_play.py OUT.png [MODEL] [KEY]

MODEL: by default doom. KEY: a KeyboardEvent.code, by default ArrowLeft.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidar.data.atomic import check_output, replacing
from vidar.types import VidarError

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
SIZE = {"width": 1280, "height": 800}
WAIT, HELD = 60.0, 1.0  # seconds: to wait for anything, to hold the key


class Page:
    """One page, controlled through its DevTools socket (by the `websockets` package)."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.count = socket, 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=WAIT))
            if answer.get("id") == self.count:
                return answer["result"]

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true. Raises TimeoutError."""
        end = time.monotonic() + WAIT
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)


def served(model: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`vidar play` on a free port of this machine, and its address."""
    command = [sys.executable, "-m", "vidar.cli", "play", model, "--port", "0", *options]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    found = re.search(r"http://\S+", running.stdout.readline())
    if found is None:
        raise SystemExit("screenshot_play: vidar play did not start")
    return running, found.group()


def browser(folder: str) -> tuple[subprocess.Popen[bytes], int]:
    """Chromium, and the port of its DevTools."""
    command = [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file, end = Path(folder) / "DevToolsActivePort", time.monotonic() + WAIT
    while not (file.is_file() and file.read_text().count("\n")):
        if time.monotonic() > end or running.poll() is not None:
            raise SystemExit("screenshot_play: chromium did not start")
        time.sleep(0.1)
    return running, int(file.read_text().split()[0])


def photograph(page: Page, url: str, key: str) -> bytes:
    """A PNG of the page while a key is held."""
    page.call("Emulation.setDeviceMetricsOverride", **SIZE, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=url)
    page.until("window.vidar && vidar.playing && vidar.frames > 2")
    page.call("Input.dispatchKeyEvent", type="rawKeyDown", code=key, key=key)
    time.sleep(HELD)
    page.until("vidar.echo > 0 && vidar.fps > 0 && vidar.figures.fps > 0")
    return base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def opened(model: str, *options: str) -> Iterator[tuple[Page, str]]:
    """A blank page in a new browser, and the address of a running `vidar play`; both end with the context."""
    from websockets.sync.client import connect

    running, url = served(model, *options)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            chromium, port = browser(folder)
            try:
                asked = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
                target = json.load(urllib.request.urlopen(asked, timeout=WAIT))
                with connect(target["webSocketDebuggerUrl"], max_size=None, open_timeout=WAIT) as socket:
                    yield Page(socket), url
            finally:
                chromium.terminate()
                chromium.wait()
    finally:
        running.terminate()
        running.wait()


def main(out: str, model: str = "doom", key: str = "ArrowLeft") -> None:
    """Write the screenshot. Raises VidarError if it cannot be written."""
    check_output(out)
    with opened(model) as (page, url):
        picture = photograph(page, url, key)
    with replacing(out) as file:
        file.write_bytes(picture)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    try:
        main(*sys.argv[1:])
    except VidarError as error:
        sys.exit(f"screenshot_play: {error}")
