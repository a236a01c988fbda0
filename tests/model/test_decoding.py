"""Tokenizers that look back: every picture is that of the whole video so far, however its row was moved on."""

import gc

import numpy as np
import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.configs.videoar import videoar_shapes
from vidar.objectives.hint import NoHintConfig
from vidar.rng import Rng
from vidar.rollout.codec import Decoding
from vidar.rollout.hooks import APART
from vidar.rollout.joint import JointStream
from vidar.sampling.guidance import GuidanceConfig

CAPACITY = 3


def built(config):
    """Random weights, also in the tokenizer, so that what it remembers is seen."""
    torch.manual_seed(0)
    made = config.build()
    with torch.no_grad():
        for parameter in (*made.net.parameters(), *made.tokenizer.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def config(**changes):
    made = world_shapes(preset="tiny").method.world
    return made.replace(tokenizer=made.tokenizer.replace(time_kernel=3), context=4, **changes)


def scales():
    made = videoar_shapes(preset="tiny").method.world
    inner = made.tokenizer.autoencoder.replace(time_kernel=3)
    return made.replace(tokenizer=made.tokenizer.replace(autoencoder=inner), context=4)


@pytest.fixture(scope="module")
def world():
    return built(config())


@pytest.fixture(scope="module")
def exact():
    """float64: a video decoded frame by frame is the video decoded at once, in every pixel."""
    return built(config()).to(dtype=torch.float64)


def video(seed, length=4, batch=1):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (batch, length, 32, 32, 3), dtype=np.uint8))


def keys(seed, count, batch=1):
    """Never twice the same in a row."""
    turns = np.random.default_rng(100 + seed).integers(1, 5, (count, batch, 1)).cumsum(0) % 5
    return torch.from_numpy(turns.astype(np.float32))


def at_once(world, context, codes):
    """Pictures [B, m, H, W, 3] of codes [B, m, n, C] after a context, all in one call."""
    return world.decode(torch.cat([context, codes], 1))[0][:, context.shape[1] :]


def test_a_rollout_is_one_video(exact):
    """Nine frames of two rows; the state that goes from frame to frame is all that the tokenizer knows of the past."""
    context, pressed = video(1, 4, 2), keys(1, 9, 2)
    frames = [frame for frame, _ in zip(exact.frames(context, iter(pressed)), pressed)]
    codes = list(exact.codes(exact.encode(context), iter(pressed)))
    want = at_once(exact, exact.encode(context), torch.stack(codes, 1))
    assert torch.equal(torch.stack(frames, 1), want)
    alone = torch.stack([exact.decode(code[:, None])[0][:, 0] for code in codes], 1)
    assert (alone.float() - want.float()).abs().mean() > 10  # what is remembered is most of a picture


@pytest.mark.parametrize("made", [config, scales, lambda: config(guidance=GuidanceConfig(first=2.0, last=3.0))])
def test_streams_of_one_row_show_the_frames_of_generate(made):
    """In bits; of a longer context the last frames count, as there."""
    world = built(made())
    frames, pressed = video(2, 6)[0], keys(2, 5)
    want = world.generate(frames, pressed[:, 0].numpy(), seed=7).frames[0]
    streams = world.rollout(1)
    streams.begin(0, frames, None, 7)
    for number, action in enumerate(pressed):
        assert np.array_equal(streams.decode(streams.frame(action))[0].numpy(), want[number])


def alone(world, row, seed, count, length=4):
    """Frames [count, H, W, 3] of one stream in a given row, the other rows never opened."""
    streams = world.rollout(CAPACITY)
    streams.begin(row, video(seed, length)[0], None, seed)
    table = torch.zeros(count, CAPACITY, 1)
    table[:, row] = keys(seed, count)[:, 0]
    return torch.stack([streams.decode(streams.frame(actions))[row] for actions in table])


def test_rows_opened_at_different_times_show_what_each_shows_alone(world):
    """In bits. Row 2 joins after two frames with a context of one, row 0 begins anew after four."""
    streams, made = world.rollout(CAPACITY), {}
    began = {0: (10, 0), 1: (11, 0)}
    streams.begin(0, video(10)[0], None, 10)
    streams.begin(1, video(11)[0], None, 11)
    for t in range(8):
        if t == 2:
            streams.begin(2, video(12, 1)[0], None, 12)
            began[2] = 12, 2
        if t == 4:
            streams.begin(0, video(13)[0], None, 13)
            began[0] = 13, 4
        actions = torch.zeros(CAPACITY, 1)
        for row, (seed, start) in began.items():
            actions[row] = keys(seed, 8)[t - start, 0]
        frames = streams.decode(streams.frame(actions))
        for row, (seed, _) in began.items():
            made.setdefault(seed, []).append(frames[row])
    for row, seed, length in ((0, 10, 4), (1, 11, 4), (2, 12, 1), (0, 13, 4)):
        assert torch.equal(torch.stack(made[seed]), alone(world, row, seed, len(made[seed]), length)), seed
    one = world.generate(video(11)[0], keys(11, 8)[:, 0].numpy(), seed=11).frames[0].astype(int)
    assert np.abs(torch.stack(made[11]).numpy() - one).max() <= 1  # another capacity: rounding only


