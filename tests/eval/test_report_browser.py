"""A report with every piece opens from its file in Chromium: no errors, no requests, nothing wider than a phone."""

from __future__ import annotations

import numpy as np
import pytest
from chromium import NEEDED, SIZES

from vidar.eval.plots import Curve, curves, mean_curve, ranked, strip
from vidar.eval.report import Bar, Card, Section, bars, code, facts, folded, image, page, plot, table, video
from vidar.eval.tiles import Tile, tiled
from vidar.eval.worst_cases import Case, worst_cases

pytestmark = NEEDED
FPS = 17.5


def whole() -> str:
    random = np.random.Generator(np.random.Philox(0))
    videos = random.integers(0, 256, (2, 40, 64, 80, 3), dtype=np.uint8)
    values = random.normal(size=(16, 175)).cumsum(1)
    drawn = curves([mean_curve("dream", values), Curve("the game", np.ones(175), reference=True)], "dB", fps=FPS)
    tiles = [Tile(name, list(videos)) for name in ("idle", "hold MOVE_FORWARD TURN_LEFT", "mash")]
    cases = [Case("hold MOVE_FORWARD", 3_000_000 + n, n, f"{n} %", list(videos)) for n in range(4)]
    heads = [f"{second} s" for second in range(12)]
    long = "vidar eval runs/decoder_doom/model --suite ruler --out " + "runs/a_long_name_without_a_space" * 3
    sections = [
        Section("Video", "All players.", [video(tiled(tiles, FPS), "game above dream")]),
        Section("Worst", "First.", worst_cases(cases, (0, 1, 2), FPS)),
        Section("Strip", "Twelve columns.", [image(strip(list(videos), list(range(12))), "a strip", heads)]),
        Section("Curves", "Means.", [plot(drawn, "gain"), plot(ranked(values[:, 0], "y", "x"), "ranked")]),
        Section(
            "Table", "Wide.", [table(heads, [[str(n) * 8 for n in range(12)]] * 3), folded("more", table(heads, []))]
        ),
        Section("Bars", "Shares.", [bars({"MOVE_FORWARD_AND_LEFT": [Bar("dream", 0.5, 0)]}, {}, "chance")]),
        Section("Again", "Type it.", [code(long), facts({"A name of some length": long})]),
    ]
    return page("World 'doom'", "A lead.", [Card("97 %", "of frames", "detail", "good")] * 3, sections, "kicker")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(whole())
    return file


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_page_opens_offline(browser, report, size, dark):
    tab = browser(report.as_uri(), lambda tab: tab.size(*size, dark), "document.readyState === 'complete'")
    tab.until("[...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
    assert tab.get("[...document.images].every(picture => picture.naturalWidth > 0)")
    assert tab.faults == [] and tab.outside() == []
    assert tab.beyond() <= 0
    colour = tab.get("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(13, 17, 23)" if dark else "rgb(244, 245, 247)")


def test_the_check_sees_a_fault(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text(
        "<body style='width:3000px'><img src='http://127.0.0.1:9/a.png'><script>console.error(1); absent()</script>"
    )
    tab = browser(file.as_uri(), lambda tab: tab.size(*SIZES[1]), "document.readyState === 'complete'")
    tab.until("document.images[0].complete")
    assert tab.outside() == ["http://127.0.0.1:9/a.png"] and len(tab.faults) >= 2 and tab.beyond() > 0
