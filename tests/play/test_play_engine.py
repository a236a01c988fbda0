"""An engine: frames are a function of start, seed, keys and capacity, whatever else happens at it."""

import threading
import time

import numpy as np
import pytest
import torch
from hand_clock import HandClock, due, guessed

from vidar.actions import Action, ActionSpec, mu_law_bins
from vidar.play.clock import Clock, Meter
from vidar.play.engine import PlayEngine, Start
from vidar.play.keys import InputState, Keys, code_of
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

CAPACITY = 3


def start(seed):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (4, 64, 80, 3), dtype=np.uint8)
    return Start(frames, rng.integers(0, 2, (4, 5)).astype(np.float32), seed)


def headless(world, log, row):
    """The dream of a log in a row of a fresh rollout, nobody else there."""
    streams = world.rollout(CAPACITY)
    codes = world.encode(torch.from_numpy(log.start.frames)[None])
    streams.open([row], codes, torch.from_numpy(log.start.actions)[None], [Rng(log.start.seed)])
    frames = []
    for action in log.rows:
        table = torch.zeros(CAPACITY, 5)
        table[row] = torch.from_numpy(action)
        frames.append(world.decode(streams.frame(table)[:, None])[0][row, 0].numpy())
    return frames


class Player:
    """Reads every frame of a slot."""

    def __init__(self, slot):
        self.slot, self.frames, self.after = slot, [], None

    def look(self):
        shown = self.slot.newest(self.after, timeout=20)
        self.after = shown.number
        self.frames.append(shown.frame)
        return shown


def keys(seed, count):
    """[count, 5], never twice the same in a row, and something is pressed first."""
    rows = np.random.default_rng(seed).integers(0, 2, (count, 5))
    rows[:, 0] = 1 - np.arange(count) % 2
    return rows.astype(np.float32)


def turn(engine, presses, guess=True):
    """The next frame of the players that move, with these keys: (player, row). Paced: dreamed before its time."""
    if engine.clock.period:
        if guess:
            guessed(engine)
        due(engine, [(player.slot, row) for player, row in presses])
    else:
        for player, row in presses:
            player.slot.press(row)
    for player, _ in presses:
        player.look()


def settled(engine, instead=None):
    """Paced: the guess of the next frame, when it is made."""
    return guessed(engine, instead) if engine.clock.period else None


@pytest.mark.parametrize("fps", [None, 25.0])
def test_what_a_slot_shows_is_the_dream_of_its_log(world, fps):
    """Two players, one joins late and one pauses; with and without pacing, and so with and without speculation.

    Keys change with every frame or are held for two, so that guesses miss and hit.
    """
    with PlayEngine(world, CAPACITY, fps, now=HandClock() if fps else time.monotonic) as engine:
        first = Player(engine.sit(start(1)))
        first.look()
        for row in keys(1, 4).repeat(2, 0):
            turn(engine, [(first, row)])
        settled(engine)
        second = Player(engine.sit(start(2)))
        for number, (mine, theirs) in enumerate(zip(keys(3, 4), keys(4, 4))):
            turn(engine, [(first, mine), (second, theirs)], guess=number > 0)
        guess = settled(engine)
        first.slot.pause(True)
        settled(engine, guess)
        for row in keys(5, 4):
            turn(engine, [(second, row)])
        guess = settled(engine)
        first.slot.pause(False)
        settled(engine, guess)
        for row in keys(6, 4).repeat(2, 0):
            turn(engine, [(first, row), (second, row)])
    for player in (first, second):
        want = headless(world, player.slot.log, player.slot.row)
        assert len(want) >= 10 and np.array_equal(player.slot.shown.frame, want[len(player.slot.log.rows) - 1])
        assert all(any(np.array_equal(frame, other) for other in want) for frame in player.frames)
    assert (engine.hits > 0 and engine.misses > 0) == (engine.hits + engine.misses > 0) == (fps is not None)


def test_speculation_hits_while_keys_are_held_and_is_thrown_away_on_a_change(world):
    with PlayEngine(world, 1, fps=20.0, now=HandClock()) as engine:
        player = Player(engine.sit(start(1)))
        player.look()
        for row in keys(2, 5).repeat(4, 0):
            turn(engine, [(player, row)])
        log = player.slot.log
    assert (engine.hits, engine.misses, engine.remade) == (15, 5, 0)
    streams = world.rollout(1)
    one = start(1)
    streams.open([0], world.encode(torch.from_numpy(one.frames)[None]), torch.from_numpy(one.actions)[None], [Rng(1)])
    for number, action in enumerate(log.rows, 1):
        last = world.decode(streams.frame(torch.from_numpy(action)[None])[:, None])[0][0, 0].numpy()
        if number == player.slot.shown.number:
            assert np.array_equal(player.slot.shown.frame, last)


def test_a_guess_is_made_anew_where_keys_change_in_time(world):
    """Keys change before the next frame is due, and it is there at once, and right."""
    with PlayEngine(world, 1, fps=2.0, now=HandClock()) as engine:
        player = Player(engine.sit(start(1)))
        player.look()
        for row in keys(2, 3):
            guess = guessed(engine)
            player.slot.press(row)
            guessed(engine, guess)
            due(engine)
            player.look()
        assert (engine.hits, engine.misses, engine.remade) == (3, 0, 3)
        log, last = player.slot.log, player.slot.shown
    streams = world.rollout(1)
    streams.begin(0, log.start.frames, log.start.actions, 1)
    for action in log.rows[: last.number]:
        code = streams.frame(torch.from_numpy(action)[None])
    assert np.array_equal(world.decode(code[:, None])[0][0, 0].numpy(), last.frame)


