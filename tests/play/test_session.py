"""A table: frames are a function of start, seed, keys and capacity, whatever else happens at it."""

import threading
import time

import numpy as np
import pytest
import torch
from hand_clock import HandClock, due, guessed

from vidar.actions import Action, ActionSpec, mu_law_bins
from vidar.play.clock import Clock, Meter
from vidar.play.keys import Hands, Keys, code_of
from vidar.play.session import Start, Table
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
    """Reads every frame of a seat."""

    def __init__(self, seat):
        self.seat, self.frames, self.after = seat, [], None

    def look(self):
        shown = self.seat.newest(self.after, timeout=20)
        self.after = shown.number
        self.frames.append(shown.frame)
        return shown


def keys(seed, count):
    """[count, 5], never twice the same in a row, and something is pressed first."""
    rows = np.random.default_rng(seed).integers(0, 2, (count, 5))
    rows[:, 0] = 1 - np.arange(count) % 2
    return rows.astype(np.float32)


def turn(table, presses, guess=True):
    """The next frame of the players that move, with these keys: (player, row). Paced: dreamed before its time."""
    if table.clock.period:
        if guess:
            guessed(table)
        due(table, [(player.seat, row) for player, row in presses])
    else:
        for player, row in presses:
            player.seat.press(row)
    for player, _ in presses:
        player.look()


def settled(table, instead=None):
    """Paced: the guess of the next frame, when it is made."""
    return guessed(table, instead) if table.clock.period else None


@pytest.mark.parametrize("fps", [None, 25.0])
def test_what_a_seat_shows_is_the_dream_of_its_log(world, fps):
    """Two players, one joins late and one pauses; with and without pacing, and so with and without speculation.

    Keys change with every frame or are held for two, so that guesses miss and hit.
    """
    with Table(world, CAPACITY, fps, now=HandClock() if fps else time.monotonic) as table:
        first = Player(table.sit(start(1)))
        first.look()
        for row in keys(1, 4).repeat(2, 0):
            turn(table, [(first, row)])
        settled(table)
        second = Player(table.sit(start(2)))
        for number, (mine, theirs) in enumerate(zip(keys(3, 4), keys(4, 4))):
            turn(table, [(first, mine), (second, theirs)], guess=number > 0)
        guess = settled(table)
        first.seat.pause(True)
        settled(table, guess)
        for row in keys(5, 4):
            turn(table, [(second, row)])
        guess = settled(table)
        first.seat.pause(False)
        settled(table, guess)
        for row in keys(6, 4).repeat(2, 0):
            turn(table, [(first, row), (second, row)])
    for player in (first, second):
        want = headless(world, player.seat.log, player.seat.row)
        assert len(want) >= 10 and np.array_equal(player.seat.shown.frame, want[len(player.seat.log.rows) - 1])
        assert all(any(np.array_equal(frame, other) for other in want) for frame in player.frames)
    assert (table.hits > 0 and table.misses > 0) == (table.hits + table.misses > 0) == (fps is not None)


def test_speculation_hits_while_keys_are_held_and_is_thrown_away_on_a_change(world):
    with Table(world, 1, fps=20.0, now=HandClock()) as table:
        player = Player(table.sit(start(1)))
        player.look()
        for row in keys(2, 5).repeat(4, 0):
            turn(table, [(player, row)])
        log = player.seat.log
    assert (table.hits, table.misses, table.remade) == (15, 5, 0)
    streams = world.rollout(1)
    one = start(1)
    streams.open([0], world.encode(torch.from_numpy(one.frames)[None]), torch.from_numpy(one.actions)[None], [Rng(1)])
    for number, action in enumerate(log.rows, 1):
        last = world.decode(streams.frame(torch.from_numpy(action)[None])[:, None])[0][0, 0].numpy()
        if number == player.seat.shown.number:
            assert np.array_equal(player.seat.shown.frame, last)


