"""Worlds that plan: two tasks a segment, the chain of them, and the same in one run of the whole order."""

import pickle

import numpy as np
import pytest
import torch

from vidar.cache.ring import RingState
from vidar.conditioning.action import Actions
from vidar.configs.mmpl import mmpl_shapes
from vidar.configs.shapes import world_shapes
from vidar.core.decode import Decoder
from vidar.core.step import by_waves
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.orders.plan import FromMiddleConfig, StepMap, chain_of
from vidar.rng import Rng
from vidar.rollout import segments as made_of
from vidar.rollout.segments import SegmentRng, again, boundaries, plan, populate
from vidar.types import UsageError

IMAGE = StepMap(steps=(0, 1, 2, 3, 2, 2, 4, 2, 2), plan=2)  # as I2V: the second frame is made from the first


def opened(config) -> VideoModel:
    torch.manual_seed(0)
    made = config.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def from_image(config):
    """The same world on the map IMAGE."""
    map, net = IMAGE, config.net
    told = net.conditioner.replace(map=map)
    objective = config.objective.replace(hint=config.objective.hint.replace(map=map), given=1)
    return config.replace(order=config.order.replace(map=map), objective=objective, net=net.replace(conditioner=told))


CONFIG = mmpl_shapes(preset="tiny").method.world
WORLDS = {
    "terminal": CONFIG,
    "middle": CONFIG.replace(order=CONFIG.order.replace(onward=FromMiddleConfig())),
    "from an image": from_image(CONFIG),
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request) -> VideoModel:
    return opened(WORLDS[request.param])


@pytest.fixture(scope="module")
def context():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32, 3), dtype=np.uint8))


def acts(count, batch=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 5, (batch, count, 1)).astype(np.float32))


def segments_of(config):
    return chain_of(config.order, config.name)


def segment_actions(config, *told):
    return made_of.segment_actions(segments_of(config), torch.from_numpy(config.actions.noop()), *told)


def dreamed(world, codes, actions, rngs=None, before=None):
    """[B, T, n, C] by `VideoModel.codes`."""
    return torch.stack(list(world.codes(codes, iter(actions.unbind(1)), before, rngs)), 1)


RNGS = [Rng(3, 0), Rng(3, 1)]


def test_tasks_in_any_order_and_place_are_the_chain_in_bits(world, context):
    """All plans first, then the fills from the last segment to the first; a plan travels through pickle."""
    chain, first, actions = segments_of(world.config), world.encode(context), acts(21)
    expected = dreamed(world, first, actions, RNGS)
    first = first[:, -chain.first :]
    given = first.shape[1]
    segments = chain.segments(21, given)
    told = [segment_actions(world.config, actions, s, given) for s in range(segments)]
    plans = []
    for s in range(segments):
        plans.append(pickle.loads(pickle.dumps(plan(world.setting(), first, told[s], RNGS, s))))
        first = plans[-1].after
    parts = {s: populate(world.setting(), plans[s], told[s], RNGS, s) for s in reversed(range(segments))}
    made = torch.cat([parts[s][:, chain.new(s, given)] for s in range(segments)], 1)
    assert made.shape[1] - chain.stride < 21 <= made.shape[1]
    assert torch.equal(made[:, :21], expected)
    assert all(part.shape[1] == chain.made for part in parts.values())


def test_the_chain_is_the_whole_order_in_waves(world, context):
    """One state, all units of three segments by waves: what runs beside what differs, so equal up to rounding."""
    chain, map = segments_of(world.config), world.config.order.map
    first, actions, segments = world.encode(context)[:, -chain.first :], acts(60), 3
    system = world.config.flow_system(segments * map.length)
    order, grid, objective = system.order, system.grid, system.objective
    told = [segment_actions(world.config, actions, s, chain.first) for s in range(segments)]
    joined = Actions(torch.cat([t.values for t in told], 1), torch.cat([t.unknown for t in told], 1))
    grids = [grid] * 2
    state = RingState.create(order, grids, world.net.ring_shapes())
    given = boundaries(world.setting(), segments)
    known = set(given)
    for step in range(map.plan):
        state.give(step, first[:, list(map.frames(step))].flatten(1, 2))
        known.add(step)
    decoder = Decoder(world.model, order, grids, objective, RNGS, given, lambda layout: joined)
    made = {}
    with torch.inference_mode():
        for row, unit, code in decoder(by_waves(order, objective.passes, known, fused=True), state):
            made[row, unit] = code.unflatten(0, (len(map.frames(unit % map.units)), -1))
    for s in range(segments):
        part = plan(world.setting(), first, told[s], RNGS, s)
        filled = populate(world.setting(), part, told[s], RNGS, s)
        for t in range(chain.first, chain.made):
            step = map.steps[t]
            whole = torch.stack([made[b, s * map.units + step][map.frames(step).index(t)] for b in range(2)])
            torch.testing.assert_close(filled[:, t], whole, rtol=1e-3, atol=1e-4)
        first = part.after


