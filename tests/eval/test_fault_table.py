"""The fault table: a small run, what it says of bad clips, and the claims against the committed table."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vidar.eval.fault_metrics import HEADLINE, METRICS, PART, metric
from vidar.eval.fault_table import run
from vidar.eval.fault_worker import FaultTask, FaultWorker, prepare
from vidar.eval.faults import FAULTS, STRENGTHS
from vidar.eval.ruler_measure import REAL, measure
from vidar.eval.ruler_play import RulerConfig, manifold_seeds
from vidar.eval.ruler_summary import likeness, likeness_parts
from vidar.eval.ruler_worker import COPY
from vidar.types import UsageError

TABLE = Path(__file__).parent.parent.parent / "docs" / "fault-table.md"
TURN = "TURN_LEFT and back"
SMALL = RulerConfig(reference=8, others=6, starts=2, seconds=5.0, only=(TURN,))
SHORT = SMALL.replace(seconds=1.2)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory):
    """A player who turns round and back, from two starts of the maze."""
    place = tmp_path_factory.mktemp("faults")
    made = FaultWorker(FaultTask("doom", SMALL, SMALL.only, place, 0))
    prepare(place, *([made.game.episode(seed, 120) for seed in seeds] for seeds in manifold_seeds(SMALL)))
    yield made
    made.game.close()


@pytest.mark.parametrize("fault", ["blur", "freeze", "loop", "stripes"])
def test_a_bad_clip_wins_no_headline(worker: FaultWorker, fault: str) -> None:
    """Blurred, frozen, looping or striped, it is below the real clip; but for a loop, the more the worse."""
    planted, fps = worker.plays[TURN], worker.world.fps
    views = {str(strength): FAULTS[fault](planted.scene, strength) for strength in range(1, STRENGTHS + 1)}
    rows = {**views, COPY: np.repeat(planted.scene.first[:, None], worker.frames, axis=1)}
    scores = {TURN: measure(rows, planted.played, planted.scene.first, fps, worker.manifold)}
    parts = [likeness_parts(scores, row, worker.manifold.threshold, fps) for row in (REAL, *views)]
    values = [likeness(part) for part in parts]
    assert values[0] == 1.0 and max(values[1:]) < 1.0, values
    assert fault == "loop" or all(after < before for before, after in zip(values, values[1:])), values


def test_a_run_is_complete_and_goes_on(tmp_path: Path) -> None:
    """Every part of the likeness has a row; a second run measures only what is missing, with the same figures."""
    ticks: list[tuple[int, int]] = []
    asked = {"config": SHORT, "faults": ("freeze", "grid"), "workers": 1}
    made = run(tmp_path, docs=tmp_path / "table.md", progress=lambda *tick: ticks.append(tick), **asked)
    assert len(ticks) == 8 + 6 + 2 and ticks[-1] == (16, 16)
    parts = {name for name in made["table"] if name.startswith(PART)}
    assert {f"{PART}{name}" for name in ("picture", "sharp", "colours", "moves", "begins")} <= parts
    assert set(made["table"]) - parts <= set(METRICS) and {"psnr", "ssim", "endless/survival"} <= set(made["table"])
    assert (
        made["table"]["psnr"]["grid"]["values"][0] == pytest.approx(58.92, abs=0.01)
        and made["table"]["psnr"]["grid"]["sees"]
    )
    assert made == json.loads((tmp_path / "faults.json").read_text())
    page = (tmp_path / "faults.html").read_text()
    assert page.count("<img") == 2 and page.index("The faults") < page.index("What metrics see")
    told = overview((tmp_path / "table.md").read_text())
    assert set(told) == set(made["table"]) and told["psnr"]["grid"] == "sees"
    (tmp_path / "faults" / "grid.json").write_text("{")
    ticks.clear()
    again = run(tmp_path, progress=lambda *tick: ticks.append(tick), **asked)
    assert ticks == [(1, 1)] and again["table"] == made["table"]
    ticks.clear()
    run(tmp_path, progress=lambda *tick: ticks.append(tick), **{**asked, "seed": 1, "faults": ("freeze",)})
    assert len(ticks) == 8 + 6 + 1  # other settings: nothing is taken from before


def test_wrong_usage_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    for wrong, message in (
        ({"starts": 1}, "starts: Input should be greater than or equal to 2"),
        ({"seconds": 0.5}, "a play of 9 frames is too short"),
        ({"faults": ("bluer",)}, "has no 'bluer'; did you mean blur"),
        ({"config": SHORT.replace(only=("nobody",))}, "no player 'nobody'; valid: idle"),
        ({"model": "dooom"}, "dooom: no such world"),
    ):
        with pytest.raises(UsageError, match=message):
            run(tmp_path / "out", **{"config": SHORT, **wrong})
    assert not (tmp_path / "out").exists()


def test_metrics_claim_only_what_they_see() -> None:
    """In the committed table every claim holds, and the headline claims all that it sees there."""
    told = overview(TABLE.read_text())
    broken = [(name, fault) for name, row in told.items() for fault in metric(name).claims if row[fault] != "sees"]
    assert not broken
    assert {fault for fault, mark in told[HEADLINE].items() if mark == "sees"} == METRICS[HEADLINE].claims
    few = {name for name in METRICS if name.startswith("frechet/")}  # a table of few clips has no Frechet distances
    assert set(METRICS) - few <= set(told)
    assert all(set(row) == set(FAULTS) for row in told.values())


def test_the_headline_sees_eleven_of_twelve_faults() -> None:
    """The bar of the table."""
    assert sum(mark == "sees" for mark in overview(TABLE.read_text())[HEADLINE].values()) >= 11


@pytest.mark.slow
def test_the_committed_table_is_made_again(tmp_path: Path) -> None:
    """By its command, with the same marks."""
    words = re.search(r"`vidar eval faults (.*) --docs", TABLE.read_text())
    given = dict(re.findall(r"--(starts|seconds) ([0-9.]+)", words[1] if words else ""))
    run(
        tmp_path,
        docs=tmp_path / "table.md",
        starts=int(given["starts"]) if "starts" in given else None,
        seconds=float(given["seconds"]) if "seconds" in given else None,
    )
    assert overview((tmp_path / "table.md").read_text()) == overview(TABLE.read_text())


def overview(text: str) -> dict[str, dict[str, str]]:
    """The first table of the page: metric -> fault -> its mark."""
    lines = text[text.index("| metric | sees |") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {row[0]: dict(zip(rows[0][2:], row[2:])) for row in rows[2:]}
