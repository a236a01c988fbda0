"""The page in a real browser: headless Chromium over the DevTools protocol."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
from chromium import NEEDED, WAIT, held, leave, url
from PIL import Image
from play_client import sockets

from vidar.data.vizdoom import VizdoomConfig
from vidar.play.beside import Beside
from vidar.play.messages import to_jpeg
from vidar.play.real_game import RealGame

pytestmark = NEEDED


def test_page_plays_and_asks_nobody_else(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 30 && vidar.figures.fps > 0")
    assert (
        tab.get("document.title").startswith("doom") and tab.get("vidar.seed") == served.engine.slots[0].log.start.seed
    )
    assert 15 < tab.get("vidar.fps") < 25
    assert [tab.get(f"document.getElementById('screen').{side}") for side in ("width", "height")] == [80, 64]
    assert tab.picture().std() > 10
    assert tab.get("[...document.querySelectorAll('#keys kbd')].map((k) => k.textContent).join(' ')").startswith(
        "\u2190"
    )
    assert all(request.startswith(url(served)) for request in tab.requests) and len(tab.requests) >= 3
    assert tab.faults == []
    leave(tab)


def test_a_key_turns_the_dream_and_lost_focus_releases_it(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    tab.key("rawKeyDown", "ArrowLeft")
    tab.until("vidar.seq === 1 && vidar.echo === 1 && vidar.latencies.length === 1")
    assert held(served) == [1, 0, 0, 0, 0] and served.engine.slots[0].log.rows[-1].tolist() == [1, 0, 0, 0, 0]
    assert 0 < tab.get("vidar.latencies[0]") < 1000
    assert tab.get("document.querySelector('li[data-code=ArrowLeft]').className") == "held"
    for _ in range(5):
        tab.key("rawKeyDown", "ArrowLeft", repeat=True)
    assert tab.get("vidar.seq") == 1  # a held key is one input
    tab.key("rawKeyDown", "KeyW")
    tab.until("vidar.echo === 2")
    assert held(served) == [1, 0, 1, 0, 0]
    tab.key("keyUp", "ArrowLeft")
    tab.until("vidar.echo === 3")
    assert held(served) == [0, 0, 1, 0, 0]
    other = browser(url(served))  # in front of it: the first page is hidden
    other.call("Page.bringToFront")
    tab.until("vidar.mask === 0")
    end = time.monotonic() + WAIT
    while held(served) != [0, 0, 0, 0, 0]:
        assert time.monotonic() < end
    leave(other)
    tab.call("Page.bringToFront")
    tab.key("rawKeyDown", "ArrowRight")
    tab.until("vidar.mask === 2")
    tab.get("window.dispatchEvent(new Event('blur'))")
    tab.until("vidar.mask === 0 && vidar.echo === vidar.seq")
    assert held(served) == [0, 0, 0, 0, 0]
    leave(tab)


def test_it_connects_again(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    sockets(served)[0].loop.call_soon_threadsafe(sockets(served)[0].transport.abort)
    tab.until("vidar.connections === 2 && vidar.playing && vidar.frame > 3")
    tab.key("rawKeyDown", "ArrowLeft")
    tab.until("vidar.echo === vidar.seq")
    assert held(served)[0] == 1
    port = served.port
    served.stop()
    tab.until("!vidar.connected && vidar.closed === 1001 && vidar.mask === 0")
    assert not tab.get("document.getElementById('veil').hidden")
    tab.key("keyUp", "ArrowLeft")
    again = serve(fps=20.0, port=port)
    tab.until("vidar.connections === 3 && vidar.playing && vidar.frame > 3")
    assert tab.get("document.getElementById('veil').hidden") and len(again.engine.slots) == 1
    leave(tab)


def test_what_is_painted_is_the_slots_own_picture(serve, browser):
    served = serve(capacity=2, fps=20.0)
    tabs = [browser(url(served)) for _ in range(2)]
    shown = {}
    for tab in tabs:
        tab.call("Page.bringToFront")
        tab.until("vidar.playing && vidar.frames > 5")
        tab.get("document.getElementById('pause').click()")
        time.sleep(0.5)
        slot = served.engine.slots[tab.get("vidar.seat")]
        tab.until(f"vidar.frame === {slot.shown.number}")
        sent = np.asarray(Image.open(io.BytesIO(to_jpeg(slot.shown.frame))))
        shown[slot.row] = (tab.picture().astype(int), sent.astype(int))
    assert set(shown) == {0, 1}
    own = [np.abs(shown[row][0] - shown[row][1]).mean() for row in (0, 1)]
    others = [np.abs(shown[row][0] - shown[1 - row][1]).mean() for row in (0, 1)]
    assert max(own) < 1 and min(others) > 5
    for tab in tabs:
        leave(tab)


def test_buttons(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.frames > 3")
    seed = tab.get("vidar.seed")
    tab.get("document.getElementById('pause').click()")
    time.sleep(0.4)
    frame = tab.get("vidar.frame")
    tab.get("document.getElementById('step').click()")
    tab.until(f"vidar.frame === {frame + 1}")
    time.sleep(0.3)
    assert tab.get("vidar.frame") == frame + 1
    tab.get("document.getElementById('seed').click()")
    tab.until(f"vidar.seed !== {seed} && vidar.frame === 1")
    assert served.engine.slots[0].log.start.seed == tab.get("vidar.seed")
    tab.get("document.getElementById('pause').click()")
    tab.until("vidar.frame > 5")
    leave(tab)


def test_phone(serve, browser):
    served = serve(fps=20.0)

    def prepare(tab):
        tab.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=3, mobile=True)
        tab.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)

    tab = browser(url(served), prepare)
    tab.until("vidar.playing && vidar.frames > 3")
    assert tab.get("document.documentElement.scrollWidth <= innerWidth")
    assert not tab.get("document.getElementById('touch').hidden")
    points = []
    for code in ("ArrowLeft", "ArrowUp"):
        box = tab.get(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2, width])"
                      f"(document.querySelector('.pad [data-code={code}]').getBoundingClientRect())")  # fmt: skip
        assert box[2] >= 44 and 0 < box[0] < 390
        points.append({"x": box[0], "y": box[1], "id": len(points)})
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points[:1])
    tab.until("vidar.echo === 1")
    assert held(served) == [1, 0, 0, 0, 0]
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
    tab.until("vidar.echo === 2")
    assert held(served) == [1, 0, 1, 0, 0]
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    tab.until("vidar.mask === 0 && vidar.echo === vidar.seq")
    assert held(served) == [0, 0, 0, 0, 0]
    leave(tab)


def test_token_comes_from_the_address(serve, browser):
    served = serve(fps=20.0, name="0.0.0.0")
    tab = browser(url(served))
    tab.until("vidar.closed === 4401 && document.getElementById('state').dataset.state === 'ended'")
    tab = browser(url(served) + "#" + served.lobby.guard.token)
    tab.until("vidar.playing && vidar.frames > 3")
    leave(tab)


def test_a_recording_is_saved_by_key_and_by_button(serve, browser, tmp_path):
    served = serve(fps=20.0)
    tab = browser(url(served))
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.until("vidar.playing && vidar.frames > 3")
    assert "record" in tab.get("document.getElementById('keys').textContent")
    for begin in (lambda: tab.key("rawKeyDown", "KeyR"), lambda: tab.get("document.getElementById('record').click()")):
        begin()
        tab.until("vidar.recording && document.getElementById('record').textContent.startsWith('Stop')")
        tab.until(f"vidar.frame > {tab.get('vidar.frame')} + 12")
        tab.get("vidar.recorded = null")
        begin()
        tab.until("vidar.recorded && !vidar.recording")
        told = tab.get("vidar.recorded")
        end = time.monotonic() + WAIT
        while not (tmp_path / told["name"]).is_file():
            assert time.monotonic() < end
            time.sleep(0.05)
        with zipfile.ZipFile(tmp_path / told["name"]) as packed:
            assert packed.testzip() is None
            assert {Path(name).suffix for name in packed.namelist()} == {".mp4", ".csv", ".dream", ".yaml"}
        assert told["frames"] >= 12 and str(told["frames"]) in tab.get("document.getElementById('told').textContent")
    assert tab.faults == [] and tab.get("vidar.playing")
    leave(tab)


def test_gallery(serve, browser, first_frames):
    clips = [np.full_like(first_frames, 60), np.full_like(first_frames, 200)]
    served = serve(fps=20.0, clips=clips)
    tab = browser(url(served))
    tab.until("vidar.playing && vidar.starts === 3")
    pictures = [tab.picture(f"#starts button:nth-child({n}) canvas") for n in (1, 2, 3)]
    assert pictures[0].std() > 10 and [round(picture.mean(), -1) for picture in pictures[1:]] == [60, 200]
    pressed = "[...document.querySelectorAll('#starts button')].map((b) => b.getAttribute('aria-pressed')).join()"
    assert tab.get(pressed) == "true,false,false"
    seed = tab.get("vidar.seed")
    tab.get("document.querySelector('#starts button:nth-child(3)').click()")
    tab.until("vidar.start === 2 && vidar.frame > 0")
    assert tab.get(pressed) == "false,false,true" and tab.get("vidar.seed") == seed
    assert np.array_equal(served.engine.slots[0].log.start.frames, clips[1])
    tab.get("document.getElementById('seed').click()")
    tab.until(f"vidar.seed !== {seed}")
    assert tab.get("vidar.start") == 2 and np.array_equal(served.engine.slots[0].log.start.frames, clips[1])
    assert tab.faults == []
    leave(tab)


def test_the_real_game_is_shown_beside_the_dream(serve, browser):
    beside = Beside(RealGame(VizdoomConfig().build()), 4)
    served = serve(fps=20.0, beside=beside)
    try:
        tab = browser(url(served))
        tab.until("vidar.playing && vidar.frames > 3 && vidar.game > 3")
        assert tab.get("document.getElementById('starts').hidden")
        left, right = (
            tab.get(f"document.getElementById('{name}').getBoundingClientRect().x") for name in ("screen", "game")
        )
        assert right > left + 100
        tab.key("rawKeyDown", "ArrowLeft")
        tab.until("vidar.echo === 1 && vidar.frame > 20")
        tab.get("document.getElementById('pause').click()")
        time.sleep(0.5)
        tab.until("vidar.game === vidar.frame")
        number, want = beside.shown.number, np.asarray(Image.open(io.BytesIO(to_jpeg(beside.shown.frame))))
        assert number == served.engine.slots[0].shown.number == tab.get("vidar.game")
        assert np.abs(tab.picture("#game").astype(int) - want).mean() < 1
        assert tab.faults == []
        leave(tab)
    finally:
        served.stop()
        beside.close()


PAD = """
window.requestAnimationFrame = (call) => setTimeout(() => call(performance.now()), 4);  // a screen of 250 Hz
window.pad = { connected: true, mapping: "standard", axes: [0, 0, 0, 0], buttons: [] };
navigator.getGamepads = () => [null, window.pad];
"""


def test_gamepad_and_motion(serve, browser):
    served = serve(fps=20.0)
    tab = browser(url(served), lambda tab: tab.call("Page.addScriptToEvaluateOnNewDocument", source=PAD))
    tab.until("vidar.playing && vidar.frames > 3")
    tab.get("void (pad.axes[0] = -0.9, pad.buttons[12] = { pressed: true })")
    tab.until("vidar.mask === 5 && vidar.echo === vidar.seq")
    assert held(served) == [1, 0, 1, 0, 0]
    tab.get("window.dispatchEvent(new Event('blur'))")  # the user is elsewhere, the stick is still pushed
    tab.until("vidar.mask === 0 && vidar.echo === vidar.seq")
    time.sleep(0.3)
    assert tab.get("vidar.mask") == 0
    tab.get("window.dispatchEvent(new Event('focus'))")
    tab.until("vidar.mask === 5 && vidar.echo === vidar.seq")
    tab.get("void (pad.connected = false)")  # it is pulled out with a button held
    tab.until("vidar.mask === 0 && vidar.echo === vidar.seq")
    assert held(served) == [0, 0, 0, 0, 0]
    seq = tab.get("vidar.seq")
    tab.get("void (vidar.hello.mouse = true, pad.connected = true, pad.axes = [0, 0, 1, 0], pad.buttons = [])")
    time.sleep(2.5)
    sent = tab.get("vidar.seq") - seq
    assert 30 < sent < 67 * 3 and tab.get("vidar.connected")  # the server allows 120 a second
    leave(tab)
