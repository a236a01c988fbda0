"""What a stranger sees in a real browser: under any path, at a closed door, in the queue, on a small screen."""

import asyncio
import contextlib
import threading
import time

import pytest
from chromium import NEEDED, leave, url

from vidar.actions import Action, ActionSpec
from vidar.play.guard import Guard

pytestmark = NEEDED

STATE = "document.getElementById('state').textContent"
VEIL = "document.getElementById('veil-text').textContent"


@contextlib.contextmanager
def proxy(target, prefix, host=None):
    """The port of a proxy that cuts a prefix off. The prefix alone is the page, too. host: what it sends as Host."""
    loop = asyncio.new_event_loop()

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def client(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, rest = head.split(b"\r\n", 1)
            method, path, version = line.split(b" ")
            plain, _, query = path.partition(b"?")
            below = plain.removeprefix(prefix.encode())
            if below == plain or (below and not below.startswith(b"/")):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return writer.close()
            if b"upgrade: websocket" not in rest.lower():
                kept = [part for part in rest.split(b"\r\n") if not part.lower().startswith(b"connection:")]
                rest = b"\r\n".join([b"Connection: close", *kept])
            if host is not None:
                rest = b"\r\n".join(
                    f"Host: {host}".encode() if part.lower().startswith(b"host:") else part
                    for part in rest.split(b"\r\n")
                )
            back, forth = await asyncio.open_connection("127.0.0.1", target)
            asked = (below or b"/") + (b"?" + query if query else b"")
            forth.write(b" ".join([method, asked, version]) + b"\r\n" + rest)
            await asyncio.gather(pipe(reader, forth), pipe(back, writer), return_exceptions=True)

    made = loop.run_until_complete(asyncio.start_server(client, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@pytest.mark.parametrize("end", ["/", "", "/?codec=jpeg", "?codec=jpeg"])
def test_the_page_plays_under_any_path(serve, browser, end):
    served = serve(fps=20.0)
    with proxy(served.port, "/user/x/proxy/8000") as port:
        tab = browser(f"http://127.0.0.1:{port}/user/x/proxy/8000{end}")
        tab.until("window.vidar && vidar.playing && vidar.frames > 3")
        assert tab.get("location.pathname") == "/user/x/proxy/8000/"
        assert tab.get("location.search") == ("?codec=jpeg" if "codec" in end else "")
        assert tab.get("getComputedStyle(document.getElementById('controls')).display") == "flex"
        leave(tab)


@pytest.mark.parametrize("end", ["/", "", "?codec=jpeg#mark"])
def test_the_page_plays_under_a_prefix_that_the_proxy_leaves(serve, browser, end):
    served = serve(fps=20.0)
    tab = browser(url(served) + f"user/x/proxy/8000{end}")
    tab.until("window.vidar && vidar.playing && vidar.frames > 3")
    assert tab.get("location.pathname + location.search + location.hash") == "/user/x/proxy/8000/" + end.lstrip("/")
    leave(tab)


def test_a_closed_door_tells_its_option_on_the_page(serve, browser):
    """nginx as it is gives the server its own Host and leaves the Origin of the page."""
    served = serve(fps=20.0)
    with proxy(served.port, "/p", host=f"127.0.0.1:{served.port}") as port:
        tab = browser(f"http://localhost:{port}/p/")
        tab.until(f"{STATE} === 'refused'")
        assert f"--allow-origin http://localhost:{port}" in tab.get(VEIL)
        assert not tab.get("document.getElementById('again').hidden")
        guard = Guard("127.0.0.1", (), [f"http://localhost:{port}"])
        served.lobby.guard = guard
        tab.get("document.getElementById('again').click()")
        tab.until("vidar.playing && vidar.frames > 3")
        leave(tab)


def test_too_many_pages_of_an_address_are_told_and_come_in_later(serve, browser):
    served = serve(fps=20.0, per_ip=1)
    tab = browser(url(served))
    tab.until("vidar.playing")
    other = browser(url(served))
    other.until("vidar.closed === 1013")
    assert "your address has as many pages here as it may: 1" in other.get(VEIL).lower()
    assert "--per-address" in other.get(VEIL) and other.get(STATE) == "no place is free"
    leave(tab)
    other.call("Page.bringToFront")
    other.until("vidar.playing && vidar.frames > 3")
    leave(other)


def test_who_waits_sees_a_game_and_words_are_true(serve, browser):
    served = serve(fps=20.0)
    one = browser(url(served))
    one.until(f"vidar.playing && vidar.frames > 3 && {STATE} === 'playing'")
    two = browser(url(served))
    two.call("Page.bringToFront")
    two.until(f"vidar.watched > 3 && {STATE} === 'place 1 in the queue'")
    assert two.picture().std() > 10 and two.get("vidar.frames") == 0
    assert "number 1 in the queue" in two.get(VEIL)
    stage, veil = (
        two.get(f"document.getElementById('{name}').getBoundingClientRect().height") for name in ("pictures", "veil")
    )
    assert veil < stage / 2  # the game is not covered
    one.call("Page.bringToFront")
    one.get("document.getElementById('pause').click()")
    assert one.get(STATE) == "paused"
    time.sleep(0.7)
    assert one.get(STATE) == "paused"
    one.get("document.getElementById('pause').click()")
    one.until(f"{STATE} === 'playing'")
    leave(one)
    two.call("Page.bringToFront")
    two.until(f"vidar.playing && vidar.frames > 3 && {STATE} === 'playing'")
    assert two.get("document.getElementById('veil').hidden") and two.faults == []
    leave(two)


def sized(width, height, touch):
    """Prepares a tab: the size of its window, and whether it is touched."""

    def prepare(tab):
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        if touch:
            tab.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)

    return prepare


@pytest.mark.parametrize("width, height, touch", [(1280, 800, False), (390, 844, False), (390, 844, True)])
def test_picture_and_keys_are_seen_without_scrolling(serve, browser, width, height, touch, first_frames):
    served = serve(fps=20.0, clips=[first_frames] * 6)
    tab = browser(url(served), sized(width, height, touch))
    tab.until("vidar.playing && vidar.frames > 3 && vidar.starts === 7")
    for name in ("screen", "touch" if touch else "keys", "controls"):
        box = tab.get(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] <= height and 0 <= box["left"] < box["right"] <= width, name
    assert tab.get("document.documentElement.scrollWidth <= innerWidth && scrollY === 0")
    sizes = tab.get(
        "[...document.querySelectorAll('button, input')].map((b) => b.getBoundingClientRect()).filter((b) => b.width)"
        ".map((b) => Math.min(b.width, b.height))"
    )
    assert len(sizes) >= 8 + 7 and min(sizes) >= 44
    leave(tab)


@pytest.mark.parametrize("width, height, touch", [(1280, 800, False), (390, 844, True)])
def test_a_gymnasium_game_of_many_actions_fits_and_takes_its_keys(
    serve, browser, width, height, touch, tiny, monkeypatch
):
    """Actions that name no keys, such as the 18 of an Atari game, get keys and buttons that are all seen."""
    many = Action(name="action", kind="choice", size=18)
    spec = ActionSpec(actions=(many, *(Action(name=f"turn{n}", kind="continuous") for n in range(4))))
    monkeypatch.setattr(tiny, "config", tiny.config.replace(actions=spec))
    served = serve(fps=20.0)
    tab = browser(url(served), sized(width, height, touch))
    tab.until("vidar.playing && vidar.frames > 3")
    parts = f"[...document.querySelectorAll('{'.pad button' if touch else '#keys li[data-code]'}')]"
    boxes = tab.get(f"{parts}.map((part) => part.getBoundingClientRect().toJSON())")
    assert len(boxes) == 18
    for box in boxes:
        assert 0 <= box["top"] < box["bottom"] <= height and 0 <= box["left"] < box["right"] <= width
    assert tab.get("document.documentElement.scrollWidth <= innerWidth")
    tab.call("Input.dispatchKeyEvent", type="rawKeyDown", code="Digit7", key="7")
    tab.until("vidar.mask === 128")
    tab.call("Input.dispatchKeyEvent", type="keyUp", code="Digit7", key="7")
    tab.until("vidar.mask === 0 && vidar.echo > 1")
    leave(tab)


def test_full_screen_fills_the_screen_with_the_picture(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    click = "document.getElementById('full').click()"
    tab.call("Runtime.evaluate", expression=click, userGesture=True)
    tab.until("document.fullscreenElement === document.getElementById('stage')")
    tab.until("document.getElementById('screen').getBoundingClientRect().height === innerHeight")
    tab.call("Runtime.evaluate", expression=click, userGesture=True)
    tab.until("document.fullscreenElement === null")
    leave(tab)


def test_a_page_that_is_left_gives_its_place_back(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    leave(tab)
    other = browser(url(served))
    other.until("vidar.playing && vidar.frames > 3")
    leave(other)


def test_four_pages_play_at_once(serve, browser):
    served = serve(capacity=4, fps=5.0)
    tabs = [browser(url(served)) for _ in range(4)]
    for tab in tabs:
        tab.until("vidar.playing")
    assert {tab.get("vidar.seat") for tab in tabs} == {0, 1, 2, 3}
    for tab in tabs:  # a hidden page paints nothing
        tab.call("Page.bringToFront")
        tab.until("vidar.frames > 5")
    for tab in tabs:
        leave(tab)
