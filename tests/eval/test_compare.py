"""`vidar eval compare` from files to files: two worlds on the same shards, the page in Chromium, and refusals."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from chromium import NEEDED, SIZES

from vidar.configs.catalog import find, find_world
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.eval import world_suite
from vidar.eval.compare import run
from vidar.eval.paired import figures, read_paired, write_strips
from vidar.eval.plots import strip
from vidar.model.load import save
from vidar.types import UsageError, VidarError

FIGURES = ["PSNR, dB, frames 1-16", "late frames outside the real range of brightness", "frames survived"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Three reports of 20 starts: b is better by one figure and worse by another; c is a in disguise."""
    folder = tmp_path_factory.mktemp("reports")
    random = np.random.Generator(np.random.Philox(0))
    starts = [f"vizdoom-my_way_home-{2_000_000 + n:010d}" for n in range(20)]
    pairing = {"suite": "world", "starts": starts, "frames": 64}
    better = {FIGURES[0]: "higher", FIGURES[1]: "lower", FIGURES[2]: "higher"}
    a = {FIGURES[0]: random.normal(22, 2, 20), FIGURES[1]: random.uniform(0, 0.2, 20), FIGURES[2]: np.full(20, 900.0)}
    b = {
        **a,
        FIGURES[0]: a[FIGURES[0]] + random.normal(1, 0.4, 20),
        FIGURES[1]: a[FIGURES[1]] + random.uniform(0, 0.1, 20),
    }
    for name, values in (("teacher", a), ("student", b), ("twin", a)):
        videos = random.integers(0, 256, (2, 30, 64, 80, 3), dtype=np.uint8)
        pictures = {start: strip(list(videos), range(0, 29, 4), scale=1) for start in starts[:6]}
        strips = write_strips(folder / name, pictures, [f"frame {k}" for k in range(1, 30, 4)])
        content = {"world": "doom", "params": 4_700_000, "steps": 4, "versions": {"vidar": "0"}, **strips}
        content |= {"command": f"vidar eval runs/{name}/model --suite world --out runs/eval/{name}"}
        content |= figures(pairing, values, better).entries()
        (folder / name / "report.json").write_text(json.dumps(content))
    return folder


def test_files_say_what_was_found(reports, tmp_path):
    out = tmp_path / "x" / "y"
    made = run([reports / "teacher", reports / "student" / "report.json"], out)
    assert sorted(file.name for file in out.iterdir()) == ["compare.html", "compare.json"]
    assert json.loads((out / "compare.json").read_text()) == made
    verdicts = {row["figure"]: row["verdict"] for row in made["rows"]["student"]}
    assert verdicts == dict(zip(FIGURES, ("better", "worse", "cannot tell")))
    assert made["rows"]["student"][2]["ties"] == 20 and made["starts"] == 20 and made["tests"] == 3
    html = (out / "compare.html").read_text()
    text = re.sub("<.*?>", " ", html)
    assert "1 better, 1 worse" in text and "better at 20 of 20 starts" in text and "better at 0 of 20 starts" in text
    assert made["command"].replace("<", "") in text and "100,000 drawn choices of signs" in text
    assert html.count("data:image/png") == 12 and html.count("<span>frame 29</span>") == 12 and "2 more" in text
    again = run([reports / "teacher", reports / "student"], out)  # may be repeated
    assert again["rows"] == made["rows"]
    assert run([reports / "teacher", reports / "student"], tmp_path / "z", seed=1)["rows"] != made["rows"]


def test_several_reports_stand_in_one_page(reports, tmp_path):
    made = run([reports / name for name in ("teacher", "student", "twin")], tmp_path)
    assert list(made["rows"]) == ["student", "twin"] and made["tests"] == 6
    assert {row["verdict"] for row in made["rows"]["twin"]} == {"cannot tell"}
    assert {(row["p"], row["low"], row["high"]) for row in made["rows"]["twin"]} == {(1.0, 0.0, 0.0)}
    assert "Figures of student" in (tmp_path / "compare.html").read_text()


def test_nothing_is_written_for_what_cannot_be_compared(reports, tmp_path):
    out = tmp_path / "out"
    old = tmp_path / "old"
    old.mkdir()
    (old / "report.json").write_text(json.dumps({"versions": {}, "command": "vidar eval doom --suite world"}))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "compare.json").write_text("{}")
    for paths, place, error, message in (
        ([reports / "teacher"], out, UsageError, "two reports or more"),
        ([reports / "teacher", reports / "absent"], out, VidarError, "absent: no such report"),
        ([reports / "teacher", old], out, UsageError, "run `vidar eval doom --suite world` again"),
        ([reports / "teacher", reports / "student"], foreign, UsageError, "exists, and vidar did not write it"),
    ):
        with pytest.raises(error, match=message) as caught:
            run(paths, place)
        assert "\n" not in str(caught.value)
    assert not out.exists()


def test_two_worlds_on_the_same_shards(tmp_path, monkeypatch):
    """From recording to verdict: a second evaluation of the same world ties everywhere."""
    record(ShapesConfig(), None, tmp_path / "data", episodes=4, frames=19, split="heldout")
    recipe = find_world(find("world_shapes")(preset="tiny")).replace(context=3)
    for name, seed in (("one", 0), ("two", 1)):
        torch.manual_seed(seed)
        save(recipe.build(), tmp_path / name / "model", dtype=torch.float32)
    for name, model in (("a", "one"), ("b", "two"), ("c", "one")):
        place = tmp_path / "eval" / name
        world_suite.run(str(tmp_path / model / "model"), place, data=tmp_path / "data", frames=16, steps=1)
    made = run([tmp_path / "eval" / name for name in "abc"], tmp_path / "out")
    same, other = made["rows"]["c"], made["rows"]["b"]
    assert {row["ties"] for row in same} == {4} and {row["verdict"] for row in same} == {"cannot tell"}
    assert any(row["ties"] == 0 for row in other) and "no p-value can be below 0.12" in (
        tmp_path / "out" / "compare.html"
    ).read_text().replace("0.12.", "0.12 ")
    read = read_paired(tmp_path / "eval" / "a")
    assert len(read.strips()) == 4
    means = [row["first"] for row in other if row["figure"] == "PSNR, dB, frames 1-16"]
    assert abs(means[0] - read.content["means"]["psnr"]) < 1e-4


class TestPage:
    pytestmark = NEEDED

    @pytest.mark.parametrize("size", SIZES)
    def test_opens_offline(self, browser, reports, tmp_path, size):
        run([reports / name for name in ("teacher", "student", "twin")], tmp_path)
        page = (tmp_path / "compare.html").as_uri()
        tab = browser(page, lambda tab: tab.size(*size), "document.readyState === 'complete'")
        assert tab.get("[...document.images].every(picture => picture.naturalWidth > 0)")
        assert tab.faults == [] and tab.outside() == [] and tab.beyond() <= 0
        places = tab.get(
            "[...document.querySelectorAll('.forest s')].slice(0, 3).map(track => { const box = "
            "track.getBoundingClientRect(), at = x => (x - box.left) / box.width - 0.5;"
            "const dot = track.querySelector('u').getBoundingClientRect(), bar = track.querySelector('i')"
            ".getBoundingClientRect(); return [at(bar.left), at(dot.left + dot.width / 2), at(bar.right)] })"
        )
        assert places[0][0] > 0.05 and places[1][2] < -0.05 and abs(places[2][1]) < 0.01  # better is to the right
        assert all(low <= dot <= high for low, dot, high in places[:2])