def test_twin_noise_of_other_units_is_another_dream(world, context, monkeypatch):
    """Each segment draws as its units do in the whole order."""
    first, actions = world.encode(context), acts(14)
    expected = dreamed(world, first, actions, RNGS)
    monkeypatch.setattr(SegmentRng, "raw", Rng.raw)
    other, chain = dreamed(world, first, actions, RNGS), segments_of(world.config)
    count = chain.made - min(chain.first, first.shape[1])
    assert torch.equal(other[:, :count], expected[:, :count])
    assert not torch.equal(other[:, count], expected[:, count])


@pytest.mark.parametrize("count", [1, 8, 17])
def test_exactly_as_many_frames_as_asked_for(world, context, count):
    """What is made does not depend on how many are asked for, as long as nothing is pressed after them."""
    codes, actions = world.encode(context), torch.zeros(2, 30, 1)
    made = dreamed(world, codes, actions[:, :count])
    assert made.shape[1] == count
    assert torch.equal(made, dreamed(world, codes, actions)[:, :count])


def test_frames_that_two_segments_hold_are_written_once(world, context):
    """Frame t of segment s is frame s stride + t: none twice, none left out, and the first segment is not cut."""
    chain, codes, actions = segments_of(world.config), world.encode(context), acts(24)
    made = torch.cat([codes[:, -chain.first :], dreamed(world, codes, actions, RNGS)], 1)
    first = codes[:, -chain.first :]
    for s in range(2):
        told = segment_actions(world.config, actions, s, chain.first)
        part = plan(world.setting(), first, told, RNGS, s)
        filled = populate(world.setting(), part, told, RNGS, s)
        from_here = made[:, s * chain.stride :][:, : chain.made]
        assert torch.equal(filled[:, chain.first :], from_here[:, chain.first :])
        torch.testing.assert_close(part.after, again(world, filled[:, chain.made - chain.first :]))
        first = part.after


def test_published_lengths_add_up():
    """1.10: 81 + (S - 1)(81 - 5) pixel frames: in latents 21 + (S - 1)(21 - 2)."""
    from vidar.orders.plan import T2V, Chain

    chain = Chain(T2V, T2V.first, T2V.length)
    for segments in (1, 2, 5):
        total = sum(len(range(21)[chain.new(s, 0)]) for s in range(segments))
        assert total == 21 + (segments - 1) * 19
        assert chain.segments(total - 2, 2) == segments and chain.segments(total - 1, 2) == segments + 1


def test_each_action_is_told_once_and_where_it_acts(world):
    """Row t of segment s is the action between frames t - 1 and t: counted through the video."""
    chain, given = segments_of(world.config), segments_of(world.config).first
    actions = torch.arange(1.0, 40.0)[None, :, None] % 5
    before = torch.full((1, given, 1), 4.0)
    for s in range(3):
        told = segment_actions(world.config, actions, s, given, before)
        assert told.unknown[0].tolist() == [True] + [False] * (chain.map.length - 1)
        for t in range(1, chain.map.length):
            new = s * chain.stride + t - given
            expected = 4.0 if new < 0 else float(actions[0, new, 0])
            assert float(told.values[0, t, 0]) == expected
    alone = segment_actions(world.config, actions[:, :3], 0, given)
    assert alone.unknown[0].tolist() == [True] * given + [False] * (chain.map.length - given)
    assert (alone.values[0, given + 3 :] == 0).all()


