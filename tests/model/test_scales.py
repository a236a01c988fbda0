"""Worlds that predict their frames scale by scale: streams, moments, saving, refusals."""

import numpy as np
import pytest
import torch

from vidar.configs.videoar import videoar_shapes
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.rollout.joint import JointStream
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    made = videoar_shapes(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def context(frames=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)


def actions(count, seed=1):
    spec = videoar_shapes(preset="tiny").method.world.actions
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(a.lowest, a.highest + 1, count) for a in spec.actions], 1).astype(np.float32)


def test_a_clip_is_that_of_its_seed_and_its_keys(world):
    clip = world.generate(context(), actions(6), seed=3).frames
    assert clip.shape == (1, 6, 32, 32, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, world.generate(context(), actions(6), seed=3).frames)
    assert not np.array_equal(clip, world.generate(context(), actions(6), seed=4).frames)
    assert not np.array_equal(clip, world.generate(context(), actions(6, seed=2), seed=3).frames)


def test_rows_are_alone_and_one_may_begin_later(world):
    """At equal capacity a row has the bits of itself alone, whatever the other does."""
    table = torch.from_numpy(actions(8))
    both, alone = world.rollout(2), world.rollout(2)
    both.begin(0, context(), None, 5)
    alone.begin(0, context(), None, 5)
    for t in range(3):
        assert torch.equal(both.frame(table[[t, t]])[0], alone.frame(table[[t, t]])[0])
    both.begin(1, context(2, seed=9), None, 6)
    later = world.rollout(2)
    later.begin(1, context(2, seed=9), None, 6)
    for t in range(3, 8):
        pair = both.frame(table[[t, t]])
        assert torch.equal(pair[0], alone.frame(table[[t, t]])[0]) and torch.equal(
            pair[1], later.frame(table[[t, t]])[1]
        )


def test_going_back_gives_the_same_bits(world):
    table, streams = torch.from_numpy(actions(12)), world.rollout(1)
    streams.begin(0, context(), None, 5)
    straight = []
    snapshot = streams.snapshot()
    for t in range(6):
        straight.append(streams.frame(table[[t]]))
    streams.restore(snapshot)
    for t in range(5):
        streams.frame(table[[11 - t]])
    streams.restore(snapshot)
    assert all(torch.equal(streams.frame(table[[t]]), straight[t]) for t in range(6))
    streams.release(snapshot)


def test_what_is_shown_is_what_later_frames_see(world):
    """The code of a frame is the content of its memory unit."""
    streams = world.rollout(1)
    streams.begin(0, context(), None, 5)
    code = streams.frame(torch.from_numpy(actions(1)))
    row = streams.state.rows[0]
    objective = streams.system.objective
    unit = row.clock - 1
    assert torch.equal(objective.given[unit](row), code[0])


def test_it_is_saved_and_loaded(world, tmp_path):
    save(world, tmp_path, torch.float32)
    again = load(tmp_path, dtype=torch.float32)
    assert again.config == world.config
    assert np.array_equal(again.generate(context(), actions(3)).frames, world.generate(context(), actions(3)).frames)


def test_what_it_cannot_do_is_said_in_one_line(world):
    with pytest.raises(UsageError, match="makes one call per scale, 2 per frame; leave --steps out"):
        world.generate(context(), actions(2), steps=4)
    with pytest.raises(UsageError, match="does not make whole frames one by one"):
        JointStream(VideoModel(world.config, world.tokenizer, world.net).setting(), 2)
    config = world.config
    with pytest.raises(UsageError, match="all use latents, scales or pyramids"):
        config.replace(tokenizer=config.tokenizer.autoencoder)
    with pytest.raises(UsageError, match="differ from the scales of the tokenizer"):
        config.replace(order=config.order.replace(sides=((1, 1), (2, 2), (4, 4))))
    with pytest.raises(UsageError, match="the last scale is 4 x 5, the latents are 4 x 4"):
        config.order.replace(sides=((1, 1), (4, 5))).build(4, 4)
