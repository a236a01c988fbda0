"""Jobs: every line is checked, and what is wrong is said with its remedy."""

import numpy as np
import pytest
from tiny import pictures

from vidar.configs.doom import world_doom
from vidar.data.explore import HoldPolicyConfig
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import write_video
from vidar.synth.jobs import read_jobs, seed_of
from vidar.synth.random_actions import random_actions
from vidar.synth.starts import starts_of
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
    "no id": ({"seed": 1, "frames": 3}, "id: Field required"),
    "a text for a number": ({**GOOD, "seed": "1"}, "seed: Input should be a valid integer"),
    "a fraction of a seed": ({**GOOD, "seed": 0.5}, "seed: Input should be a valid integer"),
    "a number for a text": ({**GOOD, "id": 7}, "id: Input should be a valid string"),
    "yes for a number": ({"id": "a", "seconds": True}, "seconds: Input should be a valid number"),
    "a size as text": ({**GOOD, "size": "320x256"}, "size: Input should be a valid tuple"),
    "a size in fractions": ({**GOOD, "size": [320.5, 256]}, "size.0: Input should be a valid integer"),
    "a device": ({**GOOD, "id": "Con.1"}, "id 'Con.1' is the name of a device on Windows"),
    "another case": ({**GOOD, "id": "BEFORE"}, "taken by job 'before' of line 1 (upper and lower case count as equal)"),
    "twice the same field": ('{"id": "a", "frames": 3, "frames": 4}', "gives frames twice"),
    "a path": ({**GOOD, "id": "../x"}, "cannot name a file"),
    "hidden": ({**GOOD, "id": ".x"}, "cannot name a file"),
    "a line break": ({**GOOD, "id": "x\n"}, "cannot name a file"),
    "empty": ({**GOOD, "id": ""}, "cannot name a file"),
    "the manifest": ({**GOOD, "id": "manifest"}, "manifest.json is already taken by the manifest"),
    "negative": ({**GOOD, "frames": -3}, "frames: Input should be greater than or equal to 1"),
    "no length": ({"id": "a", "seed": 0}, "exactly one of frames and seconds"),
    "both lengths": ({**GOOD, "seconds": 1}, "exactly one of frames and seconds"),
    "far too long": ({"id": "a", "seconds": 1e9}, "seconds 1e+09: longer than the limit of 86400 seconds"),
    "far too many frames": ({"id": "a", "frames": 10**400}, "--limit SECONDS raises it"),
    "not a number of seconds": ('{"id": "a", "seconds": NaN}', "seconds: Input should be a finite number"),
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
    "huge": ({**GOOD, "size": [16, 10000]}, "width and height must be even, from 2 to 8192"),
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
    ids = ["a", "a", "b.drift", "b", "c", "D", "d"]
    plans, refused = read_jobs(write_jobs(*({**GOOD, "id": name} for name in ids)), CONFIG, start)
    assert [plan.job.id for plan in plans] == ["a", "b.drift", "c", "D"]
    assert "a.mp4 is already taken by job 'a' of line 1" in refused[0].error
    assert "b.drift.png is already taken by job 'b.drift' of line 3" in refused[1].error
    assert "d.mp4 is already taken by job 'D' of line 6 (upper and lower case count as equal)" in refused[2].error


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


def test_no_other_clip_takes_the_place_of_a_missing_start(tmp_path, write_jobs):
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "starts").mkdir()
    write_video(tmp_path / "starts" / "01.mp4", pictures(5, 0), 17.5)
    for spread in (False, True):
        (plans, (one,)) = read_jobs(write_jobs(GOOD), CONFIG, starts_of(tmp_path, spread))
        assert not plans and "ships no start.mp4; give the job a context" in one.error


def test_files_that_are_none(tmp_path, start, write_jobs):
    with pytest.raises(UsageError, match="no.jsonl: not readable as a file of jobs"):
        read_jobs(tmp_path / "no.jsonl", CONFIG, start)
    (plans, (one,)) = read_jobs(write_jobs(GOOD), CONFIG, None)
    assert not plans and "ships no start" in one.error


def test_the_limit_can_be_raised(start, write_jobs):
    file = write_jobs({"id": "a", "seconds": 90}, {"id": "b", "frames": 1576})
    assert [len(found) for found in read_jobs(file, CONFIG, start, limit=90)] == [1, 1]
    assert [plan.frames for plan in read_jobs(file, CONFIG, start, limit=91)[0]] == [1575, 1576]


def test_a_seed_that_is_left_out_follows_from_the_id(start, write_jobs):
    """The job with that seed written out is the same job."""
    (plan, other), _ = read_jobs(write_jobs({"id": "a", "frames": 3}, {"id": "b", "frames": 3}), CONFIG, start)
    assert plan.seed == int("ca978112", 16) and other.seed != plan.seed  # the first digits of sha256("a")
    (named,), _ = read_jobs(write_jobs({"id": "a", "seed": plan.seed, "frames": 3}), CONFIG, start)
    assert named.digest == plan.digest and np.array_equal(named.actions(), plan.actions())


def test_jobs_begin_at_different_clips(tmp_path, write_jobs):
    """Those without a seed always, those with a seed where it is asked for; a context of their own comes first."""
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "starts").mkdir()
    for name in ("start.mp4", "starts/2.mp4", "starts/1.mp4"):
        write_video(tmp_path / name, pictures(5, len(name) + ord(name[-5])), 17.5)
    jobs = [{"id": f"j{n}", "seed": n, "frames": 3} for n in range(4)]
    jobs += [{"id": f"k{n}", "frames": 3} for n in range(20)]
    jobs += [{"id": "own", "frames": 3, "context": str(tmp_path / "starts/2.mp4")}]

    def names(spread):
        plans, refused = read_jobs(write_jobs(*jobs), CONFIG, starts_of(tmp_path, spread))
        assert not refused
        return {plan.job.id: plan.start.removeprefix(f"{tmp_path}/") for plan in plans}

    order = ["start.mp4", "starts/1.mp4", "starts/2.mp4"]
    kept, spread = names(False), names(True)
    assert [kept[f"j{n}"] for n in range(4)] == order[:1] * 4
    assert [spread[f"j{n}"] for n in range(4)] == [*order, order[0]]
    assert {kept[f"k{n}"] for n in range(20)} == set(order) and kept["own"] == spread["own"] == order[2]
    assert all(kept[name] == spread[name] == order[seed_of(name) % 3] for name in kept if name.startswith("k"))
    for name in order[1:]:
        (tmp_path / name).unlink()
    assert set(names(True).values() if jobs.pop() else ()) == {"start.mp4"}


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
