"""Guided worlds: against plain ones, in closed form, and as streams that are alone and go back."""

import numpy as np
import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.configs.videoar import videoar_shapes
from vidar.model.model import VideoModel
from vidar.rollout.joint import JointStream
from vidar.sampling.guidance import GuidanceConfig, ProjectedGuidanceConfig, guide
from vidar.types import UsageError

RECIPES = {"frames": world_shapes, "scales": videoar_shapes}


def built(recipe, **changes):
    torch.manual_seed(0)
    made = RECIPES[recipe](preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def guided(world, steps=None, **weights):
    config = world.config if steps is None else world.config.with_steps(steps)
    return VideoModel(config.replace(guidance=GuidanceConfig(**weights)), world.tokenizer, world.net)


def context(frames=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)


def table(world, count, seed=1):
    rng = np.random.default_rng(seed)
    spec = world.config.actions
    return torch.from_numpy(
        np.stack([rng.integers(a.lowest, a.highest + 1, count) for a in spec.actions], 1).astype(np.float32)
    )


def codes(world, actions, seed=3, before=None):
    streams = world.rollout(1)
    streams.begin(0, context(), before, seed)
    return torch.stack([streams.frame(action[None])[0] for action in actions])


@pytest.mark.parametrize("recipe", RECIPES)
def test_weight_one_is_no_guidance_and_weight_zero_knows_no_action(recipe):
    world = built(recipe)
    one, other = table(world, 5), table(world, 5, seed=2)
    before = table(world, 4).numpy()
    plain = codes(world, one, before=before)
    assert torch.allclose(codes(guided(world, first=1, last=1), one, before=before), plain, atol=1e-4)
    none = guided(world, first=0, last=0)
    assert torch.equal(codes(none, one, before=before), codes(none, other))
    assert not torch.allclose(codes(none, one), plain, atol=1e-4)


def test_one_solver_step_is_linear_in_the_weight():
    """Of the first new frame: x(w) = x(0) + w (x(1) - x(0))."""
    world = built("frames")
    action = table(world, 1)
    at = {w: codes(guided(world, steps=1, first=w, last=w), action) for w in (0.0, 1.0, 2.5)}
    assert torch.allclose(at[2.5], at[0.0] + 2.5 * (at[1.0] - at[0.0]), atol=1e-4)
    assert not torch.allclose(at[1.0], at[0.0], atol=1e-3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_guided_rows_are_alone_and_go_back(recipe):
    world = guided(built(recipe), first=1.5, last=3.0)
    actions = table(world, 6)
    both, alone = world.rollout(2), world.rollout(2)
    for streams in (both, alone):
        streams.begin(0, context(), None, 5)
    both.begin(1, context(seed=4), None, 6)
    snapshot = both.snapshot()
    straight = [both.frame(actions[[t, 5 - t]]) for t in range(5)]
    assert all(torch.equal(straight[t][0], alone.frame(actions[[t, t]])[0]) for t in range(5))
    for row, other in zip(both.state.rows[:2], both.state.rows[2:], strict=True):  # one dream, asked twice
        assert row.codes and row.codes.keys() == other.codes.keys()
        assert all(torch.equal(code, other.codes[unit]) for unit, code in row.codes.items())
    both.restore(snapshot, [1])
    again = both.frame(actions[[5, 5]])
    assert torch.equal(again[1], straight[0][1])


def test_weights_run_over_calls_and_frames():
    ramp = GuidanceConfig(first=1.0, last=4.0)
    frames = torch.tensor([0, 10])
    assert [ramp.weights(call, 4, frames).tolist() for call in range(4)] == [[w, w] for w in (1.0, 2.0, 3.0, 4.0)]
    falling = GuidanceConfig(first=3.0, last=3.0, fall=10.0, rest=0.25).weights(0, 1, frames)
    assert torch.allclose(falling, 1 + 2 * torch.tensor([1.0, 0.25 + 0.75 * np.exp(-1)]).float())
    out = torch.tensor([[[1.0]], [[2.0]], [[5.0]], [[1.0]]])
    assert guide(out, torch.tensor([2.0, 0.5])).flatten().tolist() == [-3.0, 1.5, -3.0, 1.5]


def test_projected_guidance_turns_an_answer_and_does_not_stretch_it():
    """By hand: cond (3, 4) and none (3, 0) differ by (0, 4); along cond lie 0.64 cond = (1.92, 2.56) of it."""
    cond, none, w = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[3.0], [0.0]]]), torch.tensor([3.0])
    both = torch.cat([cond, none])
    free = {"weight": 3.0, "longest": 100.0}
    want = torch.tensor([3 - 2 * 1.92, 4 + 2 * (4 - 2.56)]).reshape(1, 2, 1)
    made = ProjectedGuidanceConfig(**free).combine(both, w)
    torch.testing.assert_close(made, torch.cat([want, want]))
    torch.testing.assert_close(ProjectedGuidanceConfig(**free, along=1.0).combine(both, w), guide(both, w))
    short = ProjectedGuidanceConfig(weight=3.0, longest=0.5).combine(both, w) - cond  # rms of (0, 4) is sqrt(8)
    torch.testing.assert_close(short[:1], (want - cond) * 0.5 / 8**0.5)
    rows = torch.cat([cond, 7 * cond, none, none])
    made = ProjectedGuidanceConfig(**free).combine(rows, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(made[:2], torch.cat([want, 7 * cond]))  # every row by itself; weight 1 is cond


def test_joint_frames_are_not_guided():
    world = built("frames")
    with pytest.raises(UsageError, match="guidance"):
        JointStream(guided(world, first=2, last=2).setting(), 2)
