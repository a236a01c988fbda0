"""Segments: one after the other they are the unsegmented stream; the bits of one depend on nothing beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SEGMENT, pictures

from vidar.configs.memory_forcing import world_doom_memory
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.synth.segments import ContinuationState, SegmentWorker, Task, boundary_frames, read_boundary, save_boundary
from vidar.types import UsageError, VidarError


@pytest.fixture(scope="module")
def wide(world):
    """The same world in float64, two steps a frame."""
    made = world.config.with_steps(2).build().to(dtype=torch.float64)
    made.net.load_state_dict(world.net.state_dict())
    made.tokenizer.load_state_dict(world.tokenizer.state_dict())
    return made


def keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, 5)).astype(np.float32)


def made_in_turn(segment_worker, actions, segment, row=1, context=3):
    """Segments of one video in turn."""
    start, made = pictures(context, 1), []
    for number in range(-(-len(actions) // segment)):
        piece = actions[number * segment : (number + 1) * segment]
        made += segment_worker.make([Task(0, number, row, 7, start, piece)])
        start = made[-1].after
    return made


def test_a_segmented_video_is_the_unsegmented_one(wide):
    """Exact up to rounding, with a boundary of depth 2 x window 3 + 3 actions + 2; two frames fewer are too few."""
    assert boundary_frames(wide.config) == 11
    actions = keys(2 * SEGMENT + 5)
    streams = wide.rollout(2)
    codes = wide.encode(torch.from_numpy(pictures(3, 1))[None])
    streams.open([1], codes, None, [Rng(7)])
    codes = [streams.frame(torch.from_numpy(row).expand(2, -1))[1] for row in actions]
    want = wide.decode(torch.stack(codes)[None])[0][0].numpy()
    apart = {}
    for keep in (11, 9):
        segment_worker = SegmentWorker(wide, 2)
        segment_worker.keep = keep
        made = made_in_turn(segment_worker, actions, SEGMENT)
        assert [len(one.frames) for one in made] == [SEGMENT] * 2 + [5]
        assert [one.after.first for one in made] == [3 + n * SEGMENT + SEGMENT - keep for n in range(2)] + [32 - keep]
        last = made[-1].after
        apart[keep] = np.abs(last.codes - torch.stack(codes)[-keep:].numpy()).max()
        if keep == 11:
            assert np.array_equal(last.actions, actions[-keep:])
            assert np.array_equal(np.concatenate([one.frames for one in made]), want)
    assert apart[11] < 1e-9 < apart[9], apart


def test_bits_do_not_depend_on_the_others_or_on_what_a_row_did_before(world):
    fresh, used = SegmentWorker(world, 3), SegmentWorker(world, 3)
    task = Task(0, 0, 1, 7, pictures(4, 1), keys(9))
    alone = next(fresh.make([task]))
    others = [Task(5, 0, 0, 8, pictures(2, 3), keys(4, 8)), Task(6, 0, 2, 9, pictures(16, 4), keys(20, 9))]
    list(used.make([Task(9, 0, 1, 3, pictures(1, 9), keys(5, 3))]))
    order = list(used.make([*others, task]))
    assert [one.job for one in order] == [5, 0, 6] and [len(one.frames) for one in order] == [4, 9, 20]
    assert np.array_equal(order[1].frames, alone.frames)
    for field in ("codes", "actions"):
        assert np.array_equal(getattr(order[1].after, field), getattr(alone.after, field))
    other = next(fresh.make([Task(0, 0, 1, 8, pictures(4, 1), keys(9))]))
    assert not np.array_equal(other.frames, alone.frames)  # the seed counts


def test_a_boundary_goes_through_a_file(world, tmp_path):
    segment_worker, actions = SegmentWorker(world, 2), keys(2 * SEGMENT)
    first, second = made_in_turn(segment_worker, actions, SEGMENT)
    save_boundary(first.after, tmp_path / "x.safetensors")
    again = next(segment_worker.make([Task(0, 1, 1, 7, read_boundary(tmp_path / "x.safetensors"), actions[SEGMENT:])]))
    assert np.array_equal(again.frames, second.frames)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(VidarError, match="x.safetensors: not readable as a boundary"):
        read_boundary(tmp_path / "x.safetensors")


def test_a_memory_goes_on_too(tmp_path):
    """In float64: as if the video had never been cut, also through a file; a segment that forgets is another one."""
    torch.manual_seed(3)
    config = world_doom_memory(preset="tiny").method.world
    model = VideoModel(config, config.tokenizer.build(), config.net.build(), memory=config.memory.build())
    torch.nn.init.normal_(model.net.backbone.head.out.weight, std=0.1)
    model = model.to(dtype=torch.float64)
    start = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    actions = keys(3 * SEGMENT)
    (whole,) = SegmentWorker(model, 1).make([Task(0, 0, 0, 7, start, actions)])
    codes = [whole.after.codes[-5:]]
    for forgets in (False, True):
        context = start
        for number in range(3):
            piece = actions[number * SEGMENT : (number + 1) * SEGMENT]
            (made,) = SegmentWorker(model, 1).make([Task(0, number, 0, 7, context, piece)])
            after = replace(made.after, memory={}) if forgets else made.after
            save_boundary(after, tmp_path / "x.safetensors")
            context = read_boundary(tmp_path / "x.safetensors")
        codes.append(context.codes[-5:])
    assert np.abs(codes[1] - codes[0]).max() < 1e-9 < 1e-3 < np.abs(codes[2] - codes[0]).max()


def test_a_tokenizer_that_remembers_goes_on_too(world):
    """time_kernel 3: a boundary as long as the decoder looks back."""
    torch.manual_seed(1)
    config = world.config.replace(tokenizer=world.config.tokenizer.replace(time_kernel=3))
    made = config.build()
    keep = boundary_frames(config)
    codes = torch.randn(1, keep + 6, *made.encode(torch.from_numpy(pictures(1, 0))[None]).shape[2:])
    whole = made.decode(codes)[0][0, -3:].numpy().astype(int)
    apart = {}
    for kept in (keep - 1, 4):
        state = made.decode(codes[:, -3 - kept : -3])[1]
        apart[kept] = np.abs(made.decode(codes[:, -3:], state)[0][0].numpy() - whole).max()
    assert apart[keep - 1] <= 1 < apart[4], apart


def test_a_world_that_never_forgets_is_refused(world):
    endless = world.config.replace(order=world.config.order.replace(sinks=1))
    with pytest.raises(UsageError, match="never forgets its first frames"):
        boundary_frames(endless)


def test_a_boundary_s_first_action_does_not_count(world):
    segment_worker, actions = SegmentWorker(world, 2), keys(2 * SEGMENT)
    first = made_in_turn(segment_worker, actions, SEGMENT)[0].after
    changed = first.actions.copy()
    changed[0] = 1 - changed[0]
    made = [
        next(
            segment_worker.make(
                [Task(0, 1, 0, 7, ContinuationState(first.codes, rows, first.first), actions[SEGMENT:])]
            )
        ).frames
        for rows in (first.actions, changed)
    ]
    assert np.array_equal(*made)
