"""Episodes that a world has never seen: games played on the spot, or the held-out split of recorded shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vidar.actions import ActionSpec
from vidar.config import to_dict
from vidar.data.episode import Episode
from vidar.data.index import load_index
from vidar.data.reader import Sample, read_sample, read_side, samples
from vidar.data.vizdoom import TICS_PER_SECOND, VizdoomConfig, VizdoomGame, scenario_file
from vidar.eval.protocol import LEAST_EPISODES, WorldProtocol
from vidar.model.model import VideoModelConfig
from vidar.types import VidarError

Tick = Callable[[int, int], None]  # (done, all)


@dataclass(frozen=True)
class HeldOut:
    """Episodes of at least context + horizon frames. facts: their origin, for report.json."""

    episodes: Sequence[Episode]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Games:
    """ViZDoom games, played as the protocol says."""

    game: VizdoomConfig
    world: VideoModelConfig
    protocol: WorldProtocol

    def take(self, progress: Tick | None = None) -> HeldOut:
        """Play the games. Raises VidarError if the game is not the world's, or if too many games end early."""
        played, seeds = play(self.game, self.world, self.protocol, progress)
        return HeldOut(played, {"scenario": self.protocol.scenario, "seeds": seeds, "game": to_dict(self.game)})


@dataclass(frozen=True)
class Recorded:
    """Samples of shards, all long enough; `short`: number of samples of the split that are too short."""

    data: str
    split: str
    found: Sequence[Sample]
    short: int
    frames: int

    def take(self, progress: Tick | None = None) -> HeldOut:
        """Read the episodes, with poses if they were recorded."""
        read = []
        for sample in self.found:
            extras = [name for name in ("pose",) if name in read_side(sample)["sha256_extras"]]
            read.append(_cut(read_sample(sample, extras), self.frames))
            if progress is not None:
                progress(len(read), len(self.found))
        return HeldOut(read, {"data": self.data, "split": self.split, "short_episodes_left_out": self.short})


def games(world: VideoModelConfig, protocol: WorldProtocol) -> Games:
    """The fixed games, not played yet. Raises VidarError if the game is missing."""
    scenario_file(protocol.scenario)
    return Games(game_config(world, protocol), world, protocol)


def recorded(data: str | os.PathLike[str], split: str, world: VideoModelConfig, protocol: WorldProtocol) -> Recorded:
    """The first `protocol.episodes` episodes of a split that are long enough (all of them, where there are fewer).

    Raises VidarError before a frame is decoded if size, frame rate or actions differ from the world's, or if fewer
    than two episodes are long enough.
    """
    index, want = load_index(data), world.context + protocol.frames
    if (index.height, index.width) != (world.height, world.width):
        raise VidarError(
            f"{data}: frames are {index.height} x {index.width}, world '{world.name}' is {world.height} x "
            f"{world.width}; record or convert at that size"
        )
    if abs(index.fps - world.fps) > 1e-3 * world.fps:
        raise VidarError(f"{data}: {index.fps:g} frames/s, world '{world.name}' runs at {world.fps:g}; record at that")
    _same_actions(str(data), index.spec, world)
    everything = samples(data, index, split)
    lengths = [int(read_side(sample)["n_frames"]) for sample in everything]
    found = [sample for sample, length in zip(everything, lengths) if length >= want]
    if len(found) < LEAST_EPISODES:
        raise VidarError(
            f"{data}: split {split!r} has {len(found)} of {len(lengths)} episodes with the {want} frames needed "
            f"({world.context} of context, {protocol.frames} to dream); the longest has {max(lengths)}: "
            "ask for fewer --frames or record longer ones"
        )
    return Recorded(str(data), split, found[: protocol.episodes], len(lengths) - len(found), want)


def game_config(world: VideoModelConfig, protocol: WorldProtocol) -> VizdoomConfig:
    """The protocol's game, with the length of context plus horizon."""
    return game_of(world, protocol.scenario, world.context + protocol.frames)


def game_of(world: VideoModelConfig, scenario: str, frames: int) -> VizdoomConfig:
    """A scenario with the frame size and frame rate of the world, and at most `frames` frames."""
    skip = max(1, round(TICS_PER_SECOND / world.fps))
    return VizdoomConfig(scenario=scenario, height=world.height, width=world.width, frame_skip=skip, frames=frames)


def same_game(running: VizdoomGame, world: VideoModelConfig, remedy: str) -> None:
    """Raises VidarError, ending with `remedy`, if the world's actions or frame rate differ from the game's."""
    fps = running.config.fps
    if running.spec.names != world.spec.names or fps != world.fps:
        raise VidarError(
            f"world '{world.name}' has the actions {', '.join(world.spec.names)} at {world.fps:g} frames/s, "
            f"{running.name} has the actions {', '.join(running.spec.names)} at {fps:g}; {remedy}"
        )


def play(
    game: VizdoomConfig, world: VideoModelConfig, protocol: WorldProtocol, progress: Tick | None = None
) -> tuple[list[Episode], list[int]]:
    """Whole episodes of the protocol's games, and their seeds; a game that ends early is left out.

    Raises VidarError if the world's actions or frame rate differ from the game's, or if too many games end early.
    """
    found: list[Episode] = []
    seeds: list[int] = []
    count, first = protocol.episodes, protocol.game
    with game.build() as running:
        same_game(running, world, "without --data a world of this game is needed")
        for seed in range(first, first + min(10 * count, protocol.games_per_seed)):
            episode = running.episode(seed)
            if len(episode.frames) == game.frames:
                found.append(episode)
                seeds.append(seed)
                if progress is not None:
                    progress(len(found), count)
            if len(found) == count:
                return found, seeds
    raise VidarError(f"{protocol.scenario}: too many games end before frame {game.frames}; ask for fewer --frames")


def _same_actions(data: str, spec: ActionSpec, world: VideoModelConfig) -> None:
    """Names, kinds and ranges in the same order; keys may differ."""
    mine, theirs = ([a.replace(keys=()) for a in both.actions] for both in (world.spec, spec))
    if mine == theirs:
        return
    if world.spec.names == spec.names:
        name = next(a.name for a, b in zip(mine, theirs) if a != b)
        raise VidarError(f"{data}: action {name!r} has another kind or range than in world '{world.name}'; convert it")
    raise VidarError(
        f"{data}: has the actions {', '.join(spec.names) or 'none'}, world '{world.name}' has "
        f"{', '.join(world.spec.names) or 'none'}; use the data of its own game"
    )


def _cut(episode: Episode, frames: int) -> Episode:
    extras = {name: values[:frames].copy() for name, values in episode.extras.items()}
    return replace(
        episode, frames=episode.frames[:frames].copy(), actions=episode.actions[:frames].copy(), extras=extras
    )
