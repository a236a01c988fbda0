"""The page of a whole run of the ruler opens from its file: no errors, no requests, nothing wider than a phone."""

from __future__ import annotations

import pytest
from chromium import NEEDED, SIZES

import vidar.eval.ruler as ruler
from vidar.eval.ruler_play import RulerConfig

pytestmark = NEEDED
SMALL = RulerConfig(reference=2, others=2, clips=1, starts=2, seconds=1.0, long_seconds=1.2)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("ruler")
    ruler.run("doom", out, config=SMALL, workers=1)
    return out / "report.html"


@pytest.mark.parametrize("size", SIZES)
def test_the_page_opens_offline(browser, report, size):
    tab = browser(report.as_uri(), lambda tab: tab.size(*size, False), "document.readyState === 'complete'")
    tab.until("[...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
    assert tab.get("document.images.length") >= 13 + 4  # a strip of each player, and the worst cases
    assert tab.get("[...document.images].every(picture => picture.naturalWidth > 0)")
    assert tab.faults == [] and tab.outside() == [] and tab.beyond() <= 0
