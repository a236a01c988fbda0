"""Jobs: every line is checked, and what is wrong is said with its remedy."""

import numpy as np
import pytest
from tiny import pictures

from vidar.configs.doom import world_doom
from vidar.data.explore import HoldPolicyConfig
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import write_video
from vidar.synth.jobs import read_jobs
from vidar.synth.random_actions import random_actions
from vidar.types import UsageError

CONFIG = world_doom(preset="tiny").method.world
GOOD = {"id": "a", "seed": 0, "frames": 3}


@pytest.fixture
def start(tmp_path):
    write_video(tmp_path / "start.mp4", pictures(5, 0), 17.5)
    return tmp_path / "start.mp4"


WRONG = {
    "not JSON": ("{", "not readable as JSON"),
    "not an object": ("[1]\n", "is not an object"),
    "too deep": ("[" * 100_000 + "\n", "not readable as JSON"),
    "unknown key": ({**GOOD, "sed": 1}, "has no 'sed'; did you mean seed"),
    "no seed": ({"id": "a", "frames": 3}, "seed: Field required"),
    "a path": ({**GOOD, "id": "../x"}, "cannot name a file"),
    "hidden": ({**GOOD, "id": ".x"}, "cannot name a file"),
    "a line break": ({**GOOD, "id": "x\n"}, "cannot name a file"),
    "empty": ({**GOOD, "id": ""}, "cannot name a file"),
    "the manifest": ({**GOOD, "id": "manifest"}, "manifest.json is already taken by the manifest"),
    "negative": ({**GOOD, "frames": -3}, "frames: Input should be greater than or equal to 1"),
    "no length": ({"id": "a", "seed": 0}, "exactly one of frames and seconds"),
    "both lengths": ({**GOOD, "seconds": 1}, "exactly one of frames and seconds"),
    "endless": ('{"id": "a", "seed": 0, "seconds": Infinity}\n', "seconds"),
    "too short": ({"id": "a", "seed": 0, "seconds": 0.01}, "less than a frame at 17.5"),
    "no such context": ({**GOOD, "context": "no.mp4"}, "no.mp4: no such video file"),
    "small context": ({**GOOD, "context": "small.mp4"}, "small.mp4: is 80x80, this model is 80x64"),
    "no such actions": ({**GOOD, "actions": "no.npy"}, "no.npy: no such file of actions"),
    "wide actions": ({**GOOD, "actions": "wide.npy"}, "wide.npy: actions have shape 4x6, expected T x 5"),
    "NaN": ({**GOOD, "actions": "nan.npy"}, "nan.npy: action 'TURN_RIGHT' row 2 is nan"),
    "few actions": ({**GOOD, "frames": 9, "actions": "good.npy"}, "4 actions are too few for 9 frames"),
    "fps": ({**GOOD, "fps": 30}, "fps 30: this world runs at 17.5"),
    "words": ({**GOOD, "prompt": "a hall"}, "takes actions, and no prompt"),
    "planner": ({**GOOD, "planner": "tree"}, "planner 'tree': there is autoregressive"),
    "odd": ({**GOOD, "size": [161, 128]}, "width and height must be even"),
    "one side": ({**GOOD, "size": [160]}, "size"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_refused_and_the_others_are_not(case, start, write_jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("small.mp4", ShapesConfig(height=80, width=80).build().episode(0).frames[:2], 10)
    good = np.zeros((4, 5), np.float32)
    np.save("good.npy", good)
    np.save("wide.npy", np.zeros((4, 6), np.float32))
    good[2, 1] = np.nan
    np.save("nan.npy", good)
    line, problem = WRONG[case]
    file = write_jobs({**GOOD, "id": "before"}, "\n", line if isinstance(line, dict) else line.rstrip() + "\n",
                      {**GOOD, "id": "after", "actions": "good.npy"})  # fmt: skip
    plans, refused = read_jobs(file, CONFIG, start)
    assert [(plan.job.id, plan.line, plan.frames) for plan in plans] == [("before", 1, 3), ("after", 4, 3)]
    (one,) = refused
    assert one.line == 3 and problem in one.error and "\n" not in one.error


def test_names_in_the_folder_are_taken_once(start, write_jobs):
    ids = ["a", "a", "b.drift", "b", "c"]
    plans, refused = read_jobs(write_jobs(*({**GOOD, "id": name} for name in ids)), CONFIG, start)
    assert [plan.job.id for plan in plans] == ["a", "b.drift", "c"]
    assert "a.mp4 is already taken by job 'a' of line 1" in refused[0].error
    assert "b.drift.png is already taken by job 'b.drift' of line 3" in refused[1].error


def test_what_a_job_comes_to(start, write_jobs):
    file = write_jobs({"id": "a", "seed": 1, "seconds": 60, "fps": 17.5}, {**GOOD, "id": "b", "context": str(start)})
    plans, refused = read_jobs(file, CONFIG, start)
    assert not refused and [plan.frames for plan in plans] == [1050, 3]
    assert plans[0].context().shape == (5, 64, 80, 3) and plans[0].actions().shape == (1050, 5)


def test_a_digest_is_of_all_that_the_frames_follow_from(start, write_jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = np.zeros((4, 5), np.float32)

    def digest(**changes):
        return read_jobs(write_jobs({**GOOD, "actions": "keys.npy", **changes}), CONFIG, start)[0][0].digest

    np.save("keys.npy", keys)
    first = digest()
    assert digest(seed=1) != first and digest(frames=2) != first and digest(size=[40, 32]) != first
    keys[3] = 1
    np.save("keys.npy", keys)
    assert digest() == first  # a row behind the end
    keys[0] = 1
    np.save("keys.npy", keys)
    assert digest() != first
    del keys
    write_video(start, pictures(5, 9), 17.5)
    assert digest(actions=None) != digest(actions=None, frames=2)
    before = digest(actions=None)
    write_video(start, pictures(5, 8), 17.5)
    assert digest(actions=None) != before


def test_files_that_are_none(tmp_path, start, write_jobs):
    with pytest.raises(UsageError, match="no.jsonl: not readable as a file of jobs"):
        read_jobs(tmp_path / "no.jsonl", CONFIG, start)
    with pytest.raises(UsageError, match="holds no jobs"):
        read_jobs(write_jobs("\n"), CONFIG, start)
    (plans, (one,)) = read_jobs(write_jobs(GOOD), CONFIG, None)
    assert not plans and "ships no start" in one.error


def test_a_walk_follows_from_its_seed():
    spec = CONFIG.actions
    long, short = random_actions(spec, 3, 300), random_actions(spec, 3, 50)
    assert np.array_equal(long[:50], short) and not np.array_equal(random_actions(spec, 4, 50), short)
    spec.validate_actions(long, "walk")
    ahead, left, right = (long[:, spec.names.index(n)] for n in ("MOVE_FORWARD", "TURN_LEFT", "TURN_RIGHT"))
    assert ahead.mean() > 0.5 and 0 < (left + right).mean() < 0.5 and not (left * right).any()
    shapes = ShapesConfig().build().spec
    shapes.validate_actions(random_actions(shapes, 0, 100), "walk")
    assert len(np.unique(random_actions(shapes, 0, 100))) > 1 and HoldPolicyConfig().p_rest
