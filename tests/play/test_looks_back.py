"""A world whose tokenizer looks back: what is played is what `VideoModel.generate` shows, in bits."""

import time

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hand_clock import HandClock, due, guessed

from vidar.configs.shapes import world_shapes
from vidar.play.engine import PlayEngine, Start
from vidar.play.env import WorldEnv, WorldVectorEnv
from vidar.play.recording import keep, read, replay

CONTEXT = 4


@pytest.fixture(scope="module")
def world():
    """Random weights, also in the tokenizer, so that what it remembers is seen."""
    torch.manual_seed(0)
    config = world_shapes(preset="tiny").method.world
    made = config.replace(tokenizer=config.tokenizer.replace(time_kernel=3), context=CONTEXT).build()
    with torch.no_grad():
        for parameter in (*made.net.parameters(), *made.tokenizer.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def video(seed, length=CONTEXT + 2):
    return np.random.default_rng(seed).integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)


def keys(seed, count, *shape):
    """[count, .., 1], never twice the same in a row."""
    turns = np.random.default_rng(100 + seed).integers(1, 5, (count, *shape, 1))
    return (turns.cumsum(0) % 5).astype(np.float32)


def alone(world, start, actions, row, capacity):
    """The frames of one row among rows that nobody opened: of its codes, decoded one by one, nothing forgotten."""
    streams = world.rollout(capacity)
    context = streams.begin(row, start.frames, start.actions, start.seed)
    memory, frames = world.decode(context[None])[1], []
    memory = {"first": False, "past": {name: x.expand(capacity, *x.shape[1:]) for name, x in memory["past"].items()}}
    for action in actions:
        table = torch.zeros(capacity, 1)
        table[row] = torch.from_numpy(action)
        seen, memory = world.decode(streams.frame(table)[:, None], memory)
        frames.append(seen[row, 0].numpy())
    return np.stack(frames)


def rounds(engine, slot, actions):
    """The frames of one slot, a round each."""
    shown = []
    for action in actions:
        slot.press(action)
        slot.asked = time.monotonic()
        engine.round()
        shown.append(slot.shown.frame.copy())
    return np.stack(shown)


def test_an_engine_and_its_replay_show_the_frames_of_generate(world, tmp_path):
    frames, pressed = video(1), keys(1, 6)
    want = world.generate(frames, pressed, seed=3).frames[0]
    engine = PlayEngine(world, 1)
    slot = engine.sit(Start(frames, None, 3))
    assert np.array_equal(rounds(engine, slot, pressed), want)
    keep(slot, tmp_path / "a.dream")
    assert np.array_equal(np.stack(list(replay(world, read(tmp_path / "a.dream")))), want)


def test_guesses_that_hit_or_miss_leave_no_trace_in_the_pictures(world):
    """Each key is held for two frames: one guess was wrong when it is due, the next one right; some are remade."""
    frames, pressed = video(2), keys(2, 6).repeat(2, 0)
    want = world.generate(frames, pressed, seed=4).frames[0]
    with PlayEngine(world, 1, 25.0, now=HandClock()) as engine:
        with engine.wake:
            slot = engine.sit(Start(frames, None, 4))
            slot.press(pressed[0])
        shown = [slot.newest(None, timeout=20).frame]
        for number, action in enumerate(pressed[1:], 1):
            guess = guessed(engine)
            if number == 6:
                slot.press((pressed[number - 1] + 1) % 5)
                guessed(engine, guess)
            due(engine, [(slot, action)])
            shown.append(slot.newest(number, timeout=20).frame)
    assert np.array_equal(np.stack(shown), want)
    assert engine.hits >= 4 and engine.misses >= 4 and engine.remade >= 1


def test_slots_that_come_late_stand_or_begin_anew(world, tmp_path):
    """Each shows what its dream shows alone in its row; a replay too."""
    engine, told = PlayEngine(world, 3), {}
    first, second = Start(video(1), keys(1, CONTEXT + 2), 11), Start(video(2, 2), None, 12)
    a = engine.sit(first)
    rounds(engine, a, keys(3, 3))
    b = engine.sit(second)
    for one, two in zip(keys(4, 3), keys(5, 3)):
        b.press(two)
        b.asked = time.monotonic()
        rounds(engine, a, [one])
    a.pause(True)
    told[b] = rounds(engine, b, keys(6, 3))
    a.pause(False)
    b.pause(True)
    told[a] = rounds(engine, a, keys(7, 3))
    for slot in (a, b):
        want = alone(world, slot.log.start, slot.log.rows, slot.row, 3)
        assert len(want) >= 6 and np.array_equal(told[slot], want[-3:])
    keep(b, tmp_path / "b.dream")
    assert np.array_equal(np.stack(list(replay(world, read(tmp_path / "b.dream"))))[-3:], told[b])
    a.reset(Start(video(8), None, 13))
    b.pause(False)
    shown = []
    for one, two in zip(keys(8, 3), keys(9, 3)):
        a.press(one)
        a.asked = time.monotonic()
        rounds(engine, b, [two])
        shown.append(a.shown.frame)
    assert np.array_equal(np.stack(shown), alone(world, a.log.start, a.log.rows, a.row, 3))
    want = alone(world, b.log.start, b.log.rows, b.row, 3)
    assert len(want) == 9 and np.array_equal(b.shown.frame, want[-1])


def test_the_environment_shows_the_frames_of_generate(world):
    """And at its start the last picture of its context."""
    frames, pressed = video(1), keys(1, 6)
    want = world.generate(frames, pressed, seed=3).frames[0]
    env = WorldEnv(world)
    first = env.reset(seed=3, options={"context": frames})[0]
    context = torch.from_numpy(frames[None, -CONTEXT:])
    assert np.array_equal(first, world.decode(world.encode(context))[0][0, -1].numpy())
    assert np.array_equal(np.stack([env.step(row)[0] for row in pressed]), want)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_dream_that_begins_anew_leaves_the_others_alone(world, mode, monkeypatch):
    """Dream 0 is begun two frames after dream 1; both are cut off after five frames, and begun anew by themselves."""
    contexts, seen = {}, {0: [], 1: []}
    env = WorldVectorEnv(2, world, horizon=5, capacity=3, autoreset_mode=mode)

    def context(seed, options):
        contexts[seed] = video(seed % 1000)
        return torch.from_numpy(contexts[seed][-CONTEXT:]), None

    monkeypatch.setattr(env, "_context", context)
    env.reset(seed=[5, 6])
    pressed = keys(7, 9, 2)
    for number, rows in enumerate(pressed):
        if number == 2:
            env.reset(seed=[9, 10], options={"reset_mask": np.array([True, False])})
        frames, _, _, cut, info = env.step(rows)
        for row in range(2):
            seen[row].append(info["final_obs"][row] if "final_obs" in info and cut[row] else frames[row])
    shown = {row: np.stack(frames) for row, frames in seen.items()}
    plays = {(0, 5): (0, 2), (0, 9): (2, 7), (1, 6): (0, 5)}
    again = int(mode == AutoresetMode.NEXT_STEP)  # one step for the beginning
    plays |= {(0, env.seeds[0]): (7 + again, 9), (1, env.seeds[1]): (5 + again, 9)}
    for (row, seed), (begin, end) in plays.items():
        want = alone(world, Start(contexts[seed], None, seed), pressed[begin:end, row], row, 3)
        assert np.array_equal(shown[row][begin:end], want), (row, seed)
