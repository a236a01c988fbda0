from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vidar.eval.plots import HEIGHT, LEFT, RIGHT, WIDTH, Curve, curves, mean_curve, ranked, strip, ticks
from vidar.eval.report import Bar, Card, Section, bars, code, facts, folded, image, page, plot, table, video
from vidar.types import UsageError

PNG = b"\x89PNG of sorts"


class Well(HTMLParser):
    """Tags must close in order; collects the links."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.jumps, self.places = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href") and value[0] != "#"]
        self.jumps += [value[1:] for name, value in attrs if name == "href" and value[0] == "#"]
        self.places += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html: str) -> Well:
    well = Well()
    well.feed(html)
    assert well.open == []
    return well


def test_page_is_whole_escaped_and_needs_nothing_else():
    drawn = curves([Curve("a", np.arange(5.0), np.ones(5)), Curve("b", np.ones(5), reference=True)], "dB", floor=0.0)
    pieces = [
        table(["", "x"], [["<row>", "1"]]),
        plot(drawn, "a & b"),
        image(PNG, "c", ["1", "<2>"]),
        video(b"mp4", "d"),
    ]
    pieces += [facts({"<name>": "<text>"}), code("a < b"), folded("<more>", table([""], [["x"]]))]
    pieces += [bars({"<keys>": [Bar("<one>", 0.5, 0), Bar("two", None, 1)]}, {"<keys>": 0.25}, "<chance>")]
    cards = [("3 dB", "what"), Card("1", "<b>", "detail", "good")]
    html = page("T <1>", "lead", cards, [Section("S one?", "note $x", pieces), Section("T", "", [])], "<kicker>")
    read = parse(html)
    assert read.jumps == read.places == ["s-one", "t"]
    assert not re.search("<(row|name|text|more|keys|one|chance|kicker|2|1)>", html)
    links = read.links
    assert len(links) == 2 and all(link.startswith("data:") for link in links)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|<script|url\(", text)
    assert "&lt;row&gt;" in html and "T &lt;1&gt;" in html and "a &amp; b" in html and "note $x" in html
    assert base64.b64decode(links[1].split(",")[1]) == b"mp4"
    assert "prefers-color-scheme: dark" in html


def points(svg: str, kind: str) -> list[list[tuple[float, float]]]:
    found = re.findall(rf'<{kind} class="[^"]*" points="([^"]*)"', svg)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]


def test_curves_are_straight_where_values_are_and_reach_both_ends():
    drawn = curves([Curve("a", np.arange(9.0), np.ones(9)), Curve("b", np.full(5, 2.0), reference=True, tone=4)], "y")
    assert drawn.legend == (("a", 0, False), ("b", 4, True))
    first, second = points(drawn.svg, "polyline")
    assert len(first) == 9 and len(second) == 5
    assert first[0][0] == LEFT and first[-1][0] == WIDTH - RIGHT
    steps = np.diff(np.array(first), axis=0)
    assert np.allclose(steps, steps[0], atol=0.11) and steps[0][1] < 0  # up is a smaller y
    assert {y for _, y in second} == {first[2][1]}  # both are 2 there
    (band,) = points(drawn.svg, "polygon")
    assert len(band) == 18 and band[0][1] == first[1][1] and band[-1][1] > first[0][1]  # 0 + 1 above, 0 - 1 below


def test_numbers_of_a_frame_are_shown_under_the_pointer():
    drawn = curves([Curve("a & b", np.array([1.5, 2.5])), Curve("level", np.ones(2), reference=True)], "y")
    assert re.findall("<title>(.*?)</title>", drawn.svg, re.S) == [
        "generated frame 1\na &amp; b: 1.5",
        "generated frame 2\na &amp; b: 2.5",
    ]
    assert curves([Curve("a", np.zeros(5000))], "y").svg.count("<title>") <= 96


def test_gaps_and_flat_lines_are_drawn():
    (line,) = points(curves([Curve("a", np.array([1.0, np.nan, 3.0]))], "y").svg, "polyline")
    assert len(line) == 2
    assert points(curves([Curve("a", np.ones(4))], "y").svg, "polyline")


def test_ranked_bars_rise_and_change_colour_at_zero():
    svg = ranked(np.array([2.0, -1.0, 0.5]), "y", "x").svg
    bars_ = re.findall(r'bar t(\d)" x="([\d.]+)" width="[\d.]+" y="([\d.]+)" height="([\d.]+)"><title>(.*?)<', svg)
    assert [b[4] for b in bars_] == ["-1.00", "+0.50", "+2.00"] and [b[0] for b in bars_] == ["1", "0", "0"]
    below, small, large = ([float(v) for v in b[1:4]] for b in bars_)
    assert below[0] < small[0] < large[0]
    assert abs(below[2] - 2 * small[2]) < 0.2 and abs(large[2] - 4 * small[2]) < 0.3
    zero = below[1]
    assert abs(small[1] + small[2] - zero) < 0.11 and zero < HEIGHT


def test_ticks_are_round_and_few():
    assert ticks(0, 60) == [0, 10, 20, 30, 40, 50, 60]
    assert np.allclose(ticks(0.18, 0.71), [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert ticks(-3, 11) == [0, 5, 10]
    for low, high in ((0.0, 1e-3), (-7.3, 912.0), (14.2, 27.9)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 7 and low <= found[0] and found[-1] <= high * 1.0001


def test_strip_puts_row_and_frame_where_they_belong():
    videos = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6, 3), dtype=np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(strip(list(videos), [0, 3], scale=2, gap=4))))
    assert sheet.shape == (2 * 8 + 4, 2 * 12 + 4, 4)
    for row, top in ((0, 0), (1, 12)):
        for frame, left in ((0, 0), (3, 16)):
            got = sheet[top : top + 8 : 2, left : left + 12 : 2]
            assert np.array_equal(got[..., :3], videos[row, frame]) and (got[..., 3] == 255).all()
    assert (sheet[8:12, :, 3] == 0).all()


def test_curves_over_seconds_end_at_the_last_second():
    values = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, np.nan]])
    curve = mean_curve("a", values, tone=2)
    assert curve.values.tolist() == [2.0, 3.0, 4.0, 4.0] and curve.ends is not None
    low, high = curve.ends
    assert (low[:3] == values[0, :3]).all() and (high[:3] == values[1, :3]).all() and np.isnan([low[3], high[3]]).all()
    drawn = curves([curve], "dB", floor=0.0, fps=2.0)
    (line,) = points(drawn.svg, "polyline")
    assert line[0][0] == LEFT and line[-1][0] == WIDTH - RIGHT and len(line) == 4
    (band,) = points(drawn.svg, "polygon")
    assert len(band) == 6 and band[0][1] < line[0][1] < band[-1][1]
    marks = {at: float(x) for x, at in re.findall(r'<text x="([\d.]+)"[^>]*middle">([\d.]+)</text>', drawn.svg)}
    assert marks["1"] == line[1][0] and marks["2"] == line[3][0] and ">seconds</text>" in drawn.svg
    assert re.findall("<title>(.*?)</title>", drawn.svg, re.S)[1] == "1.00 s\na: 3 (2 to 4)"
    with pytest.raises(UsageError, match="no number to draw"):
        curves([Curve("a", np.full(3, np.nan))], "dB")


def test_a_strip_with_columns_keeps_their_width_on_a_narrow_page():
    assert "min-width:216px" in image(PNG, "c", ["1", "2", "3"]) and "min-width" not in image(PNG, "c")
