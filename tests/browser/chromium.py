"""Headless Chromium over the DevTools protocol, for the tests of pages."""

import base64
import contextlib
import io
import json
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

CHROMIUM = Path("/usr/bin/chromium")
WAIT = 20
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Space": 32, "KeyW": 87, "KeyR": 82}
SIZES = ((1280, 800), (390, 844))  # a window and a phone
NEEDED = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason="no chromium")]


class Tab:
    """One page, by its DevTools socket."""

    def __init__(self, url):
        self.socket = connect(url, max_size=None, open_timeout=WAIT, close_timeout=1)
        self.count, self.faults, self.requests = 0, [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=WAIT))
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.note(answer)

    def note(self, event):
        if event["method"] == "Runtime.exceptionThrown":
            self.faults.append(event["params"]["exceptionDetails"])
        elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.faults.append(event["params"]["entry"])
        elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "assert"):
            self.faults.append(event["params"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])

    def open(self, url):
        self.url = url
        self.call("Page.navigate", url=url)

    def get(self, expression):
        """The value of an expression; a promise is awaited."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + WAIT
        while not self.get(expression):
            assert time.monotonic() < end, f"{expression}: {self.get('JSON.stringify(window.vidar)')}"
            time.sleep(0.03)

    def key(self, kind, code, repeat=False):
        key = {"code": code, "key": code.removeprefix("Key").lower(), "windowsVirtualKeyCode": KEYS[code]}
        self.call("Input.dispatchKeyEvent", type=kind, autoRepeat=repeat, **key)

    def size(self, width, height, dark=False):
        """Make the window of that size, and prefer a theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, whole=False):
        """A PNG of the window, or of the whole page."""
        shown = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shown["data"])

    def beyond(self):
        """Pixels by which the page is wider than its window."""
        return self.get("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def outside(self):
        """Requests of the page, without those to itself and to what is embedded in it."""
        return [url for url in self.requests if not url.startswith(("data:", "blob:", "about:", self.url))]

    def picture(self, canvas="#screen"):
        """What a canvas shows, uint8 [H, W, 3]."""
        png = self.get(f"document.querySelector('{canvas}').toDataURL('image/png')").split(",")[1]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


@contextlib.contextmanager
def chromium(folder):
    """page(url, prepare=None, ready=...) opens a page in a browser of its own, which ends with the context."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [CHROMIUM, *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tabs = []
    try:
        end = time.monotonic() + 40
        while not (folder / "DevToolsActivePort").is_file():
            assert time.monotonic() < end and running.poll() is None
            time.sleep(0.1)
        time.sleep(0.2)
        port = (folder / "DevToolsActivePort").read_text().split()[0]

        def page(url, prepare=None, ready="window.vidar !== undefined"):
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
            target = json.load(urllib.request.urlopen(asked, timeout=WAIT))
            tab = Tab(target["webSocketDebuggerUrl"])
            tab.target = target["id"]
            tabs.append(tab)
            if prepare is not None:
                prepare(tab)
            tab.open(url)
            tab.until(ready)
            return tab

        yield page
    finally:
        for tab in tabs:
            tab.socket.close()
        running.terminate()
        running.wait(20)


def url(served, query=""):
    return f"http://127.0.0.1:{served.port}/{query}"


def held(served, row=0):
    """What the server takes for the next frame of a slot."""
    return served.engine.slots[row].inputs.row().tolist()


def leave(tab):
    tab.open("about:blank")
