"""Record episodes of a game, an environment or a synthetic world into shards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import gymnasium

from vidar.actions import ActionSpec
from vidar.data.episode import Episode
from vidar.data.explore import ActionPolicy
from vidar.data.gym import GymConfig, GymRecorder
from vidar.data.shards import ShardWriter
from vidar.data.synthetic import ShapesConfig
from vidar.data.vizdoom import VizdoomConfig
from vidar.types import UsageError, VidarError


class Source(Protocol):
    """What is recorded: a running game, environment or synthetic world."""

    spec: ActionSpec

    def episode(self, seed: int, policy: ActionPolicy | None = None) -> Episode:
        """The episode of a seed."""
        ...

    def close(self) -> None:
        """Stop the source."""
        ...


Recordable = VizdoomConfig | ShapesConfig | GymConfig | gymnasium.Env | GymRecorder | str


def open_source(env: Recordable, frames: int | None) -> Source:
    """Start the source. Raises UsageError for an unknown scenario or environment, or what is no source."""
    if isinstance(env, str):
        env = GymConfig(env_id=env)
    if isinstance(env, gymnasium.Env):
        env = GymRecorder(env)
    if isinstance(env, GymRecorder):
        env.frames = frames or env.frames
        return env
    if not hasattr(env, "build"):
        kind = f"{type(env).__module__}.{type(env).__qualname__}"
        raise UsageError(f"record takes a config, the id of an environment or one gymnasium.Env, not a {kind}")
    return (env if frames is None else env.replace(frames=frames)).build()


def record(
    env: Recordable,
    policy: ActionPolicy | None,
    out: str | os.PathLike[str],
    *,
    episodes: int,
    frames: int | None = None,
    seed: int = 0,
    split: str = "train",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Record episodes of the seeds seed .. seed + episodes - 1, at most `frames` frames each, as shards of `split`.

    env: a config, a gymnasium environment or its id, or a GymRecorder of one. policy None: exploration in Doom, random
    held actions elsewhere. progress(done, episodes) is called after each episode. Raises UsageError for bad arguments
    before anything is written, VidarError for a failing environment; the episodes before it are kept.
    """
    folder = Path(out)
    blocker = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), None)
    if blocker is not None:
        raise UsageError(f"{blocker} is a file, but record writes a folder of shards; choose another --out")
    if episodes < 1 or (frames is not None and frames < 2) or seed < 0:
        raise UsageError("record needs at least 1 episode, at least 2 frames per episode, and a seed of 0 or more")
    source = open_source(env, frames)
    start, total = time.perf_counter(), 0
    try:
        with ShardWriter(folder, split, source.spec) as writer:
            for number in range(episodes):
                try:
                    episode = source.episode(seed + number, policy)
                except VidarError as error:
                    kept = f"; the {number} episode(s) before are in {folder}" if number else ""
                    raise type(error)(f"{error}{kept}") from error
                writer.write(episode)
                total += len(episode.frames)
                if progress is not None:
                    progress(number + 1, episodes)
    finally:
        if not isinstance(env, gymnasium.Env | GymRecorder):  # what the caller passed stays open
            source.close()
    seconds = time.perf_counter() - start
    return {
        "out": str(folder),
        "split": split,
        "episodes": episodes,
        "frames": total,
        "seconds": round(seconds, 3),
        "fps": round(total / seconds, 1),
        **(source.facts() if isinstance(source, GymRecorder) else {}),
    }
