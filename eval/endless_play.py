"""Real play for the endless suite: keys for thousands of frames, from held-out games joined one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.explore import ReplayPolicy
from vidar.data.vizdoom import VizdoomGame
from vidar.eval.endless_figures import RealRange, Sample, real_range, sample
from vidar.eval.held_out import game_of, same_game
from vidar.model.model import VideoModelConfig
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

Tick = Callable[[int], None]  # receives the number of newly finished frames


class EndlessConfig(Config):
    """How real play becomes a stream of keys, and what the dream is compared with.

    Choice: a game of `my_way_home` ends after about 1,050 frames, or when the goal is found. A recording therefore
    consists of several games of the exploring policy, and each rollout has its own recording. At a join nothing is
    pressed, and the pair of frames across it does not count. Games of fewer than `shortest_game` frames are left out.
    No join is in the last `judged` frames; the game before is cut if necessary. Choice: games from seed 1,500,000 on,
    which no training and no other default evaluation uses; each seed of the suite has `games_per_seed` of them.
    Choice: the 1-99 % range is that of `reference` further recordings of `reference_frames` frames, of other games.
    """

    scenario: str = "my_way_home"
    first_game: int = Field(default=1_500_000, ge=0)
    games_per_seed: int = Field(default=1_000, ge=1)
    shortest_game: int = Field(default=128, ge=2)
    judged: int = Field(default=64, ge=8)  # number of last frames whose keys are read back
    reference: int = Field(default=12, ge=1)
    reference_frames: int = Field(default=2_000, ge=100)
    quantile: float = Field(default=0.01, gt=0, lt=0.5)  # share that is left out at either end of a range

    def first_of(self, seed: int) -> int:
        """The first game of a seed of the suite. Raises UsageError if the engine has no such seed."""
        last = (2**32 - self.first_game) // self.games_per_seed - 1
        if not 0 <= seed <= last:
            raise UsageError(f"seed {seed}: the endless suite has seeds 0 to {last}")
        return self.first_game + self.games_per_seed * seed


@dataclass(frozen=True)
class Recording:
    """Joined games. frames uint8 [T, H, W, 3]; actions float32 [T, A]; poses float32 [T, 4] or None.

    joins: bool [T], True where a frame is the first of a game, so that the pair (t-1, t) was never played.
    """

    frames: np.ndarray
    actions: np.ndarray
    joins: np.ndarray
    poses: np.ndarray | None
    games: tuple[str, ...]


@dataclass(frozen=True)
class Play:
    """E recordings of `context` frames plus the T frames to be dreamed, and the range of other real play.

    frames uint8 [E, c + T, H, W, 3]; actions float32 [E, c + T, A]; joins bool [E, c + T]; pressed bool [E, c + T],
    whether any key is down (Choice: every key of this game moves the player); poses float32 [E, c + T, 4] or None.
    """

    context: int
    fps: float
    judged: int
    frames: np.ndarray
    actions: np.ndarray
    joins: np.ndarray
    pressed: np.ndarray
    poses: np.ndarray | None
    games: tuple[tuple[str, ...], ...]
    real_range: RealRange


def joined(games: Iterable[Episode], frames: int, tail: int) -> Recording:
    """Join games until there are `frames` frames; the last game gives at least `tail` of them, the one before is cut.

    Takes no more games than needed. A game has at least 2 * tail frames. Raises VidarError if there are too few
    games.
    """
    parts: list[Episode] = []
    lengths: list[int] = []
    left = frames
    source = iter(games)
    while left > 0:
        game = next(source, None)
        if game is None:
            raise VidarError(f"{frames - left} of {frames} frames could be played; ask for fewer frames or rollouts")
        take = min(len(game.frames), left)
        rest = left - take
        take -= tail - rest if 0 < rest < tail else 0
        parts.append(game)
        lengths.append(take)
        left -= take
    joins = np.zeros(frames, dtype=bool)
    joins[np.cumsum([0, *lengths[:-1]])] = True
    poses = [game.extras["pose"][:n] for game, n in zip(parts, lengths) if "pose" in game.extras]
    return Recording(
        frames=np.concatenate([game.frames[:n] for game, n in zip(parts, lengths)]),
        actions=np.concatenate([game.actions[:n] for game, n in zip(parts, lengths)]),
        joins=joins,
        poses=np.concatenate(poses) if len(poses) == len(parts) else None,
        games=tuple(game.name for game in parts),
    )


def assemble(
    recordings: Iterable[Recording], others: RealRange, noop: np.ndarray, context: int, fps: float, judged: int
) -> Play:
    """Combine recordings of equal length to the arrays of a Play. noop: the action row float32 [A] at rest."""
    kept = list(recordings)
    actions = np.stack([r.actions for r in kept])
    poses = [r.poses for r in kept if r.poses is not None]
    return Play(
        context=context,
        fps=fps,
        judged=judged,
        frames=np.stack([r.frames for r in kept]),
        actions=actions,
        joins=np.stack([r.joins for r in kept]),
        pressed=(actions != noop).any(-1),
        poses=np.stack(poses) if len(poses) == len(kept) else None,
        games=tuple(r.games for r in kept),
        real_range=others,
    )


def play(
    world: VideoModelConfig,
    rollouts: int,
    frames: int,
    seed: int,
    config: EndlessConfig,
    tick: Tick = lambda count: None,
) -> Play:
    """Play the games: first those of the real range, then those whose keys the world will receive.

    tick counts frames: config.reference * config.reference_frames, then rollouts * (context + frames). Raises
    VidarError if the world's actions or frame rate differ from the game's.
    """
    first, length = config.first_of(seed), world.context + frames
    game = game_of(world, config.scenario, max(length, config.reference_frames))
    with game.build() as running:
        same_game(running, world, "the suite needs a world of this game")
        games = _games(running, first, config)
        noop = running.spec.noop()
        samples: list[Sample] = []
        for _ in range(config.reference):
            other = joined(games, config.reference_frames, config.judged)
            samples.append(sample(other.frames, (other.actions != noop).any(-1), other.joins))
            tick(config.reference_frames)
        recordings: list[Recording] = []
        for _ in range(rollouts):
            recordings.append(joined(games, length, config.judged))
            tick(length)
    others = real_range(samples, config.quantile)
    return assemble(recordings, others, noop, world.context, world.fps, config.judged)


def elsewhere(
    world: VideoModelConfig, played: Play, seed: int, config: EndlessConfig, tick: Tick = lambda count: None
) -> Elsewhere:
    """Press the same keys in the real game from other places; each rollout joins games until all keys are used.

    A dream leaves the place of the recording within seconds. From then on its keys do not fit what it shows, and it
    stands at walls more often than the recording. Here the same happens to the real game, so no world needs to score
    better. The games are from the second half of a seed's range, which no recording reaches.
    """
    keys = played.actions[:, played.context :]
    frames = np.empty_like(played.frames[:, played.context :])
    number = config.first_of(seed) + config.games_per_seed // 2
    with game_of(world, config.scenario, keys.shape[1] + 1).build() as running:
        noop = running.spec.noop()[None]
        for e in range(len(keys)):
            done = 0
            while done < keys.shape[1]:
                seen = running.episode(number, ReplayPolicy(np.concatenate([noop, keys[e, done:]]))).frames[1:]
                seen = seen[: keys.shape[1] - done]
                frames[e, done : done + len(seen)] = seen
                done, number = done + len(seen), number + 1
            tick(done)
    return Elsewhere(frames)


class Elsewhere:
    """Played frames [E, T, H, W, 3] in place of a dream, so that they are measured in the same way."""

    def __init__(self, frames: np.ndarray) -> None:
        self.recorded = torch.from_numpy(frames)

    def frames(
        self,
        context: torch.Tensor | None = None,
        actions: Iterable[torch.Tensor] = (),
        context_actions: torch.Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
    ) -> Iterator[torch.Tensor]:
        """The frames of all rollouts one after another, [E, H, W, 3], independent of the arguments."""
        return iter(self.recorded.unbind(1))


def _games(running: VizdoomGame, first: int, config: EndlessConfig) -> Iterator[Episode]:
    """Games that are long enough, in the order of their seeds."""
    least = max(config.shortest_game, 2 * config.judged)
    for seed in range(first, first + config.games_per_seed):
        episode = running.episode(seed)
        if len(episode.frames) >= least:
            yield episode
