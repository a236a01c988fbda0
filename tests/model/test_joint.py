"""Joint speculation: frames in flight together are those of a forward without a cache; what is thrown away is gone."""

import math

import numpy as np
import pytest
import torch

from vidar.conditioning.action import Actions
from vidar.configs.doom import world_doom
from vidar.configs.nfd import world_nfd
from vidar.core.layout import compile_layout
from vidar.core.step import single
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.rollout.driver import Rollout
from vidar.rollout.joint import JointStream, check_joint
from vidar.types import Past, UsageError, VidarError

WINDOW, CONTEXT = 6, 4
HOLDS = (1, 3, 4, 9, 2, 5)  # 24 frames, four windows
NOTHING = Past({}, {})


def lively(config) -> VideoModel:
    torch.manual_seed(0)
    made = config.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.fixture(scope="module")
def world() -> VideoModel:
    """NFD, tiny, with a longer window and actions that reach back."""
    config = world_nfd(preset="tiny").method.world
    net = config.net.replace(conditioner=config.net.conditioner.replace(history=2))
    return lively(config.replace(order=config.order.replace(window=WINDOW), net=net))


@pytest.fixture(scope="module")
def exact(world) -> VideoModel:
    """Its network in float64, answers rounded to float32: the shape of a call leaves no trace in a code."""
    return VideoModel(world.config, world.tokenizer, lively(world.config).net.double())


def given(world, length=CONTEXT):
    """Context codes [1, T, n, C] and its actions [1, T, A]."""
    rng = np.random.default_rng(length)
    codes = rng.normal(size=(1, length, math.prod(world.config.sites), world.config.channels))
    return torch.from_numpy(codes.astype(np.float32)), presses(world, length, 50)[None]


def presses(world, count, seed=0):
    """Rows of actions [count, A], no two neighbours equal."""
    high = [action.highest + 1 for action in world.config.actions.actions]
    rows = np.random.default_rng(seed).integers(0, high, (count, len(high))).astype(np.float32)
    rows[:, 0] = np.arange(count) % 2
    return torch.from_numpy(rows)


def held(world, holds):
    """One row [A] a frame, each press held."""
    return presses(world, len(holds)).repeat_interleave(torch.tensor(holds), 0)


def opened(world, frames, rng=None, **options):
    stream = JointStream(world.setting(**options), frames)
    stream.open(*given(world), rng or Rng(7))
    return stream


def dreamed(stream, actions):
    """Codes [count, n, C]; the caller's own tensor changes between the frames, as a table of players does."""
    asked, made = torch.zeros(1, actions.shape[1]), []
    for row in actions:
        asked[0] = row
        made.append(stream.frame(asked)[0])
    return torch.stack(made)


def tensors(state):
    """Every tensor of a state."""
    rings = [part for ring in state.rings.values() for part in (ring.k, ring.v, *vars(ring.slots).values())]
    return [*rings, *(code for _, code in sorted(state.rows[0].codes.items()))]


class Slow:
    """Joint speculation with nothing kept: each solver step is one training forward over all frames from the first on.

    Committed frames stand at the level of context, those in flight at the solver's: what SINGLE trains.
    """

    def __init__(self, world, codes, actions, rng):
        self.world, self.rng = world, rng
        self.codes, self.actions = list(codes[0]), list(actions[0])

    def propose(self, action, frames):
        """Codes of `frames` frames under one action."""
        done = len(self.codes)
        count = done + frames
        system = self.world.config.system(count)
        order, grid, objective = system.order, system.grid, system.objective
        layout = compile_layout(single(range(count)), order, [grid])
        table = torch.stack([*self.actions, *[action] * frames])[None]
        unknown = (torch.arange(count) == 0)[None]
        context = [objective.memory(unit, code, NOTHING, self.rng) for unit, code in enumerate(self.codes)]
        flight = [objective.start(unit, NOTHING, self.rng) for unit in range(done, count)]
        for i in range(len(objective.calls)):
            inputs = [*context, *(objective.inputs(done + n, x, i) for n, x in enumerate(flight))]
            out = self.world.model(torch.cat(inputs)[None], layout, Actions(table, unknown))[0]
            answers = out.unflatten(0, (count, -1))[done:]
            flight = [
                objective.update(done + n, x, out, i, self.rng) for n, (x, out) in enumerate(zip(flight, answers))
            ]
        return [objective.finish(x) for x in flight]

    def accept(self, codes, action):
        """These frames came about under this action."""
        self.codes += codes
        self.actions += [action] * len(codes)


@torch.inference_mode()
def slowly(world, frames, holds):
    slow, made = Slow(world, *given(world), Rng(7)), []
    for action, hold in zip(presses(world, len(holds)), holds):
        while hold:
            accepted = slow.propose(action, frames)[:hold]
            slow.accept(accepted, action)
            made, hold = made + accepted, hold - len(accepted)
    return torch.stack(made)


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_frames_are_those_of_training_forwards_without_a_cache(exact, frames):
    assert torch.equal(dreamed(opened(exact, frames), held(exact, HOLDS)), slowly(exact, frames, HOLDS))