def test_going_back_brings_back_what_was_remembered(world):
    """Of all rows and of one; pictures of what is thrown away may be asked for late, or never."""
    streams = world.rollout(2)
    for row in range(2):
        streams.begin(row, video(row)[0], None, row)
    first, second = keys(1, 2)[:, :, 0].expand(2, 2)[..., None]
    streams.decode(streams.frame(first))
    snapshot = streams.snapshot()
    want = [streams.decode(streams.frame(actions)) for actions in (second, first)]
    streams.restore(snapshot)
    thrown = streams.decoding(streams.frame(first))
    streams.restore(snapshot)
    streams.decoding(streams.frame(first))  # never asked for
    streams.restore(snapshot)
    assert torch.equal(streams.decode(streams.frame(second)), want[0])
    assert not torch.equal(thrown.frames()[:, 0], want[0])
    assert torch.equal(streams.decode(streams.frame(first)), want[1])
    streams.restore(snapshot, [1])
    streams.release(snapshot)
    again = streams.decode(streams.frame(second))
    assert torch.equal(again[1], want[0][1]) and not torch.equal(again[0], want[0][0])


def test_pictures_may_be_asked_for_later(world):
    """Two frames are made before the first one is decoded, and the second one is asked for first."""
    want, streams, pressed = alone(world, 0, 3, 3), world.rollout(CAPACITY), keys(3, 3)
    streams.begin(0, video(3)[0], None, 3)
    late = []
    for action in pressed:
        actions = torch.zeros(CAPACITY, 1)
        actions[0] = action
        late.append(streams.decoding(streams.frame(actions)))
    assert torch.equal(torch.stack([late[n].frames()[0, 0] for n in (1, 0, 2)]), want[[1, 0, 2]])


def test_a_frame_that_is_left_out_is_refused(world):
    streams = world.rollout(2)
    streams.begin(0, video(3)[0], None, 3)
    still = torch.zeros(2, 1)
    code = streams.frame(still)
    streams.decode(code)
    with pytest.raises(ValueError, match="decode every frame, and each one once"):
        streams.decode(code)
    streams.frame(still)
    with pytest.raises(ValueError, match="decode every frame, and each one once"):
        streams.decode(streams.frame(still))


def test_what_was_shown_is_not_kept(world):
    """As many decodings after 20 frames as after 5."""
    counts, stream = [], world.stream(video(4)[0])
    for number in range(1, 21):
        next(stream)
        if number in (5, 20):
            gc.collect()
            counts.append(sum(type(thing) is Decoding for thing in gc.get_objects()))
    assert counts[0] == counts[1] <= 3


@pytest.mark.parametrize("every", [3, 6])
def test_a_renewed_dream_goes_on_from_the_pictures_that_were_shown(world, every):
    """`every` below and above the context of 4. Codes are the same whether pictures are asked for or not."""
    context, pressed, rngs = video(5, 4, 2), keys(5, 2 * every + 1, 2), [Rng(5, b) for b in range(2)]
    frames = list(world.frames(context, iter(pressed), None, rngs, renew=every))
    for start in (every, 2 * every):
        keep, fresh = min(every, 4), [Rng(5, b + start // every * APART) for b in range(2)]
        known = pressed[start - keep : start].transpose(0, 1)
        shown = torch.stack(frames[start - keep : start], 1)
        again = list(world.frames(shown, iter(pressed[start : start + every]), known, fresh))
        assert all(torch.equal(a, b) for a, b in zip(again, frames[start:]))
    codes = list(world.codes(world.encode(context), iter(pressed), None, rngs, renew=every))
    other = list(world.codes(world.encode(shown), iter(pressed[2 * every :]), known, fresh))
    assert torch.equal(codes[-1], other[0])


def test_keys_made_anew_at_a_switch_change_no_memory(exact):
    """Every action is a switch; the pictures are those of one video, longer than what is made anew."""
    narrow = built(config(order=exact.config.order.replace(window=2))).to(dtype=torch.float64)
    context, pressed = video(6, 4), keys(6, 7)
    frames = torch.stack(list(narrow.frames(context, iter(pressed), recache=True)), 1)
    codes = list(narrow.codes(narrow.encode(context), iter(pressed), recache=True))
    assert torch.equal(frames, at_once(narrow, narrow.encode(context), torch.stack(codes, 1)))
    plain = list(narrow.codes(narrow.encode(context), iter(pressed)))
    assert not torch.equal(plain[-1], codes[-1])


def test_a_joint_stream_shows_one_video(exact):
    """Frames held, accepted and thrown away."""
    plain = exact.config.objective.replace(hint=NoHintConfig())
    width = exact.config.net.backbone.in_width - exact.config.channels
    net = exact.config.net.replace(backbone=exact.config.net.backbone.replace(in_width=width))
    world = built(config(objective=plain, net=net)).to(dtype=torch.float64)
    stream, context, codes, frames = JointStream(world.setting(), 3), video(7)[0], [], []
    known = stream.begin(context, None, 7)
    for action in (1, 1, 1, 1, 2, 3, 3, 0):
        codes.append(stream.frame(torch.tensor([[float(action)]])))
        frames.append(stream.decode(codes[-1])[0])
    assert stream.hits >= 3 and stream.discarded >= 2
    assert torch.equal(torch.stack(frames), at_once(world, known[None], torch.stack(codes, 1))[0])
