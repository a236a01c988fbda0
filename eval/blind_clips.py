"""Clips for people to judge: the real game and dreams of it, from the same starts under the same keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.data.players import players
from vidar.data.players import recorded as play_recorded
from vidar.eval.held_out import recorded
from vidar.eval.protocol import LEAST_FRAMES, WORLD
from vidar.eval.ruler_play import RealGame, RulerConfig, Start
from vidar.eval.ruler_worker import RECORDED, dream
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.types import UsageError, VidarError

SPARE = 4  # one further start for so many clips, because some games end early
ROWS = 16  # starts dreamed at once


@dataclass(frozen=True)
class Source:
    """N starts, what is played from each, and the real frames under it.

    names: of the starts; players: who plays each; table float32 [N, T, A]; real uint8 [N, T, H, W, 3]. left_out:
    starts that were not used because the game ended early.
    """

    starts: Sequence[Start]
    names: Sequence[str]
    players: Sequence[str]
    table: np.ndarray
    real: np.ndarray
    left_out: Sequence[str] = ()


def from_game(world: VideoModelConfig, count: int, frames: int, context: int, config: RulerConfig) -> Source:
    """Play the game of a world. context: frames that every model needs before a start.

    Choice: every other clip has the keys of recorded play, because people judge a game by how it is usually played;
    the others go through the players of the ruler in turn (idle, keys held, turns and back, tapping, mashing), because
    these are what a world gets wrong. A start whose game ends within the clip is left out, as a picture that stops
    would give the real one away.

    Raises VidarError if the world is not of this game, or if too many games end early.
    """
    game = RealGame(world, config.replace(lead=max(config.lead, context)), frames)
    try:
        found = game.starts(count + max(2, -(-count // SPARE)))
        usual = players(world.spec, world.fps)
        again = play_recorded(world.spec, [start.after for start in found])
        who = [list(usual)[number // 2 % len(usual)] if number % 2 else RECORDED for number in range(len(found))]
        tables = [{**usual, RECORDED: again}[name](frames, number) for number, name in enumerate(who)]
        played = game.play(found, lambda length, number: tables[number], frames)
    finally:
        game.close()
    whole = [number for number in range(len(found)) if played.lasted[number] >= frames]
    if len(whole) < count:
        raise VidarError(
            f"{game.name}: only {len(whole)} of {len(found)} games last for {frames} frames; "
            "ask for fewer --clips or shorter --seconds"
        )
    kept = whole[:count]
    names = [str(start.seed) for start in found]
    gone = [names[number] for number in range(kept[-1]) if number not in whole]
    return Source(
        [found[n] for n in kept], [names[n] for n in kept], [who[n] for n in kept], played.table[kept],
        played.frames[kept], gone,
    )  # fmt: skip


def from_data(
    world: VideoModelConfig, data: str | os.PathLike[str], split: str, count: int, frames: int, context: int
) -> Source:
    """The first episodes of a split of shards that are long enough, under their recorded keys.

    Raises UsageError for fewer episodes than clips, VidarError if the data are not of the world's game.
    """
    protocol = WORLD.replace(episodes=max(count, 2), frames=max(frames, LEAST_FRAMES))
    episodes = recorded(data, split, world.replace(context=context), protocol).take().episodes
    if len(episodes) < count:
        raise UsageError(
            f"{data}: split {split!r} has {len(episodes)} episodes that are long enough; "
            f"ask for --clips {len(episodes)}"
        )
    kept = episodes[:count]
    starts = [
        Start(n, episode.actions[:context], episode.frames[:context], episode.actions[context:])
        for n, episode in enumerate(kept)
    ]
    until = context + frames
    return Source(
        starts,
        [episode.name for episode in kept],
        [RECORDED] * count,
        np.stack([episode.actions[context:until] for episode in kept]),
        np.stack([episode.frames[context:until] for episode in kept]),
    )


def dreams(
    world: VideoModel, source: Source, seed: int, tick: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """What a world dreams from all starts: uint8 [N, T, H, W, 3]. tick counts frames.

    Choice: 16 starts at once; the starts from `first` on have the noise of seed + first, so that no two clips of a
    page have the same noise.
    """
    parts = []
    for first in range(0, len(source.starts), ROWS):
        rows = slice(first, first + ROWS)
        part = dream(world, list(source.starts[rows]), source.table[rows], seed + first)
        parts.append(part)
        tick(part.shape[0] * part.shape[1])
    return np.concatenate(parts)
