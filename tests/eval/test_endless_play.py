"""The suite `endless` on the real game: recordings, the game elsewhere, and the whole run of a tiny world."""

import json

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.configs.idm import idm
from vidar.data.explore import ReplayPolicy
from vidar.eval import endless_play as places
from vidar.eval.endless import run
from vidar.eval.endless_play import EndlessConfig, elsewhere, play
from vidar.eval.held_out import game_of
from vidar.model.load import save
from vidar.types import UsageError, VidarError

LOOKS = {"brightness", "contrast", "sharpness"}
SMALL = EndlessConfig(reference=1, reference_frames=130, judged=16)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "tiny"
    torch.manual_seed(0)
    config = world_doom(preset="tiny").method.world
    save(config.replace(context=4, objective=config.objective.replace(steps=1)).build(), folder)
    return folder


def test_real_games_are_held_out_and_each_rollout_has_its_own():
    pytest.importorskip("vizdoom")
    world = world_doom(preset="tiny").method.world.replace(context=4)
    ticks = []
    made = play(world, 2, 64, 3, SMALL, ticks.append)
    assert made.frames.shape == (2, 68, 64, 80, 3) and made.poses.shape == (2, 68, 4) and ticks == [130, 68, 68]
    numbers = [int(name.rsplit("-", 1)[1]) for names in made.games for name in names]
    assert min(numbers) > 1_503_000 and len(set(numbers)) == len(numbers)  # 1,503,000 is a game of the range
    again = play(world, 2, 64, 3, SMALL)
    assert np.array_equal(made.frames, again.frames) and made.real_range == again.real_range
    with pytest.raises(VidarError, match=r"the suite needs a world of this game"):
        play(world.replace(fps=35.0 / 4 + 0.1), 2, 64, 0, SMALL)


def test_elsewhere_is_the_game_under_the_same_keys_in_another_place(monkeypatch):
    pytest.importorskip("vizdoom")
    world = world_doom(preset="tiny").method.world.replace(context=4)
    made = play(world, 2, 64, 3, SMALL)
    seen = torch.stack(list(elsewhere(world, made, 3, SMALL).frames()), 1).numpy()
    assert seen.shape == (2, 64, 64, 80, 3) and not np.array_equal(seen, made.frames[:, 4:])
    keys = np.concatenate([np.zeros((1, 5), np.float32), made.actions[0, 4:]])
    with game_of(world, SMALL.scenario, 65).build() as running:
        assert np.array_equal(seen[0], running.episode(SMALL.first_of(3) + 500, ReplayPolicy(keys)).frames[1:])
    monkeypatch.setattr(places, "game_of", lambda world, scenario, frames: game_of(world, scenario, 40))
    joined_up = torch.stack(list(elsewhere(world, made, 3, SMALL).frames()), 1).numpy()  # games of 39 steps
    assert np.array_equal(joined_up[0, :39], seen[0, :39]) and joined_up[:, 39:].any((2, 3, 4)).all()


def test_run_writes_a_report(tiny, tmp_path):
    pytest.importorskip("vizdoom")
    idm(preset="tiny").method.model.build().save_pretrained(tmp_path / "idm")
    how = {"rollouts": 2, "frames": 64, "config": SMALL, "idm": tmp_path / "idm"}
    seen = []
    report = run(str(tiny), tmp_path / "a/b", **how, progress=lambda *x: seen.append(x))
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    stored = json.loads((tmp_path / "a/b/report.json").read_text())
    assert stored == report
    assert (
        set(report["passed"])
        == set(report["lines"])
        == LOOKS | {*("motion", "motion_late", "actions", "memory", "cache", "frame_time")}
    )
    for name, line in report["lines"].items():
        assert line["passed"] is report["passed"][name] and (line["figure"] is None) == (line["passed"] is None)
    assert set(report["obeyed"]["model"]) == {"turning", "forward", "sideways", "mean"}
    assert report["passed"]["cache"] is True
    assert {name for name, line in report["lines"].items() if line["elsewhere"] is not None} == LOOKS | {
        "motion",
        "motion_late",
        "actions",
    }
    assert len(report["survival"]["per_rollout"]) == 2 and 1 <= report["survival"]["mean"] <= 64
    html = (tmp_path / "a/b/report.html").read_text()
    assert "Acceptance criteria" in html and html.count("data:image/png") == 2 and html.isascii()
    with pytest.raises(UsageError, match="2 rollouts and 64 frames or more, not 1 and 2000"):
        run(str(tiny), tmp_path / "c", rollouts=1)
