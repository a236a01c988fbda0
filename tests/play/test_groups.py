"""Worlds that make several frames together are played: blocks of a stream, and segments that are planned."""

import time

import numpy as np
import pytest
import torch

from vidar.configs.acdit import acdit_doom
from vidar.configs.mmpl import mmpl_doom
from vidar.play.engine import PlayEngine, Start
from vidar.play.env import WorldVectorEnv
from vidar.play.recording import keep, read, replay
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
    """A slot whose frames are all seen."""

    def __init__(self, engine, start):
        self.slot, self.frames = engine.sit(start), []

    def look(self):
        shown = self.slot.newest(timeout=0)
        if shown is not None and shown.number > len(self.frames):
            self.frames.append(shown.frame)


def played(world, engine, presses):
    """Two players, the second one comes in the middle of a group of the first: their frames and keys."""
    players = [Player(engine, start(world, 1))]
    for number in range(presses):
        if number == 1:
            players.append(Player(engine, start(world, 2)))
        for place, player in enumerate(players):
            player.slot.press(keys(world, number + place))
            player.slot.asked = time.monotonic() + 1e6
        engine.round()
        for player in players:
            player.look()
    return players


def test_what_is_shown_is_the_dream_of_the_log_and_the_recording(world, tmp_path):
    """Nobody else there, a group at a time, the keys that were held when it was begun."""
    engine = PlayEngine(world, 2)
    per, players = engine.streams.per_group, played(world, engine, 2 * engine.streams.per_group + 3)
    assert per > 1
    for player in players:
        rows, row = np.stack(player.slot.log.rows), player.slot.row
        for first in range(0, len(rows), per):
            assert (rows[first : first + per] == rows[first]).all()  # keys of a group act on all of it
        assert (rows[0] != rows[per]).any()
        streams, begun = world.rollout(2), player.slot.log.start
        streams.begin(row, begun.frames, begun.actions, begun.seed)
        expected = list[np.ndarray]()
        for first in range(0, len(rows), per):
            held = torch.from_numpy(world.config.actions.noop()).expand(2, per, -1).clone()
            held[row] = torch.from_numpy(rows[first])
            expected += [*streams.decoding(streams.group(held)).frames()[row].numpy()]
        assert len(player.frames) == len(rows) and np.array_equal(player.frames, expected[: len(rows)])
        keep(player.slot, tmp_path / "one.dream")
        again = list(replay(world, read(tmp_path / "one.dream")))
        assert np.array_equal(player.frames, again)
    engine.stop()


def test_a_group_that_is_dreamed_before_its_time_is_the_same(world):
    """Keys held: a hit. Other keys: thrown away, and not a bit of it is left."""
    frames = {}
    for speculate in (True, False):
        engine = PlayEngine(world, 1, fps=1000.0, speculate=speculate)
        player = Player(engine, start(world, 1))
        per = engine.streams.per_group
        for number in range(3 * per):
            player.slot.asked = time.monotonic() + 1e6
            if number == 2 * per and speculate:
                assert engine.guess is not None
            if number == 2 * per:
                player.slot.press(keys(world, 1))
            engine.round()
            player.look()
            if speculate and not engine.left[0]:
                actions = engine._actions({0: player.slot.inputs.row()})
                engine._guess(actions, frozenset({0}))
        if speculate:
            assert (engine.hits, engine.misses) == (1, 1)
        frames[speculate] = player.frames
        engine.stop()
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
    engine, short = PlayEngine(world, 1), start(world, 1)
    assert engine.streams.least() > 1
    with pytest.raises(UsageError, match="give a context of at least"):
        engine.sit(Start(short.frames[:1], None, 0))
    engine.stop()