def test_pause_single_step_reset_and_leaving(world):
    with PlayEngine(world, 2) as engine:
        player = Player(engine.sit(start(1)))
        player.look()
        player.slot.pause(True)
        time.sleep(0.2)
        number = player.slot.shown.number
        assert player.slot.newest(number, timeout=0.2) is None
        player.slot.step()
        assert player.slot.newest(number, timeout=20).number == number + 1
        assert player.slot.newest(number + 1, timeout=0.2) is None
        player.slot.reset(start(5))
        player.slot.pause(False)
        assert player.slot.newest(None, timeout=20).number >= 1 and player.slot.log.start.seed == 5
        engine.sit(start(2))
        with pytest.raises(UsageError, match="all 2 player slots are in use"):
            engine.sit(start(3))
        player.slot.leave()
        next_one = engine.sit(start(3))
        player.slot.leave()  # again: the place is another's now
        assert next_one.row == player.slot.row and engine.slots[next_one.row] is next_one


def test_the_log_says_how_a_frame_was_made_though_it_is_shown_while_the_next_one_is_made(world):
    """The first one in all steps and not compiled, the second one in a single step and compiled."""
    engine, gate = PlayEngine(world, 1, least_steps=1), threading.Event()
    slot, most = engine.sit(start(1)), engine.governor.steps
    engine._painter.submit(gate.wait, 60)  # no frame is shown before
    engine._move()
    engine.governor.steps = 1
    engine.use(lambda *call: gate.set() or world.model(*call))
    slot.newest(timeout=0)
    engine.round()
    engine.stop()
    assert slot.log.steps == [most, 1] != [1, 1] and slot.log.eager == 1


def test_a_dream_waits_while_nobody_looks(world):
    with PlayEngine(world, 1) as engine:
        slot = engine.sit(start(1))
        slot.newest(None, timeout=20)
        time.sleep(1.3)
        number = slot.shown.number
        time.sleep(0.3)
        assert slot.shown.number == number
        assert slot.newest(number, timeout=20).number > number


def test_an_error_in_the_forward_reaches_the_reader(world, monkeypatch):
    def broken(codes, state=None):
        raise RuntimeError("no picture")

    monkeypatch.setattr(world, "decode", broken)
    with PlayEngine(world, 1) as engine, pytest.raises(RuntimeError, match="no picture"):
        engine.sit(start(1)).newest(None, timeout=20)


def test_bad_input_is_one_line(world):
    engine = PlayEngine(world, 1)
    with pytest.raises(VidarError, match="the context is 8x8, this model is 80x64"):
        engine.sit(Start(np.zeros((2, 8, 8, 3), np.uint8), None, 0))
    with pytest.raises(UsageError, match="4 frames and 3 rows"):
        engine.sit(Start(start(0).frames, keys(0, 3), 0))
    with pytest.raises(VidarError, match="action 'TURN_LEFT' row 0 is 3"):
        engine.sit(start(0)).press(np.array([3, 0, 0, 0, 0]))
    with pytest.raises(UsageError, match="capacity of at least 1"):
        PlayEngine(world, 0)


def test_keys_and_mouse_by_hand():
    spec = ActionSpec(
        actions=(
            Action(name="RUN", keys=("w", "ArrowUp")),
            Action(name="weapon", kind="choice", size=3, keys=("1", "2", "3")),
            Action(name="yaw", kind="camera", size=11, noop=5),
            Action(name="pitch", kind="continuous", low=-2, high=2),
        )
    )
    known = Keys(spec)
    assert known.codes == ("KeyW", "ArrowUp", "Digit1", "Digit2", "Digit3") and code_of(" ") == "Space"
    named = {"Shift": "ShiftLeft", "[": "BracketLeft", "]": "BracketRight", "ArrowUp": "ArrowUp", "ctrl": "ControlLeft"}
    assert {key: code_of(key) for key in named} == named
    assert known.row(0).tolist() == [0, 0, 5, 0]
    assert known.row(0b00010).tolist() == [1, 0, 5, 0] and known.row(0b01001).tolist() == [1, 1, 5, 0]
    turned = known.row(0, dx=20, dy=-10)
    assert turned.tolist() == [0, 0, float(mu_law_bins(np.array(3.0), 11)), -1.5]
    assert known.row(0, dy=1e9)[3] == 2 and known.row(0, dx=float("nan"))[2] == 5
    inputs = InputState(known)
    inputs.hold(1, 4, 2, echo=7)
    inputs.hold(0, 6, 8, echo=8)
    assert inputs.row()[3] == 1.5 and inputs.echo == 8 and inputs.row()[0] == 0
    inputs.used()
    assert inputs.row().tolist() == [0, 0, 5, 0]


def test_clock_and_meter_by_hand():
    at = [10.0]
    clock = Clock(10.0, now=lambda: at[0])
    assert clock.left() == 0.0
    clock.tick()
    assert clock.left() == pytest.approx(0.1)
    at[0] = 10.12
    clock.tick()  # a little late: the rhythm stays
    assert clock.left() == pytest.approx(0.08)
    at[0] = 15.0
    clock.tick()  # a stall: begins anew
    assert clock.left() == pytest.approx(0.1)
    assert Clock(None, now=lambda: at[0]).left() == 0.0
    meter = Meter(keep=4)
    for n in range(8):
        meter.frame(n * 0.5, late=n == 7)
        meter.spend("model", 0.01 * n)
    told = meter.figures()
    assert told["frames"] == 8 and told["fps"] == 2.0 and told["late"] == 0.25
    assert told["model_ms_p50"] == pytest.approx(55)
