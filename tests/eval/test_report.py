from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from vidar.eval.plots import Curve, curves, strip
from vidar.eval.report import Section, image, page, plot, table, video

PNG = b"\x89PNG of sorts"


class Well(HTMLParser):
    """Tags must close in order; collects the links."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href")]
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
    pieces = [table(["", "x"], [["<row>", "1"]]), plot(drawn, "a & b"), image(PNG, "c"), video(b"mp4", "d")]
    html = page("T <1>", "lead", [("3 dB", "what")], [Section("S", "note $x", pieces)])
    links = parse(html).links
    assert len(links) == 4 and all(link.startswith("data:") for link in links)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|<script|url\(", text)
    assert "&lt;row&gt;" in html and "T &lt;1&gt;" in html and "a &amp; b" in html and "note $x" in html
    assert base64.b64decode(links[3].split(",")[1]) == b"mp4"
    assert "prefers-color-scheme: dark" in html


def test_plots_of_the_two_themes_differ_and_show_what_they_are_given():
    one = curves([Curve("a", np.arange(9.0))], "y")
    assert one.light != one.dark
    assert one == curves([Curve("a", np.arange(9.0))], "y")
    assert one.light != curves([Curve("a", np.arange(9.0) ** 2)], "y").light
    assert one.light != curves([Curve("a", np.arange(9.0), np.ones(9))], "y").light


def test_strip_puts_row_and_frame_where_they_belong():
    videos = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6, 3), dtype=np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(strip(list(videos), [0, 3], scale=2, gap=4))))
    assert sheet.shape == (2 * 8 + 4, 2 * 12 + 4, 4)
    for row, top in ((0, 0), (1, 12)):
        for frame, left in ((0, 0), (3, 16)):
            got = sheet[top : top + 8 : 2, left : left + 12 : 2]
            assert np.array_equal(got[..., :3], videos[row, frame]) and (got[..., 3] == 255).all()
    assert (sheet[8:12, :, 3] == 0).all()
