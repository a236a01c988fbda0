"""Which frames, keys and poses the inverse-dynamics network is given, and when the scores are left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vidar.eval.action_score as module
from vidar.configs.catalog import find, find_world
from vidar.eval.action_score import chance, read_back, reader
from vidar.eval.world_eval import evaluate
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.types import UsageError

CONTEXT, FRAMES = 3, 16
GROUPS = {"turning": KeyGroup(classes=(("LEFT",), ("RIGHT",))), "left": KeyGroup(classes=(("LEFT",),))}


class Truth:
    """Turns the ring of noise of the turning game by the keys."""

    def frames(self, context, actions, *rest):
        now = context[:, -1]
        for action in actions:
            steps = (3 * (action[:, 1] - action[:, 0])).int().tolist()
            now = torch.stack([torch.roll(one, step, 1) for one, step in zip(now, steps)])
            yield now


@pytest.fixture
def net(turning):
    torch.manual_seed(0)
    spec = turning(1, 4)[0].spec
    return InverseDynamicsNetConfig(spec=spec, groups=GROUPS, height=16, width=24, before=2, after=1).build()


@pytest.fixture
def given(monkeypatch):
    calls = []

    def score(net, frames, actions, poses):
        calls.append((frames, actions, poses))
        return {"turning": 1 / 3 + len(calls), "mean": float("nan")}

    monkeypatch.setattr(module, "action_scores", score)
    return calls


def test_all_generated_frames_are_judged_with_real_frames_before_them(turning, net, given):
    episodes = [replace(e, extras={"pose": np.full((25, 4), e.frames[0, 0, 0, 0], np.float32)}) for e in turning(3, 25)]
    scores = evaluate(Truth(), episodes, CONTEXT, FRAMES)
    found = read_back(net, scores, episodes, CONTEXT)
    assert found["shuffled_actions"] == {"turning": 3.3333, "left": None, "mean": None} and len(given) == 3
    rows = slice(CONTEXT - 2, CONTEXT + FRAMES)
    for video, (frames, actions, poses) in zip((scores.real, scores.dreamed, scores.shuffled), given, strict=True):
        assert np.array_equal(frames[:, 2:], video)
        assert net.config.steps(frames.shape[1]) == slice(2, 2 + FRAMES - 1)  # the first generated frame has its window
        for e, episode in enumerate(episodes):
            assert np.array_equal(frames[e, :2], episode.frames[CONTEXT - 2 : CONTEXT])
            assert np.array_equal(actions[e], episode.actions[rows])  # the true ones, for the wrong keys too
            assert np.array_equal(poses[e], episode.extras["pose"][rows])
    assert np.array_equal(given[0][0], given[1][0])  # a dream that is the game has the score of the game


def test_ceiling_and_floor_of_a_world_that_is_the_game(turning, net, monkeypatch):
    """A reader that makes no mistakes: it looks which way the ring turned."""

    def score(net, frames, actions, poses):
        steps = range(*net.config.steps(frames.shape[1]).indices(frames.shape[1]))
        turn = 3 * (actions[..., 1] - actions[..., 0]).astype(int)
        right = [
            np.array_equal(np.roll(frames[e, t - 1], turn[e, t], axis=1), frames[e, t])
            for e in range(len(frames))
            for t in steps
        ]
        assert len(right) == 6 * (FRAMES - 1)
        return {"mean": float(np.mean(right))}

    monkeypatch.setattr(module, "action_scores", score)
    episodes = turning(6, 25)
    found = read_back(net, evaluate(Truth(), episodes, CONTEXT, FRAMES), episodes, CONTEXT)
    assert found["real"]["mean"] == found["model"]["mean"] == 1.0
    assert 0.3 < found["shuffled_actions"]["mean"] < 0.7  # two keys: a coin, 90 throws, 4 deviations


def test_scores_of_the_network_itself_are_those_of_its_frames(turning, net):
    episodes = turning(3, 25)
    found = read_back(net, evaluate(Truth(), episodes, CONTEXT, FRAMES), episodes, CONTEXT)
    assert found["model"] == found["real"] and set(found["real"]) == {"turning", "left", "mean"}


def test_nothing_to_judge_is_no_score(turning, net):
    groups = {"turning": GROUPS["turning"].replace(axis="turn", signs=(1, -1))}
    still = net.config.replace(groups=groups).build()
    pressed = [replace(e, extras={"pose": np.zeros((25, 4), np.float32)}) for e in turning(2, 25)]  # keys, no motion
    found = read_back(still, evaluate(Truth(), pressed, CONTEXT, FRAMES), pressed, CONTEXT)
    assert found["real"] == {"turning": None, "mean": None}


def test_without_poses_and_with_a_short_context(turning, net, given):
    episodes = turning(2, 25)
    read_back(net, evaluate(Truth(), episodes, 1, FRAMES), episodes, 1)
    frames, actions, poses = given[0]
    assert frames.shape[1] == actions.shape[1] == 1 + FRAMES and poses is None


def test_chance_is_one_over_the_labels(net):
    assert chance(net) == pytest.approx({"turning": 1 / 3, "left": 1 / 2, "mean": 5 / 12})


def test_which_network_reads(turning, net, tmp_path, monkeypatch):
    shapes = find_world(find("world_shapes")(preset="tiny"))
    world = shapes.replace(height=16, width=24, actions=turning(1, 4)[0].spec)
    net.save_pretrained(tmp_path / "idm")
    monkeypatch.setattr(module, "shipped", lambda name: None)
    assert reader(world, tmp_path / "idm").net is not None
    nobody = reader(world)
    assert nobody.net is None and "no inverse-dynamics model ships for world 'shapes'" in nobody.reason
    with pytest.raises(UsageError, match="idm: it needs frames of 16 x 24, the world has 32 x 32; train one"):
        reader(shapes, tmp_path / "idm")
    with pytest.raises(UsageError, match="it knows the actions LEFT, RIGHT, the world move"):
        reader(shapes.replace(height=16, width=24), tmp_path / "idm")
    asked = []
    monkeypatch.setattr(module, "shipped", lambda name: asked.append(name) or tmp_path / "idm")
    assert reader(world).net is not None and asked == ["shapes"]
    assert reader(shapes).net is None and "does not fit: it needs frames of 16 x 24" in reader(shapes).reason
