"""The blind page in Chromium: four trials are answered by keys and by fingers, saved, and scored by our command."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from chromium import NEEDED, SIZES, WAIT

from vidar.eval.blind_page import Pair, blind_page, pair_video, start_video
from vidar.eval.blind_score import binomial_p, run, wilson

pytestmark = NEEDED
FPS = 20.0
ANSWERS = ("left", "right", "right", "left")
READY = "!document.getElementById('left').disabled"


def clip(seed):
    return np.random.default_rng(seed).integers(0, 256, (6, 16, 20, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)


@pytest.fixture(scope="module", params=["real", "models"])
def folder(request, tmp_path_factory):
    """A page of four trials of 0.3 s, and its key."""
    place = tmp_path_factory.mktemp(request.param)
    starts = [start_video(clip(9)[:3], FPS) if request.param == "models" else None] * 4
    pairs = [Pair(f"{n:016x}", pair_video(clip(2 * n), clip(2 * n + 1), FPS), starts[n]) for n in range(4)]
    html, name = blind_page(request.param, pairs)
    (place / "blind.html").write_text(html)
    trials = {
        pair.id: {"answer": side, "seconds": (1.6, 3.2)[n // 2], "player": "idle"}
        for n, (pair, side) in enumerate(zip(pairs, ANSWERS))
    }
    key = {"version": 1, "page": name, "kind": request.param, "models": {"A": "a", "B": "b"}, "trials": trials}
    (place / "key.json").write_text(json.dumps(key))
    return place


@pytest.fixture
def opened(browser, folder):
    def begin(size=SIZES[0], name="Anna"):
        page = (folder / "blind.html").as_uri()
        tab = browser(page, lambda tab: tab.size(*size), "document.readyState === 'complete'")
        tab.get("localStorage.clear()")
        reload(tab)
        enter(tab, name)
        return tab

    return begin


def reload(tab):
    tab.get("window.before = true")
    tab.get("location.reload()")
    tab.until("window.before === undefined && document.readyState === 'complete'")


def enter(tab, name):
    tab.get("document.getElementById('rater').focus()")
    tab.get("document.getElementById('rater').value = ''")
    tab.call("Input.insertText", text=name)
    click(tab, "start")


def click(tab, name):
    """A click of the mouse in the middle of a button, which must be large enough for a finger."""
    tab.until(f"!document.getElementById('{name}').disabled")
    x, y, wide, high = tab.get(
        f"(() => {{ const box = document.getElementById('{name}').getBoundingClientRect();"
        "return [box.left + box.width / 2, box.top + box.height / 2, box.width, box.height] })()"
    )
    assert min(wide, high) >= 44
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def press(tab, code):
    tab.until(READY)
    tab.key("rawKeyDown", code)
    tab.key("keyUp", code)


def answer(tab, sides):
    for side in sides:
        before = tab.get("document.getElementById('count').textContent")
        press(tab, f"Arrow{side.title()}")
        tab.until(f"document.getElementById('count').textContent !== '{before}'")


def saved(tab, place, name):
    tab.until("!document.getElementById('end').hidden")
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(place))
    click(tab, "save")
    file, end = place / name, time.monotonic() + WAIT
    while not file.is_file():
        assert time.monotonic() < end, list(place.iterdir())
        time.sleep(0.05)
    return file


@pytest.mark.parametrize("size", SIZES)
def test_answers_by_keys_are_scored(opened, folder, tmp_path, size):
    tab = opened(size, "Anna B.")
    assert tab.get("document.getElementById('left').disabled")  # until the clip was seen
    answer(tab, ["left", "right", "right", "right"])
    assert tab.faults == [] and tab.outside() == [] and tab.beyond() <= 0
    file = saved(tab, tmp_path, "answers-anna-b.json")
    record = json.loads(file.read_text())
    assert record["rater"] == "Anna B." and [a["choice"] for a in record["answers"]] == [
        "left",
        "right",
        "right",
        "right",
    ]
    assert all(0 <= a["seconds"] < WAIT and a["plays"] == 1 for a in record["answers"])
    made = run(folder, [file])
    low, high = wilson(3, 4)
    assert made["all"] == {
        "hits": 3, "count": 4, "unanswered": 0, "share": 0.75, "low": low, "high": high, "p": binomial_p(3, 4),
    }  # fmt: skip
    assert [part["hits"] for part in made["by_seconds"].values()] == [2, 1]


def test_buttons_replay_and_change(opened, tmp_path):
    tab = opened(SIZES[1])
    tab.until(READY)
    press(tab, "Space")
    tab.until("document.getElementById('again').disabled && document.getElementById('clip').currentTime < 0.2")
    tab.until("!document.getElementById('again').disabled")
    click(tab, "right")
    tab.until("document.getElementById('count').textContent === '2 of 4'")
    click(tab, "back")
    tab.until("document.getElementById('count').textContent === '1 of 4'")
    answer(tab, ["left"])
    click(tab, "stop")
    answers = json.loads(saved(tab, tmp_path, "answers-anna.json").read_text())["answers"]
    assert [(a["choice"], a["plays"]) for a in answers] == [("left", 1)]


def test_a_closed_page_goes_on_where_it_was(opened, folder, tmp_path):
    tab = opened()
    answer(tab, ["left", "right"])
    reload(tab)
    tab.until("document.getElementById('start').textContent === 'Go on, 2 of 4 done'")
    click(tab, "start")
    tab.until("document.getElementById('count').textContent === '3 of 4'")
    answer(tab, ["left"])
    click(tab, "stop")
    made = run(folder, [saved(tab, tmp_path, "answers-anna.json")])
    assert (made["all"]["hits"], made["all"]["count"], made["all"]["unanswered"]) == (2, 3, 1)
    click(tab, "next")
    assert tab.get("document.getElementById('rater').value") == ""
    enter(tab, "Ben")
    tab.until("document.getElementById('count').textContent === '1 of 4'")


def test_nothing_on_the_page_tells_the_answer(opened, folder):
    """All trials look alike but for their id and pictures, and the script knows no side."""
    tab = opened()
    trials = tab.get("JSON.parse(document.getElementById('page').textContent).trials")
    assert [set(trial) for trial in trials] == [{"id", "pair", "start"}] * 4
    html = (folder / "blind.html").read_text()
    assert "key.json" not in html and '"answer"' not in html
    names = tab.get("[...document.querySelectorAll('#stage *')].map(one => [one.id, one.className, one.title || ''])")
    tab.until(READY)
    answer(tab, ["left"])
    assert (
        tab.get("[...document.querySelectorAll('#stage *')].map(one => [one.id, one.className, one.title || ''])")
        == names
    )
