"""`--record`: figures from reports and scripts, written beside the recipe, others kept."""

import importlib.util
import json
from datetime import date
from pathlib import Path

import pytest

import vidar.eval.suites as suites
from vidar.configs import figures
from vidar.configs.figures import Figure, Training
from vidar.eval import demo as demo_module
from vidar.eval.record import check_record, command_line, of_endless, of_outcome, of_world, record
from vidar.types import UsageError, VidarError

SCRIPTS = Path(__file__).parents[2] / "scripts"
REPORT = {
    "episodes": 4,
    "psnr": {"model": [20.0] * 8 + [99.0] * 8, "copy_last": [19.0] * 7 + [23.0] + [0.0] * 8},
    "gains": {
        "copy_last": {"mean": 1.25, "low": 1.0, "high": 1.5, "frames": [1, 16]},
        "shuffled_actions": {"mean": 0.5, "low": -0.25, "high": 1.25, "frames": [4, 16]},
    },
    "means": {"frames": [1, 16]},
    "sharpness_ratio": 0.694,
    "action_score": {"model": {"mean": 0.8}, "real": {"mean": 0.9}},
    "command": "vidar eval m --suite world --out x",
}
ENDLESS = {
    "rollouts": 8,
    "frames": 2000,
    "lines": {
        name: {"figure": share} for name, share in (("brightness", 0.07), ("contrast", None), ("sharpness", 0.014))
    },
    "survival": {"mean": 1117.4, "real_mean": 1500.0},
    "passed": {"brightness": True, "sharpness": False, "actions": None},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "results"
    place.mkdir()
    monkeypatch.setattr(figures, "FOLDER", place)
    return place


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_words(found):
    return [(str(figure), figure.role) for figure in found]


def test_figures_of_a_world():
    data, found = of_world(REPORT)
    assert data == "4 held-out games" and of_world({**REPORT, "data": "x"})[0] == "4 held-out episodes"
    assert in_words(found) == [
        ("+1.25 dB [1.00, 1.50] over copy-last, frames 1-16", "main"),
        ("+0.50 dB [-0.25, 1.25] over shuffled actions, frames 4-16", "baseline"),
        ("+0.50 dB over copy-last, frames 1-8", "detail"),
        ("69 % of real sharpness, frames 1-16", "detail"),
        ("0.889 of the game's keys read back", "detail"),
    ]
    assert len(of_world({**REPORT, "action_score": None})[1]) == 4


def test_figures_of_endless_play():
    data, found = of_endless(ENDLESS)
    assert data == "8 rollouts of 2,000 frames"
    assert [words for words, _ in in_words(found)] == [
        "7.0 % of late frames outside the real range of brightness",
        "1.4 % of late frames outside the real range of sharpness",
        "1,117 frames survived",
        "1,500 frames survived by real play",
        "1 of 2 criteria are met",
    ]


def test_a_suite_records_what_it_found(folder, tmp_path, monkeypatch):
    class Fake:
        @staticmethod
        def run(model, out, **options):
            return REPORT

    monkeypatch.setattr(suites, "import_module", lambda name: Fake)
    model = tmp_path / "runs" / "w" / "model"
    model.mkdir(parents=True)
    log = [{"step": 50, "elapsed": 30.0}, {"step": 303, "elapsed": 906.0, "loss": 1.0}, {"event": "done", "step": 303}]
    (model.parent / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    monkeypatch.chdir(tmp_path)
    options = {"episodes": 4, "data": tmp_path / "data"}
    made = suites.run_suite("world", "runs/w/model", tmp_path / "out", options, "world_shapes")
    assert made == REPORT
    results = figures.read("world_shapes")
    (found,) = results.measurements
    assert found.command == "vidar eval runs/w/model --suite world --episodes 4 --data data"
    assert found.date == date.today().isoformat() and list(found.figures) == of_world(REPORT)[1]
    assert results.training == Training(minutes=15.1, steps=303)
    suites.run_suite("world", "runs/w/model", tmp_path / "out", options)
    assert [file.name for file in folder.iterdir()] == ["world_shapes.json"]


def test_other_measurements_and_the_training_stay(folder):
    one, two = [Figure(name="of it", value=1.0, role="main")], [Figure(name="of it", value=2.0, role="main")]
    record("idm", "a", ("data", one))
    known = figures.read("idm").replace(training=Training(minutes=45, note="one thread"))
    figures.write(known)
    record("idm", "b", ("data", one), "doom")
    record("idm", "a", ("data", two), note="again")
    results = figures.read("idm")
    assert [(m.command, m.figures[0].value, m.note) for m in results.measurements] == [
        ("a", 2.0, "again"),
        ("b", 1.0, ""),
    ]
    assert results.training == known.training


def test_what_cannot_be_recorded_is_refused_before_anything_is_measured(folder, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("measured")

    monkeypatch.setattr(suites, "import_module", refuse)
    monkeypatch.setattr(demo_module, "judge", refuse)
    with pytest.raises(UsageError, match="no recipe 'wrld_doom'; did you mean world_doom"):
        suites.run_suite("world", "m", tmp_path, {}, "wrld_doom")
    with pytest.raises(UsageError, match="no recipe 'zzz'"):
        demo_module.demo(tmp_path / "out", recipe="zzz")
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "absent")
    with pytest.raises(VidarError, match="does not exist"):
        check_record("world_doom")


def test_the_demo_records_under_its_shortest_command(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_module, "judge", lambda *_, **__: REPORT)
    demo_module.demo(tmp_path / "out", episodes=4, recipe="world_doom")
    demo_module.demo(tmp_path / "out", recipe="world_doom")
    demo_module.demo(tmp_path / "out", model="other", recipe="world_doom")
    assert [m.command for m in figures.read("world_doom").measurements] == [
        *("vidar demo --episodes 4", "vidar demo", "vidar demo --model other"),
    ]


def test_command_lines_of_scripts():
    words = ["a", "--record", "x", "b c", "--record=y", "--frames", "3"]
    assert command_line("/somewhere/scripts/s.py", words) == "python scripts/s.py a 'b c' --frames 3"


def test_drift_is_recorded_by_span_beside_the_other_world():
    module = script("compare_drift")
    import numpy as np

    spans, ones = [(1, 2), (3, 4)], np.ones((3, 2, 4))
    own = module.gains(ones * np.array([2, 4, 6, 8.0]), ones, spans)
    assert own == {(1, 2): 2.0, (3, 4): 6.0}
    found = module.figures(own, {"world_shapes": {(1, 2): 0.5, (3, 4): 1.0}})
    assert in_words(found) == [
        ("+2.00 dB over copy-last, frames 1-2", "main"),
        ("+6.00 dB over copy-last, frames 3-4", "detail"),
        ("+0.50 dB by world_shapes, frames 1-2", "baseline"),
        ("+1.00 dB by world_shapes, frames 3-4", "detail"),
    ]


def test_rewards_and_ends_are_recorded_of_recorded_and_dreamed_frames():
    unknown = {"reward": {"r2": None, "r2_of_last_reward": None}, "end": {"balanced_accuracy": None}}
    known = {"reward": {"r2": 0.81, "r2_of_last_reward": 0.25}, "end": {"balanced_accuracy": 0.75}}
    data, figures = of_outcome({"episodes": 3, "recorded": known, "dreamed": unknown})
    found = in_words(figures)
    assert data == "3 held-out episodes" and len(found) == 3
    assert found[0] == ("0.810 R2 of the reward, recorded frames", "main")
    assert found[1] == ("0.250 R2 of the last reward, recorded frames", "baseline")
    assert found[2] == ("0.750 balanced accuracy of the end, recorded frames", "detail")
