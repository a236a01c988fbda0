"""A rollout with a memory: every form of it gives the same frames, and nothing that restarts a row makes it forget."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vidar.configs.memory_forcing import world_doom_memory
from vidar.model.geometry import Geometry, Place
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.play.dream import Start
from vidar.play.engine import PlayEngine
from vidar.rng import Rng
from vidar.rollout.codec import Decoding
from vidar.rollout.hooks import ReencodeEvery
from vidar.rollout.joint import check_joint
from vidar.rollout.memory import EXTRA, Recall
from vidar.sampling.guidance import GuidanceConfig
from vidar.types import UsageError

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 80, 3), dtype=np.uint8)
ACTIONS = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (8, 2, 5)).astype(np.float32))
RNGS = [Rng(5, 0), Rng(6, 1)]


@pytest.fixture(scope="module")
def world() -> VideoModel:
    """Random weights that do something, with open gates; the player turns and walks."""
    torch.manual_seed(0)
    config = world_doom_memory(preset="tiny").method.world
    model = VideoModel(config, config.tokenizer.build(), config.net.build(), memory=config.memory.build())
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for module, std in ((model.net.backbone.head.out, 0.3), (model.memory.walk.layers[-1], 0.5)):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=std)
    return model


def opened(model: VideoModel, rows=(0, 1), actions: Tensor | None = None):
    """A rollout of two rows, whose row b is after FRAMES[rows[b]]."""
    streams = model.rollout(2)
    codes = model.encode(torch.from_numpy(FRAMES[list(rows)]))
    codes = codes if actions is None else codes[:, -actions.shape[1] :]
    streams.open(range(len(rows)), codes, actions, [RNGS[row] for row in rows])
    return streams


def played(streams, count: int = 4, rows=(0, 1), first: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Codes and pictures of the next frames."""
    codes, pictures = [], []
    for action in ACTIONS[first : first + count, list(rows)]:
        codes.append(streams.frame(action))
        pictures.append(streams.decode(codes[-1]))
    return codes, pictures


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def place(streams, row: int = 0) -> Place:
    """The state of the memory of a row."""
    return streams.rows[row].extras[EXTRA].state


def test_the_network_sees_what_the_memory_shows(world) -> None:
    """Else nothing below would say anything: without the memory the frames are others."""
    blind = VideoModel(world.config, world.tokenizer, world.net)
    assert not equal(played(opened(world))[0], played(opened(blind))[0])


def test_the_memory_is_that_of_the_same_steps_by_hand(world) -> None:
    """Start, ahead, show, generate, keep; the codes that are shown are of the next frame's unit."""
    memory: Geometry = world.memory
    streams, known = opened(world), []
    context, _ = world.decode(world.encode(torch.from_numpy(FRAMES)))
    states = [memory.start(context[row], None) for row in (0, 1)]
    for action in ACTIONS[:4]:
        states = [memory.ahead(state, action[row]) for row, state in enumerate(states)]
        known.append(memory.show(states, world))
        units = [row.clock for row in streams.rows]
        pictures = streams.decode(streams.frame(action))
        for number, (row, unit) in enumerate(zip(streams.rows, units)):
            assert torch.equal(row.shown[unit], known[-1][number])
            assert torch.equal(place(streams, number).pose, states[number].pose)
        states = [memory.keep(state, pictures[row]) for row, state in enumerate(states)]
    assert not torch.equal(known[0], known[-1]) and known[-1].any()


def test_a_restored_rollout_makes_the_same_frames(world) -> None:
    """After other frames were made meanwhile, in all rows and in one alone, whose neighbour goes on."""
    streams = opened(world)
    played(streams, 2)
    snapshot = streams.snapshot()
    want = played(streams, 3, first=2)
    streams.restore(snapshot)
    played(streams, 2, first=5)
    streams.restore(snapshot)
    made = played(streams, 3, first=2)
    assert equal(made[0], want[0]) and equal(made[1], want[1])
    streams.restore(snapshot, [1])
    again = played(streams, 3, first=2)
    assert equal([c[1] for c in again[0]], [c[1] for c in want[0]])
    assert not equal([c[0] for c in again[0]], [c[0] for c in want[0]])
    streams.release(snapshot)


def test_a_row_does_not_depend_on_the_other(world) -> None:
    """Row 0 beside two other neighbours, and beside one that was never opened."""
    (want, seen), (other, _) = played(opened(world, (0, 1)), rows=(0, 1)), played(opened(world, (1, 0)), rows=(1, 0))
    beside, pictures = played(opened(world, (0, 0)), rows=(0, 0))
    assert equal([code[0] for code in beside], [code[0] for code in want])
    assert equal([picture[0] for picture in pictures], [picture[0] for picture in seen])
    assert equal([code[0] for code in other], [code[1] for code in want])
    alone = model_alone(world)
    assert max(float((a[0] - b[0]).abs().max()) for a, b in zip(alone, want)) < 1e-4  # `open` of one row
    assert not equal([code[0] for code in other], [code[0] for code in want])


def model_alone(world: VideoModel) -> list[Tensor]:
    """Codes beside a row that was never opened."""
    return played(opened(world, (0,)))[0]


def test_a_saved_world_remembers_the_same(world, tmp_path: Path) -> None:
    save(world, tmp_path / "world", torch.float32)
    again = load(tmp_path / "world", dtype=torch.float32)
    assert isinstance(again.memory, Geometry)
    want, made = played(opened(world)), played(opened(again))
    assert equal(made[0], want[0]) and equal(made[1], want[1])


