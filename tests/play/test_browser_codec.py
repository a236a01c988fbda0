"""H.264 in a real browser: what is painted, and where the page goes on with JPEG."""

import io
import time

import numpy as np
import pytest
from chromium import NEEDED, held, leave, url
from PIL import Image
from play_client import sockets
from yuv import halved, psnr

from vidar.play import codec
from vidar.play.messages import to_jpeg

pytestmark = NEEDED

SUPPORTED = """
window.VideoDecoder ? VideoDecoder.isConfigSupported({ codec: "avc1.42c00a" }).then((told) => told.supported) : false
"""
TOLD = "document.getElementById('told').textContent"
SHOWN = "document.getElementById('f-codec').textContent"
COUNTED = """
window.made = 0;
if (window.VideoDecoder) window.VideoDecoder = class extends VideoDecoder {
  constructor(init) { super(init); window.made += 1; }
  decode(chunk) {
    if (!window.garble) return super.decode(chunk);
    super.decode(new EncodedVideoChunk({ type: "key", timestamp: chunk.timestamp, data: new Uint8Array(64).fill(7) }));
  }
};
"""


@pytest.fixture
def video(serve, browser):
    """(served, tab) of a page that plays H.264; skipped where this browser has no decoder for it."""
    served = serve(fps=20.0, codec="h264")
    tab = browser(url(served), lambda tab: tab.call("Page.addScriptToEvaluateOnNewDocument", source=COUNTED))
    tab.until("vidar.playing")
    if not tab.get(SUPPORTED):
        pytest.skip("this Chromium decodes no H.264")
    tab.until("vidar.codec === 'h264' && vidar.frames > 5")
    yield served, tab
    leave(tab)


def painted(tab, frame):
    """How near a paused page is to a frame, in dB."""
    return psnr(tab.picture(), frame)


def test_video_is_painted_at_once_and_answers_keys(video):
    served, tab = video
    assert tab.get(SHOWN) == "H.264" and tab.get("made") == 1
    tab.key("rawKeyDown", "ArrowLeft")
    tab.until("vidar.echo === 1 && vidar.latencies.length === 1")
    assert held(served) == [1, 0, 0, 0, 0] and 0 < tab.get("vidar.latencies[0]") < 1000
    tab.get("document.getElementById('pause').click()")
    time.sleep(0.5)
    slot = served.engine.slots[0]
    tab.until(f"vidar.frame === {slot.shown.number}")  # the last one too: nothing is withheld
    for _ in range(3):
        number = slot.shown.number
        tab.get("document.getElementById('step').click()")
        tab.until(f"vidar.frame === {number + 1}")
        assert painted(tab, halved(slot.shown.frame)) > 26
    tab.get("document.getElementById('seed').click()")
    tab.until("vidar.frame === 1")
    assert painted(tab, halved(slot.shown.frame)) > 26 and tab.get("made") == 1
    assert tab.faults == []


def test_video_comes_again_after_a_lost_connection(video):
    served, tab = video
    sockets(served)[0].loop.call_soon_threadsafe(sockets(served)[0].transport.abort)
    tab.until("vidar.connections === 2 && made === 2 && vidar.codec === 'h264' && vidar.frame > 3")
    assert tab.faults == []


def test_a_picture_that_cannot_be_decoded_ends_in_jpeg(video):
    served, tab = video
    frames = tab.get("vidar.frames")
    tab.get("void (window.garble = true)")
    tab.until(f"vidar.codec === 'jpeg' && vidar.frames > {frames} + 10")
    assert tab.get(SHOWN) == "JPEG" and tab.get(TOLD).startswith("No H.264: it could not be decoded (")
    assert tab.get("vidar.connections") == 1 and tab.faults == []
    tab.get("document.getElementById('pause').click()")
    time.sleep(0.5)
    tab.until(f"vidar.frame === {served.engine.slots[0].shown.number}")
    sent = np.asarray(Image.open(io.BytesIO(to_jpeg(served.engine.slots[0].shown.frame))))
    assert painted(tab, sent) > 40


@pytest.mark.parametrize(
    "prepared, why",
    [
        ("delete window.VideoDecoder", "this browser has no VideoDecoder"),
        ("VideoDecoder.isConfigSupported = async () => ({ supported: false })", "this browser does not decode it"),
        ("VideoDecoder.isConfigSupported = async () => { throw new TypeError() }", "this browser does not decode it"),
    ],
)
def test_a_browser_without_a_decoder_plays_jpeg(serve, browser, prepared, why):
    served = serve(fps=20.0, codec="h264")
    tab = browser(url(served), lambda tab: tab.call("Page.addScriptToEvaluateOnNewDocument", source=prepared))
    tab.until(f"vidar.frames > 5 && {TOLD} === 'No H.264: {why}. The pictures are JPEG.'")
    assert tab.get("vidar.codec") == "jpeg" and tab.get(SHOWN) == "JPEG" and tab.faults == []
    leave(tab)


def test_the_address_chooses(serve, browser, monkeypatch):
    served = serve(fps=20.0, codec="h264")
    tab = browser(url(served, "?codec=jpeg"))
    tab.until("vidar.frames > 5")
    assert tab.get("vidar.codec") == "jpeg" and tab.get(TOLD) == ""
    leave(tab)
    tab = browser(url(served, "?codec=toString"))
    tab.until("vidar.frames > 5")
    assert tab.get("vidar.codec") == "jpeg" and 'No codec is called "toString"' in tab.get(TOLD)
    leave(tab)
    served.stop()
    monkeypatch.setattr(codec, "ENCODER", "libnothing")
    served = serve(fps=20.0)
    tab = browser(url(served, "?codec=h264"))
    tab.until(f"vidar.frames > 5 && {TOLD}.includes('this server has no encoder for it')")
    assert tab.get("vidar.codec") == "jpeg" and tab.faults == []
    leave(tab)
