"""The real game beside the dream: the recorder's very pictures, under the dream's very actions, for one player only."""

import threading
import time

import numpy as np
import pytest
from play_client import WAIT, Player, plays_on

from vidar.data.explore import ReplayPolicy
from vidar.data.vizdoom import VizdoomConfig
from vidar.play import messages
from vidar.play.beside import Beside
from vidar.play.engine import PlayEngine, Start
from vidar.play.real_game import RealGame
from vidar.types import VidarError

CONTEXT = 4  # of the small world


@pytest.fixture
def game():
    made = RealGame(VizdoomConfig().build())
    yield made
    made.close()


@pytest.fixture
def beside():
    made = Beside(RealGame(VizdoomConfig().build()), CONTEXT)
    yield made
    made.close()


def test_pictures_are_the_recorders(game):
    rows = np.random.default_rng(0).integers(0, 2, (30, 5)).astype(np.float32)
    episode = game.running.episode(7, ReplayPolicy(rows))
    game.begin(8)  # what was played before does not matter
    game.act(rows[1])
    seen = [game.begin(7)] + [game.act(row) for row in rows[1:]]
    assert np.array_equal(np.stack(seen), episode.frames[:30])
    assert not np.array_equal(seen[0], seen[-1])


def test_the_clock_of_the_scenario_does_not_end_it():
    game = RealGame(VizdoomConfig(frame_skip=35).build())
    try:
        game.begin(1)
        assert all(game.act(game.spec.noop()) is not None for _ in range(65))  # its episodes have 60 such frames
    finally:
        game.close()


def test_both_begin_at_one_place_and_go_where_the_keys_go(serve, beside, game):
    served = serve(capacity=2, fps=25.0, beside=beside)
    with Player(served.port) as player, Player(served.port) as other:
        hello = player.hear("hello")
        assert (hello["beside"], hello["starts"], hello["seat"]) == (True, 1, 0)
        assert other.hear("hello")["beside"] is False
        slot = served.engine.slots[0]
        for seed in (hello["seed"], 4321):
            if seed == 4321:
                player.say("reset", seed=seed)
                player.hear("seed")
            player.pictures.clear()
            for seq, keys in enumerate((1, 4, 0, 5, 1, 4), seed % 100 + 1):
                player.say("input", seq=seq, keys=keys)
                player.frame(lambda header, seq=seq: header.echo == seq)
            player.say("pause", on=True)
            last = quiet(slot)
            if not any(header.frame == last for header, _ in player.pictures.get(messages.GAME_FRAME, [])):
                player.picture(messages.GAME_FRAME, lambda header, last=last: header.frame == last)
            log = slot.log
            assert log.start.seed == seed and np.array_equal(log.start.actions, np.zeros((CONTEXT, 5)))
            want = [game.begin(seed)] + [game.act(game.spec.noop()) for _ in range(CONTEXT - 1)]
            assert np.array_equal(np.stack(want), log.start.frames)
            want = want[-1:] + [game.act(row) for row in log.rows]
            shown = player.pictures[messages.GAME_FRAME]
            assert len(shown) > 5 and all(jpeg == messages.to_jpeg(want[header.frame]) for header, jpeg in shown)
            assert not np.array_equal(want[0], want[-1])
            player.say("pause", on=False)
        assert plays_on(other) and messages.GAME_FRAME not in other.pictures


def quiet(slot):
    """The number of the last frame of a dream that was paused."""
    end = time.monotonic() + WAIT
    number = -1
    while slot.shown is None or not slot.paused or slot.shown.number != number:
        assert time.monotonic() < end
        number = -1 if slot.shown is None else slot.shown.number
        time.sleep(0.2)
    return number


def test_a_dead_game_is_told_and_the_dream_goes_on(serve, beside, first_frames):
    served = serve(fps=25.0, beside=beside)
    with Player(served.port) as player:
        assert player.hear("hello")["beside"]
        player.picture(messages.GAME_FRAME)
        beside.game.running.game.close()
        assert player.hear("beside") == {"t": "beside", "on": False, "why": "the game is over"}
        assert plays_on(player)
        player.say("reset", seed=5)
        assert player.hear("beside")["why"].startswith("the real game has stopped: ")
        player.hear("seed")
        assert plays_on(player) and np.array_equal(served.engine.slots[0].log.start.frames, first_frames)
    with Player(served.port) as player:  # the next one plays without
        assert player.hear("hello")["beside"] is False
        assert plays_on(player)


class Short:
    """A game that is over after so many frames."""

    def __init__(self, spec, frames):
        self.spec, self.frames, self.left = spec, frames, 0

    def begin(self, seed):
        self.left = self.frames - 1
        return np.full((64, 80, 3), seed % 256, np.uint8)

    def act(self, row):
        self.left -= 1
        return None if self.left < 0 else np.full((64, 80, 3), self.left, np.uint8)

    def close(self):
        pass


class Late(Short):
    """A game that answers when `gate` opens, and keeps what it was given."""

    def __init__(self, spec):
        super().__init__(spec, 200)
        self.gate, self.given = threading.Event(), []

    def act(self, row):
        assert self.gate.wait(WAIT)
        self.given.append(row)
        return super().act(row)


def test_a_late_game_takes_every_action_in_order(world, first_frames):
    rng, game = np.random.default_rng(0), Late(world.config.actions)
    beside = Beside(game, 1)
    slot = PlayEngine(world, 1).sit(Start(first_frames, None, 1))
    try:
        slot.reset(beside.begin(1).result(WAIT))
        beside.follow(slot)
        for _ in range(12):
            slot.press(rng.integers(0, 2, 5).astype(np.float32))
            slot.asked = time.monotonic()
            slot.engine.round()
        game.gate.set()
        picture = None
        while picture is None or picture.number < 12:
            picture = beside.newest(picture, WAIT)
            assert picture is not None
        assert np.array_equal(game.given, slot.log.rows)
    finally:
        beside.close()


def test_a_game_that_ends_says_so_and_begins_again_with_a_reset(serve, tiny):
    beside = Beside(Short(tiny.config.actions, 7), CONTEXT)
    served = serve(fps=25.0, beside=beside)
    try:
        with Player(served.port) as player:
            player.hear("hello")
            assert player.hear("beside")["why"] == "the game is over"
            assert [header.frame for header, _ in player.pictures[messages.GAME_FRAME]][-1] == 3
            player.frame(lambda header: header.frame > 8)
            player.say("reset", seed=9)
            player.hear("seed")
            assert player.picture(
                messages.GAME_FRAME, lambda header: header.frame <= 3
            )  # some are passed over under load
            assert plays_on(player)
        with pytest.raises(VidarError, match="the game of seed 3 ends within its first 8 frames"):
            Beside(Short(tiny.config.actions, 7), 8).begin(3).result(WAIT)
    finally:
        beside.close()