def test_rows_of_a_batch_are_each_their_own(world, context):
    world.net.double()  # so that the shape of a call leaves no trace
    codes, actions = world.encode(context), acts(12)
    both = dreamed(world, codes, actions, [Rng(5, 0), Rng(6, 0)])
    for b, seed in ((0, 5), (1, 6)):
        alone = dreamed(world, codes[b : b + 1], actions[b : b + 1], [Rng(seed, 0)])
        torch.testing.assert_close(both[b], alone[0], rtol=1e-3, atol=1e-4)
    world.net.float()


def test_an_action_moves_frames_of_its_segment_and_later_ones(world, context):
    """The plan hears of an action before its turn: frames before it in the segment may move, those before it not."""
    chain, codes, actions = segments_of(world.config), world.encode(context), acts(24)
    other = actions.clone()
    frame = chain.made + 2 - chain.first  # of segment 1, which starts from the last frames of segment 0
    other[:, frame] = (other[:, frame] + 1) % 5
    a, b = dreamed(world, codes, actions, RNGS), dreamed(world, codes, other, RNGS)
    safe = chain.stride + chain.first - chain.first  # frames of segment 0 that neither its plan nor its fills share
    told = chain.map.length - chain.made  # planned and thrown away in the middle mode: those hear of it too
    if not told:
        assert torch.equal(a[:, :safe], b[:, :safe])
    assert not torch.equal(a[:, safe:], b[:, safe:])


def test_a_state_is_never_passed_on(world, context):
    """Only codes travel: a plan is a few codes."""
    chain, codes = segments_of(world.config), world.encode(context)
    told = segment_actions(world.config, acts(20), 0, chain.first)
    made = plan(world.setting(), codes[:, -chain.first :], told, RNGS, 0)
    frames = 2 * chain.first + len(chain.map.frames(chain.map.plan))
    assert len(pickle.dumps(made)) < frames * codes[:, 0].numel() * 4 + 4096


def test_a_world_begins_with_its_image(context):
    """A map whose second frame is made: one frame of context is enough, and two are taken as they are."""
    world = opened(WORLDS["from an image"])
    codes, actions = world.encode(context), acts(12)
    assert dreamed(world, codes[:, :1], actions).shape[1] == 12
    told = segment_actions(world.config, actions, 0, 1)
    made = plan(world.setting(), codes[:, :1], told, RNGS, 0)
    assert torch.equal(made.first[:, :1], codes[:, :1]) and made.first.shape[1] == 2


def test_again_is_the_tokenizer_there_and_back():
    """A tokenizer that looks back pads with the first frame: the repeats of the released code change nothing."""
    world = opened(CONFIG)
    codes = torch.randn(1, 2, 16, 8)
    assert torch.equal(again(world, codes), world.encode(world.decode(codes)[0]))
    backward = opened(CONFIG.replace(tokenizer=CONFIG.tokenizer.replace(time_kernel=3)))
    repeated = torch.cat([codes[:, :1], codes[:, :1], codes], 1)
    torch.testing.assert_close(again(backward, codes), backward.encode(backward.decode(repeated)[0])[:, 2:])


def test_generate_and_a_saved_world(world, context, tmp_path):
    """`vidar generate` and eval come through `VideoModel.generate`; the order and its map come back from disk."""
    save(world, tmp_path / "w", dtype=None)
    other = load(tmp_path / "w", dtype=torch.float32)
    made = world.generate(context[0].numpy(), acts(9)[0].numpy(), seed=2).frames
    assert other.config == world.config and made.shape == (1, 9, 32, 32, 3)
    assert np.array_equal(made, other.generate(context[0].numpy(), acts(9)[0].numpy(), seed=2).frames)


def test_wrong_use_is_one_line(context):
    world = opened(CONFIG)
    codes = world.encode(context)
    with pytest.raises(UsageError, match="starts from 2 frames, not 1; give that many context frames"):
        dreamed(world, codes[:, :1], acts(3))
    with pytest.raises(UsageError, match="does not plan segments"):
        segments_of(world_shapes(preset="tiny").method.world)
    told = segment_actions(CONFIG, acts(9), 0, 2)
    with pytest.raises(UsageError, match="belongs to segment 0, not to 1"):
        populate(world.setting(), plan(world.setting(), codes[:, -2:], told, RNGS, 0), told, RNGS, 1)
    assert list(world.codes(codes, iter(()), None, RNGS)) == []