@pytest.mark.parametrize("accepted", [1, 2, 3])
def test_after_a_change_the_state_is_that_of_the_accepted_frames_prefilled(exact, accepted):
    """Another stream, opened after the frames that were accepted, as if somebody had recorded them."""
    stream, first = opened(exact, 4), held(exact, (5, accepted))
    made = dreamed(stream, first)
    codes, actions = given(exact)
    rebuilt = JointStream(exact.setting(), 4)
    rebuilt.open(torch.cat([codes[0], made])[None], torch.cat([actions[0], first])[None], Rng(7))
    assert stream.streams.state.rows[0].clock == rebuilt.streams.state.rows[0].clock == CONTEXT + len(first)
    other = presses(exact, 5)[-1:].repeat(6, 1) + torch.tensor([2.0] + [0.0] * (len(first[0]) - 1))
    assert torch.equal(dreamed(stream, other), dreamed(rebuilt, other))
    for name, ring in stream.streams.state.rings.items():
        again = rebuilt.streams.state.rings[name]
        assert all(torch.equal(x, y) for x, y in zip(vars(ring.slots).values(), vars(again.slots).values()))
        torch.testing.assert_close((ring.k, ring.v), (again.k, again.v), rtol=1e-6, atol=1e-9)


class Disturbed(Rng):
    """Other noise from a unit on."""

    def raw(self, name, unit, step, count):
        return (Rng(99) if unit >= CONTEXT + 2 else Rng(self.seed)).raw(name, unit, step, count)


def test_what_is_thrown_away_leaves_no_bit(world):
    """Two of four held frames differ between the streams; neither is accepted."""
    first, second = presses(world, 2)
    streams = [opened(world, 4, rng) for rng in (Rng(7), Disturbed(7))]
    made = [dreamed(stream, first.expand(2, -1)) for stream in streams]
    assert not any(torch.equal(a, b) for a, b in zip(*(stream.held for stream in streams), strict=True))
    streams[1].streams.rngs[0] = Rng(7)
    made = [torch.cat([codes, dreamed(stream, second.expand(7, -1))]) for stream, codes in zip(streams, made)]
    assert torch.equal(*made)
    assert all(torch.equal(a, b) for a, b in zip(*(tensors(s.streams.state) for s in streams), strict=True))


def test_a_held_frame_is_not_in_the_state(world):
    stream, alone = opened(world, 4), opened(world, 1)
    (action,) = presses(world, 1)
    for n in range(1, 4):
        stream.frame(action[None]), alone.frame(action[None])
        mine, theirs = stream.streams.state.rows[0], alone.streams.state.rows[0]
        assert mine.clock == theirs.clock == CONTEXT + n and mine.done == theirs.done and not mine.x
        assert sorted(mine.codes)[-1] == CONTEXT + n - 1 and len(stream.held) == 4 - n


@pytest.mark.parametrize("hint", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_one_frame_in_flight_is_streams_to_the_bit(world, hint, begun):
    """Past the window; with a hint too, and from nothing."""
    world = lively(world_doom(preset="tiny").method.world) if hint else world
    joint, plain = JointStream(world.setting(), 1), world.rollout(1)
    if begun:
        codes, actions = given(world)
        joint.open(codes, actions, Rng(3))
        plain.open([0], codes, actions, [Rng(3)])
    pressed = held(world, (1, 2, 5, 1, 3))
    assert torch.equal(dreamed(joint, pressed), dreamed(plain, pressed))
    assert all(torch.equal(a, b) for a, b in zip(tensors(joint.streams.state), tensors(plain.state), strict=True))
    assert joint.streams.state.rows[0].committed == plain.state.rows[0].committed
    assert joint.hits == joint.discarded == 0 and joint.proposals == len(pressed)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_calls_hits_and_waste_follow_from_the_holds(world, frames):
    """A hold of h frames takes ceil(h / M) proposals; M ceil(h / M) - h frames are for nothing."""
    stream, calls = opened(world, frames, steps=3), []
    hook = world.net.register_forward_pre_hook(lambda net, inputs: calls.append(inputs[0].shape[1]))
    try:
        dreamed(stream, held(world, HOLDS))
    finally:
        hook.remove()
    proposals = sum(math.ceil(hold / frames) for hold in HOLDS)
    assert stream.proposals == proposals and len(calls) == 3 * proposals
    assert stream.hits == sum(HOLDS) - proposals
    assert stream.discarded + len(stream.held) == frames * proposals - sum(HOLDS)


def test_beginning_anew_forgets_what_was_held(world):
    stream, pressed = opened(world, 4), held(world, (2,))
    want = dreamed(stream, pressed)
    stream.open(*given(world), Rng(7))
    assert torch.equal(dreamed(stream, pressed), want) and stream.discarded == 2
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3), dtype=np.uint8)
    codes = stream.begin(pictures, None, 7)
    assert torch.equal(codes, world.encode(torch.from_numpy(pictures)[None])[0])
    again = JointStream(world.setting(), 4)
    again.open(codes[None], None, Rng(7))
    assert torch.equal(dreamed(stream, pressed), dreamed(again, pressed)) and stream.discarded == 4


def test_worlds_that_cannot_are_refused_in_one_line(world, monkeypatch):
    def allocated(*_):
        raise AssertionError("a state was allocated")

    monkeypatch.setattr(Rollout, "__init__", allocated)
    hinted = lively(world_doom(preset="tiny").method.world)
    forward = VideoModel(
        world.config.replace(order=world.config.order.replace(forward=True, in_flight=3)), world.tokenizer, world.net
    )
    for refused, frames, message in (
        (hinted, 2, "'doom' builds a frame from the code of the previous one"),
        (forward, 2, "read later ones"),
        (world, WINDOW + 1, f"7 frames in flight do not fit the window of {WINDOW}"),
        (world, 0, "needs at least 1"),
    ):
        with pytest.raises(VidarError, match=message) as error:
            JointStream(refused.setting(), frames)
        assert "\n" not in str(error.value)
        assert isinstance(error.value, UsageError) == (refused is world)
    for allowed, frames in ((hinted, 1), (forward, 1), (world, WINDOW)):
        check_joint(allowed.setting(), frames)
