"""Worlds that make several frames together are played: blocks of a stream, and segments that are planned."""

import time

import numpy as np
import pytest
import torch

from vidar.configs.acdit import acdit_doom
from vidar.configs.mmpl import mmpl_doom
from vidar.play.env import WorldVectorEnv
from vidar.play.recording import keep, read, replay
from vidar.play.session import Start, Table
from vidar.types import UsageError

RECIPES = {"blocks": acdit_doom, "plans": mmpl_doom}


@pytest.fixture(scope="module", params=RECIPES)
def world(request):
    torch.manual_seed(0)
    made = RECIPES[request.param](preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def start(world, seed):
    config = world.config
    frames = np.random.default_rng(seed).integers(0, 255, (6, config.height, config.width, 3), dtype=np.uint8)
    return Start(frames, np.zeros((6, config.actions.width), np.float32), seed)


def keys(world, number):
    """What is pressed: one key after another."""
    row = world.config.actions.noop().copy()
    row[number % len(row)] = 1
    return row


class Player:
    """A seat whose frames are all seen."""

    def __init__(self, table, start):
        self.seat, self.frames = table.sit(start), []

    def look(self):
        shown = self.seat.newest(timeout=0)
        if shown is not None and shown.number > len(self.frames):
            self.frames.append(shown.frame)


def played(world, table, presses):
    """Two players, the second one comes in the middle of a group of the first: their frames and keys."""
    players = [Player(table, start(world, 1))]
    for number in range(presses):
        if number == 1:
            players.append(Player(table, start(world, 2)))
        for place, player in enumerate(players):
            player.seat.press(keys(world, number + place))
            player.seat.asked = time.monotonic() + 1e6
        table.round()
        for player in players:
            player.look()
    return players


def test_what_is_shown_is_the_dream_of_the_log_and_the_recording(world, tmp_path):
    """Nobody else there, a group at a time, the keys that were held when it was begun."""
    table = Table(world, 2)
    per, players = table.streams.per_group, played(world, table, 2 * table.streams.per_group + 3)
    assert per > 1
    for player in players:
        rows, row = np.stack(player.seat.log.rows), player.seat.row
        for first in range(0, len(rows), per):
            assert (rows[first : first + per] == rows[first]).all()  # keys of a group act on all of it
        assert (rows[0] != rows[per]).any()
        streams, begun = world.rollout(2), player.seat.log.start
        streams.begin(row, begun.frames, begun.actions, begun.seed)
        expected = list[np.ndarray]()
        for first in range(0, len(rows), per):
            held = torch.from_numpy(world.config.actions.noop()).expand(2, per, -1).clone()
            held[row] = torch.from_numpy(rows[first])
            expected += [*streams.decoding(streams.group(held)).frames()[row].numpy()]
        assert len(player.frames) == len(rows) and np.array_equal(player.frames, expected[: len(rows)])
        keep(player.seat, tmp_path / "one.dream")
        again = list(replay(world, read(tmp_path / "one.dream")))
        assert np.array_equal(player.frames, again)
    table.stop()


def test_a_group_that_is_dreamed_before_its_time_is_the_same(world):
    """Keys held: a hit. Other keys: thrown away, and not a bit of it is left."""
    frames = {}
    for speculate in (True, False):
        table = Table(world, 1, fps=1000.0, speculate=speculate)
        player = Player(table, start(world, 1))
        per = table.streams.per_group
        for number in range(3 * per):
            player.seat.asked = time.monotonic() + 1e6
            if number == 2 * per and speculate:
                assert table.guess is not None
            if number == 2 * per:
                player.seat.press(keys(world, 1))
            table.round()
            player.look()
            if speculate and not table.left[0]:
                actions = table._actions({0: player.seat.hands.row()})
                table._guess(actions, frozenset({0}))
        if speculate:
            assert (table.hits, table.misses) == (1, 1)
        frames[speculate] = player.frames
        table.stop()
    assert np.array_equal(frames[True], frames[False])


def test_a_step_of_the_environment_is_a_group(world):
    env = WorldVectorEnv(2, world, horizon=None)
    per = env.streams.per_group
    env.reset(seed=3, options={"context": start(world, 1).frames})
    space = env.single_action_space
    held = np.stack([np.zeros(space.shape or (), space.dtype)] * 2)
    first, _, _, _, info = env.step(held)
    assert info["frame"].tolist() == [per, per]
    assert env.metadata["render_fps"] == pytest.approx(world.config.fps / per)
    streams = world.rollout(2)
    for row in range(2):
        streams.begin(row, start(world, 1).frames, None, 3 + row)
    rest = torch.from_numpy(world.config.actions.noop()).expand(2, per, -1)
    assert np.array_equal(first, streams.decoding(streams.group(rest)).frames()[:, -1].numpy())


def test_a_start_that_is_too_short_is_refused_before_anybody_sits(world):
    table, short = Table(world, 1), start(world, 1)
    assert table.streams.least() > 1
    with pytest.raises(UsageError, match="give a context of at least"):
        table.sit(Start(short.frames[:1], None, 0))
    table.stop()