def test_a_guess_is_made_anew_where_keys_change_in_time(world):
    """Keys change before the next frame is due, and it is there at once, and right."""
    with Table(world, 1, fps=2.0, now=HandClock()) as table:
        player = Player(table.sit(start(1)))
        player.look()
        for row in keys(2, 3):
            guess = guessed(table)
            player.seat.press(row)
            guessed(table, guess)
            due(table)
            player.look()
        assert (table.hits, table.misses, table.remade) == (3, 0, 3)
        log, last = player.seat.log, player.seat.shown
    streams = world.rollout(1)
    streams.begin(0, log.start.frames, log.start.actions, 1)
    for action in log.rows[: last.number]:
        code = streams.frame(torch.from_numpy(action)[None])
    assert np.array_equal(world.decode(code[:, None])[0][0, 0].numpy(), last.frame)


def test_pause_single_step_reset_and_leaving(world):
    with Table(world, 2) as table:
        player = Player(table.sit(start(1)))
        player.look()
        player.seat.pause(True)
        time.sleep(0.2)
        number = player.seat.shown.number
        assert player.seat.newest(number, timeout=0.2) is None
        player.seat.step()
        assert player.seat.newest(number, timeout=20).number == number + 1
        assert player.seat.newest(number + 1, timeout=0.2) is None
        player.seat.reset(start(5))
        player.seat.pause(False)
        assert player.seat.newest(None, timeout=20).number >= 1 and player.seat.log.start.seed == 5
        table.sit(start(2))
        with pytest.raises(UsageError, match="all 2 seats are taken"):
            table.sit(start(3))
        player.seat.leave()
        next_one = table.sit(start(3))
        player.seat.leave()  # again: the place is another's now
        assert next_one.row == player.seat.row and table.seats[next_one.row] is next_one


def test_the_log_says_how_a_frame_was_made_though_it_is_shown_while_the_next_one_is_made(world):
    """The first one in all steps and not compiled, the second one in a single step and compiled."""
    table, gate = Table(world, 1, least_steps=1), threading.Event()
    seat, most = table.sit(start(1)), table.governor.steps
    table._painter.submit(gate.wait, 60)  # no frame is shown before
    table._move()
    table.governor.steps = 1
    table.use(lambda *call: gate.set() or world.model(*call))
    seat.newest(timeout=0)
    table.round()
    table.stop()
    assert seat.log.steps == [most, 1] != [1, 1] and seat.log.eager == 1


def test_a_dream_waits_while_nobody_looks(world):
    with Table(world, 1) as table:
        seat = table.sit(start(1))
        seat.newest(None, timeout=20)
        time.sleep(1.3)
        number = seat.shown.number
        time.sleep(0.3)
        assert seat.shown.number == number
        assert seat.newest(number, timeout=20).number > number


def test_an_error_in_the_forward_reaches_the_reader(world, monkeypatch):
    def broken(codes, state=None):
        raise RuntimeError("no picture")

    monkeypatch.setattr(world, "decode", broken)
    with Table(world, 1) as table, pytest.raises(RuntimeError, match="no picture"):
        table.sit(start(1)).newest(None, timeout=20)


def test_bad_input_is_one_line(world):
    table = Table(world, 1)
    with pytest.raises(VidarError, match="the context is 8x8, this model is 80x64"):
        table.sit(Start(np.zeros((2, 8, 8, 3), np.uint8), None, 0))
    with pytest.raises(UsageError, match="4 frames and 3 rows"):
        table.sit(Start(start(0).frames, keys(0, 3), 0))
    with pytest.raises(VidarError, match="action 'TURN_LEFT' row 0 is 3"):
        table.sit(start(0)).press(np.array([3, 0, 0, 0, 0]))
    with pytest.raises(UsageError, match="capacity of at least 1"):
        Table(world, 0)


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
    hands = Hands(known)
    hands.hold(1, 4, 2, echo=7)
    hands.hold(0, 6, 8, echo=8)
    assert hands.row()[3] == 1.5 and hands.echo == 8 and hands.row()[0] == 0
    hands.used()
    assert hands.row().tolist() == [0, 0, 5, 0]


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