def test_keys_made_anew_under_the_same_actions_change_nothing(world) -> None:
    """While all is in the window: neither what is remembered, nor what the last frames were shown."""
    known = ACTIONS[5:7].transpose(0, 1)
    plain, anew = opened(world, actions=known), opened(world, actions=known)
    context = world.encode(torch.from_numpy(FRAMES))[:, -2:]
    codes, _ = played(plain, 1)
    played(anew, 1)
    whole = torch.cat([context, torch.stack(codes, 1)], 1)
    assert whole.shape[1] <= plain.order.reach
    anew.recache([0, 1], whole, torch.cat([known, ACTIONS[:1].transpose(0, 1)], 1))
    want, made = played(plain, 3, first=1)[0], played(anew, 3, first=1)[0]
    assert max(float((a - b).abs().max()) for a, b in zip(made, want)) < 1e-4


def test_keys_made_anew_leave_the_memory_as_it_is(world) -> None:
    """Also where frames have left the window, and under other actions: the player has moved as he has moved."""
    streams = opened(world)
    context = world.encode(torch.from_numpy(FRAMES))
    codes, _ = played(streams, 5)
    before = [row.extras[EXTRA] for row in streams.rows]
    streams.recache([0], torch.cat([context, torch.stack(codes, 1)], 1)[:1], 1 - ACTIONS[:8, :1].transpose(0, 1))
    assert all(row.extras[EXTRA] is kept for row, kept in zip(streams.rows, before))
    played(streams, 1, first=5)
    assert len(place(streams).points.keyframes) >= len(before[0].state.points.keyframes)


def test_a_renewal_leaves_the_memory_as_it_is(world) -> None:
    """The player is where he was, and the last frame is still to be kept; a fresh start would be at the origin."""
    streams = opened(world)
    hook = ReencodeEvery(streams, 3, RNGS)
    for number, action in enumerate(ACTIONS[:6]):
        codes = streams.frame(action)
        before = [row.extras[EXTRA] for row in streams.rows]
        hook.after(codes, action, lambda codes=codes: streams.decode(codes))
        assert all(row.extras[EXTRA] is kept for row, kept in zip(streams.rows, before))
        assert streams.rows[0].clock == (number + 4 if number < 2 else 3 + (number - 2) % 3)
    assert float(place(streams).pose[:2].abs().max()) > 1
    fresh = opened(world)
    assert not place(fresh).pose[:2].any()


def test_both_branches_of_guidance_are_shown_the_same(world) -> None:
    """And w = 1 is the frame without guidance; another w is another one."""

    def guided(last: float):
        config = world.config.replace(guidance=GuidanceConfig(first=last, last=last))
        return opened(VideoModel(config, world.tokenizer, world.net, memory=world.memory))

    streams = guided(2.5)
    made, _ = played(streams, 3)
    rows = streams.state.rows
    assert len(rows) == 4
    for row, other in zip(rows[:2], rows[2:]):
        assert row.shown.keys() == other.shown.keys() and row.shown
        assert all(torch.equal(row.shown[unit], other.shown[unit]) for unit in row.shown)
    plain = played(opened(world), 3)[0]
    none = played(guided(1.0), 3)[0]
    assert float((none[0] - plain[0]).abs().max()) < 1e-4  # later ones are shown pictures, which are rounded
    assert float((made[0] - plain[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("guess", [True, False])
def test_a_game_with_guesses_shows_the_frames_without(world, guess) -> None:
    """By hand: guesses are made with other keys, with the same, or not at all."""
    engine = PlayEngine(world, 1, fps=1000.0, speculate=guess)
    slot = engine.sit(Start(FRAMES[0], None, 5))
    rest = ACTIONS[:, 0].numpy()
    frames = []
    for number, row in enumerate(rest):
        slot.press(row)
        if guess and number:
            engine._guess(engine._actions({0: rest[number - 1] if number % 2 else row}), frozenset({0}))
        engine.round()
        frames.append(slot.shown.frame)
    engine.stop()
    streams = world.rollout(1)
    streams.begin(0, FRAMES[0], None, 5)
    want = [streams.decode(streams.frame(torch.from_numpy(row)[None]))[0].numpy() for row in rest]
    assert all(np.array_equal(a, b) for a, b in zip(frames, want, strict=True))
    assert not guess or (engine.hits > 1 and engine.misses > 1)


def test_two_threads_that_ask_for_a_picture_decode_it_once() -> None:
    """The painter of a game and its memory may ask at the same time."""
    calls, gate = list[int](), threading.Barrier(2)

    class Slow:
        looks_back = False

        def decode(self, codes: Tensor, state=None):
            calls.append(threading.get_ident())
            time.sleep(0.05)
            return torch.full((1, 1, 2, 2, 3), len(calls), dtype=torch.uint8), None

    decoding, found = Decoding(Slow(), torch.zeros(1, 1, 4, 3)), list[Tensor]()  # pyright: ignore[reportArgumentType]

    def ask() -> None:
        gate.wait(10)
        found.append(decoding.frames())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1 and len(found) == 2 and found[0] is found[1]


def test_what_shows_no_memory_is_refused(world) -> None:
    """Frames that are in flight together would be shown nothing."""
    with pytest.raises(UsageError, match="has a memory, which needs its frames one after another"):
        next(opened(world).run(iter(ACTIONS)))
    with pytest.raises(UsageError, match="has a memory, which needs its frames one after another"):
        check_joint(world.setting(), 2)


def test_a_row_without_a_start_has_no_memory(world) -> None:
    streams = opened(world, (0,))
    played(streams, 2)
    assert EXTRA in streams.rows[0].extras and EXTRA not in streams.rows[1].extras and not streams.rows[1].shown
    assert isinstance(streams.recall, Recall)
