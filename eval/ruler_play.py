"""The real game for the ruler: starts, what each player sees in it, and the reference of the manifold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.explore import ReplayPolicy
from vidar.data.vizdoom import VizdoomGame
from vidar.eval.held_out import game_of, same_game
from vidar.eval.manifold import Manifold
from vidar.eval.players import Player
from vidar.model.model import VideoModelConfig
from vidar.types import VidarError

GAMES_PER_PART = 10_000


class RulerConfig(Config):
    """Choice: games from seed 3,000,000 on, which no training and no other evaluation uses.

    The exploring policy plays `lead` frames; then the player of the ruler takes over, in the dream and in the game. The
    manifold has `reference` games of that policy, each second frame, and is calibrated on `others` further games.
    """

    scenario: str = "my_way_home"
    first_game: int = Field(default=3_000_000, ge=0)
    lead: int = Field(default=64, ge=1)
    reference: int = Field(default=100, ge=1)
    others: int = Field(default=40, ge=2)


@dataclass(frozen=True)
class Start:
    """The beginning of one game: its seed, and the rows of actions and frames up to the start."""

    seed: int
    actions: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Played:
    """What a player sees in the real game from E starts.

    table float32 [E, T, A]; frames uint8 [E, T, H, W, 3]; poses float32 [E, 1 + T, 4] from the start on; lasted
    int [E]: frames before the game ended, the later ones repeat its last frame.
    """

    table: np.ndarray
    frames: np.ndarray
    poses: np.ndarray
    lasted: np.ndarray


class RealGame:
    """The running game, without its time limit."""

    def __init__(self, world: VideoModelConfig, config: RulerConfig, frames: int) -> None:
        """frames: the longest play after a start. Raises VidarError if it is not the game of this world."""
        self.config, self.world = config, world
        self.lead = max(config.lead, world.context)
        self.running: VizdoomGame = game_of(world, config.scenario, self.lead + frames).build()
        try:
            same_game(self.running, world, "the ruler needs a world of this game")
            if "pose" not in self.running.episode(config.first_game).extras:
                raise VidarError(f"{self.running.name}: tells no pose, which the ruler needs")
            self.running.game.set_episode_timeout(0)
        except BaseException:
            self.running.close()
            raise

    def starts(self, count: int) -> list[Start]:
        """The first games that last for the lead. Raises VidarError if there are too few."""
        found: list[Start] = []
        for seed in range(self.config.first_game, self.config.first_game + GAMES_PER_PART):
            if len(found) == count:
                break
            episode = self._explored(seed, self.lead)
            if len(episode.frames) == self.lead:
                found.append(Start(seed, episode.actions, episode.frames))
        if len(found) < count:
            raise VidarError(f"{self.running.name}: only {len(found)} of {count} games last for {self.lead} frames")
        return found

    def play(self, starts: Sequence[Start], player: Player, frames: int) -> Played:
        """The same tables as in the dream, played by the game."""
        table = np.stack([player(frames, number) for number in range(len(starts))])
        seen, poses, lasted = [], [], []
        for start, rows in zip(starts, table):
            episode = self.running.episode(start.seed, ReplayPolicy(np.concatenate([start.actions, rows])))
            shown, pose = episode.frames[self.lead :], episode.extras["pose"][self.lead - 1 :]
            lasted.append(min(len(shown), frames))
            seen.append(_filled(np.concatenate([start.frames[-1:], shown]), 1 + frames)[1:])
            poses.append(_filled(pose, 1 + frames))
        return Played(table, np.stack(seen), np.stack(poses), np.array(lasted))

    def manifold(self) -> Manifold:
        """The manifold of real play, of games that no start uses."""
        first = self.config.first_game + GAMES_PER_PART
        length = self.running.config.frames
        reference = [self._explored(first + n, length).frames[::2] for n in range(self.config.reference)]
        others = [self._explored(first + GAMES_PER_PART + n, length).frames[::2] for n in range(self.config.others)]
        return Manifold.of(reference, others)

    def close(self) -> None:
        """Stop the game."""
        self.running.close()

    def _explored(self, seed: int, frames: int) -> Episode:
        whole = self.running.config
        self.running.config = whole.replace(frames=frames)
        try:
            return self.running.episode(seed)
        finally:
            self.running.config = whole


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows; a shorter array repeats its last one."""
    return values[np.minimum(np.arange(count), len(values) - 1)]
