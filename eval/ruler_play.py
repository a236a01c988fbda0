"""The real game for the ruler: starts, what each player sees in it, and the reference of the manifold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.explore import ActionPolicy, ReplayPolicy
from vidar.data.gym import GymConfig, GymRecorder
from vidar.data.players import Player
from vidar.data.synthetic import SPEC, ShapesConfig, ShapesWorld, X, Y
from vidar.data.vizdoom import VizdoomGame
from vidar.eval.held_out import game_of, same_game
from vidar.model.model import VideoModelConfig
from vidar.types import VidarError

GAMES_PER_PART = 10_000
SHAPES, MAZE, GYM = "shapes", "my_way_home", "gym:"


class RulerConfig(Config):
    """Choice: games from seed 3,000,000 on, which no training and no other evaluation uses.

    The exploring policy plays `lead` frames; then the player of the ruler takes over, in the dream and in the game. The
    manifold has `reference` games of that policy, each second frame, and is calibrated on `others` further games.
    Retrieval has `clips` games from seed 0 on, which training may have seen.

    Every player plays `seconds`; idle, the key that moves ahead, mashing and recorded play go on to `long_seconds`.
    """

    game: str = ""  # a ViZDoom scenario, "shapes", or the id of a gymnasium environment; empty: by the actions
    first_game: int = Field(default=3_000_000, ge=0)
    lead: int = Field(default=64, ge=1)
    reference: int = Field(default=100, ge=1)
    others: int = Field(default=40, ge=2)
    clips: int = Field(default=20, ge=1)
    clip_frames: int = Field(default=240, ge=32)
    starts: int = Field(default=16, ge=2)
    seconds: float = Field(default=10.0, gt=0)
    long_seconds: float = Field(default=60.0, gt=0)
    only: tuple[str, ...] = ()  # names of players; empty: all


USUAL = RulerConfig()


@dataclass(frozen=True)
class Start:
    """The beginning of one game: its seed, the rows of actions and frames up to the start, the rows played after it."""

    seed: int
    actions: np.ndarray
    frames: np.ndarray
    after: np.ndarray


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


def manifold_seeds(config: RulerConfig) -> tuple[range, range]:
    """The games of the manifold, none of which is a start: reference and others."""
    first = config.first_game + GAMES_PER_PART
    return range(first, first + config.reference), range(first + GAMES_PER_PART, first + GAMES_PER_PART + config.others)


class RealGame:
    """The running game, without its time limit."""

    def __init__(self, world: VideoModelConfig, config: RulerConfig, frames: int) -> None:
        """frames: the longest play after a start. Raises VidarError if it is not the game of this world."""
        self.config, self.world = config, world
        self.name = game_name(world, config)
        self.lead = world.context if _is_gym(self.name) else max(config.lead, world.context)
        self.longest = self.lead + frames
        self.running = _start(world, self.name, self.longest)

    def starts(self, count: int) -> list[Start]:
        """The first games that last for the lead, played on as far as a play goes. Raises VidarError for too few."""
        found: list[Start] = []
        for seed in range(self.config.first_game, self.config.first_game + GAMES_PER_PART):
            if len(found) == count:
                break
            episode = self.episode(seed, self.longest)
            if len(episode.frames) >= self.lead:
                parts = episode.actions[: self.lead], episode.frames[: self.lead].copy()
                found.append(Start(seed, *parts, episode.actions[self.lead :]))
        if len(found) < count:
            raise VidarError(f"{self.name}: only {len(found)} of {count} games last for {self.lead} frames")
        return found

    def play(self, starts: Sequence[Start], player: Player, frames: int) -> Played:
        """The same tables as in the dream, played by the game."""
        table = np.stack([player(frames, number) for number in range(len(starts))])
        seen, poses, lasted = [], [], []
        for start, rows in zip(starts, table):
            policy = ReplayPolicy(np.concatenate([start.actions, rows]))
            episode = self.episode(start.seed, self.lead + frames, policy)
            shown, pose = episode.frames[self.lead :], _pose(episode)[self.lead - 1 :]
            lasted.append(min(len(shown), frames))
            seen.append(filled(np.concatenate([start.frames[-1:], shown]), 1 + frames)[1:])
            poses.append(filled(pose, 1 + frames))
        return Played(table, np.stack(seen), np.stack(poses), np.array(lasted))

    def episode(self, seed: int, frames: int, policy: ActionPolicy | None = None) -> Episode:
        """A game of a policy (the exploring one), at most `frames` long."""
        _set_frames(self.running, frames)
        return self.running.episode(seed, policy)

    def close(self) -> None:
        """Stop the game."""
        self.running.close()


def game_name(world: VideoModelConfig, config: RulerConfig = USUAL) -> str:
    """The game of a world: the configured one, or the world of shapes, or the maze of ViZDoom, by the actions."""
    return config.game or (SHAPES if world.spec.names == SPEC.names else MAZE)


def _start(world: VideoModelConfig, name: str, frames: int) -> VizdoomGame | ShapesWorld | GymRecorder:
    if _is_gym(name):
        return _environment(world, name.removeprefix(GYM))
    if name == SHAPES:
        shapes = ShapesConfig(height=world.height, width=world.width, fps=world.fps, frames=frames).build()
        if world.spec.names != SPEC.names:
            raise VidarError(
                f"world '{world.name}' has the actions {', '.join(world.spec.names)}, the world of shapes "
                f"{', '.join(SPEC.names)}; give its game with --game"
            )
        return shapes
    running = game_of(world, name, frames).build()
    try:
        same_game(running, world, "give the game of this world with --game")
        running.game.set_episode_timeout(0)
    except BaseException:
        running.close()
        raise
    return running


def _set_frames(running: VizdoomGame | ShapesWorld | GymRecorder, frames: int) -> None:
    """Let episodes end after so many frames."""
    if isinstance(running, GymRecorder):
        running.frames = frames
    elif isinstance(running, VizdoomGame):
        running.config = running.config.replace(frames=frames)
    else:
        running.config = running.config.replace(frames=frames)


def _is_gym(name: str) -> bool:
    return name.startswith(GYM) or re.search(r"-v[0-9]+$", name) is not None


def _environment(world: VideoModelConfig, env_id: str) -> GymRecorder:
    """A gymnasium environment with the frames of the world. Raises VidarError if its actions or rate are others."""
    running = GymConfig(env_id=env_id, height=world.height, width=world.width, fps=world.fps).build()
    if running.spec.names != world.spec.names:
        running.close()
        raise VidarError(
            f"world '{world.name}' has the actions {', '.join(world.spec.names)}, {env_id} "
            f"{', '.join(running.spec.names)}; give the game of this world with --game"
        )
    return running


def _pose(episode: Episode) -> np.ndarray:
    """float32 [T, 4]: x, y, z and angle; of the world of shapes the place of the player in pixels; 0 if not told."""
    if "pose" in episode.extras:
        return episode.extras["pose"]
    if "state" not in episode.extras:
        return np.zeros((len(episode.frames), 4), np.float32)
    place = episode.extras["state"][:, 0, X : Y + 1]
    return np.concatenate([place, np.zeros_like(place)], 1)


def filled(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows; a shorter array repeats its last one."""
    return values[np.minimum(np.arange(count), len(values) - 1)]
