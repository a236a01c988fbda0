"""The page of a batch: what it shows while videos are made and afterwards, and that it needs nothing but its folder."""

from html.parser import HTMLParser

import pytest
from tiny import SEGMENT, Here

from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.page import Page, page
from vidar.synth.video_output import VideoOutput

CONTENT = {"model": "m/tiny", "versions": {"vidar": "1"}, "device": "cpu", "fps": 10}
DONE = {"id": "a", "line": 1, "status": "done", "error": None, "frames": 25, "seed": 3, "context": "x/start.mp4"}


class Read(HTMLParser):
    """tags: (name, attributes) of all tags; texts: what stands in each kind of tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        self.texts.setdefault(self._open, []).append(data)

    def links(self):
        return [a[name] for _, a in self.tags for name in ("href", "src", "poster") if name in a]

    def cards(self):
        return [a for tag, a in self.tags if tag == "article"]


@pytest.fixture
def synth(model, write_jobs, tmp_path):
    def run(*jobs, place=Here):
        request = SynthRequest(model=str(model), jobs=str(write_jobs(*jobs)), out=str(tmp_path / "out"), segment=12)
        return synthesise(request, None, None, place)

    return run


def test_a_page_shows_every_job_and_links_to_files_that_are_there(synth, tmp_path):
    synth({"id": "a", "seed": 3, "frames": 14}, {"id": "b", "frames": 5}, {"id": "c", "seed": 0, "frames": -1}, "{\n")
    shown = Read((tmp_path / "out" / "index.html").read_text())
    assert shown.texts["h1"] == ["tiny: 4 videos"] and shown.texts["h2"] == ["a", "b", "c", "line 4"]
    assert shown.texts["span"] == ["done", "done", "failed", "failed"]
    files = {f"{name}{end}" for name in "ab" for end in (".mp4", ".png", ".drift.png", ".json")}
    assert set(shown.links()) == files == {link for link in files if (tmp_path / "out" / link).is_file()}
    assert [card["data-seed"] for card in shown.cards()][:1] == ["3"] and "3" in shown.texts["dd"]
    assert "Job: frames: Input should be greater than or equal to 1 (got -1)" in shown.texts["dd"]
    (body,) = (attributes for tag, attributes in shown.tags if tag == "body")
    assert body["class"] == ""  # nothing is being made: it does not load itself again


def test_a_page_grows_with_the_videos(synth, tmp_path, monkeypatch):
    """Written before the first frame, and after each segment where the last version is old enough."""
    seen = []
    monkeypatch.setattr("vidar.synth.page.PERIOD", 0.0)
    grow = Page.grow

    def look(self, name, frames):
        grow(self, name, frames)
        seen.append((tmp_path / "out" / "index.html").read_text())

    def place(*words):
        seen.append((tmp_path / "out" / "index.html").read_text())
        return Here(*words)

    monkeypatch.setattr(Page, "grow", look)
    synth({"id": "a", "seed": 3, "frames": 2 * SEGMENT + 1}, place=place)
    assert [Read(text).texts["span"] for text in seen] == [["waiting"], ["running"], ["running"], ["running"]]
    assert ["of 25 frames" in text for text in seen] == [False, True, True, True]
    assert "12 of 25 frames" in seen[1] and "a.parts/index.m3u8" in Read(seen[1]).links()
    assert all('class="growing"' in text for text in seen)


def test_a_page_of_a_stopped_batch_does_not_grow(synth, tmp_path, monkeypatch):
    def stop(self, made):
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoOutput, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        synth({"id": "a", "seed": 3, "frames": 4})
    assert 'class="growing"' not in (tmp_path / "out" / "index.html").read_text()


def test_what_others_wrote_is_text_on_the_page():
    nasty = '"><script>alert(1)</script>'
    wrong = {"id": nasty, "line": 2, "status": "failed", "error": nasty}
    text = page({**CONTENT, "model": nasty, "jobs": [DONE, wrong]}, {}, (80, 64), False)
    shown = Read(text)
    assert nasty not in text and shown.texts["h2"] == ["a", nasty] and nasty in shown.texts["dd"]
    assert [tag for tag, _ in shown.tags].count("script") == 1
    assert not any(link.startswith(("http", "/", "//")) for link in shown.links()) and "url(" not in text


def test_cards_carry_what_they_are_sorted_by():
    jobs = [DONE, {**DONE, "id": "b", "status": "waiting", "seed": None, "frames": 7}]
    first, second = Read(page({**CONTENT, "jobs": jobs}, {}, (80, 64), True)).cards()
    assert (first["data-place"], first["data-id"], first["data-seed"], first["data-length"]) == ("0", "a", "3", "25")
    assert (second["data-place"], second["data-seed"], second["data-length"]) == ("1", "0", "7")
    assert int(second["data-state"]) < int(first["data-state"])  # unfinished ones first
