"""One process of the ruler: it plays and dreams one player after another, and writes what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np
import torch

from vidar.data.atomic import replacing
from vidar.data.episode import Episode
from vidar.data.players import Player, players, recorded
from vidar.eval.manifold import Manifold
from vidar.eval.retrieval import Clips
from vidar.eval.ruler_measure import measure
from vidar.eval.ruler_play import RealGame, RulerConfig, Start
from vidar.eval.ruler_reader import motion_reader
from vidar.model.load import load_world
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.rng import Rng
from vidar.types import UsageError

MODEL, COPY, RETRIEVAL = "model", "copy-last", "retrieval"
RECORDED = "recorded play"


@dataclass(frozen=True)
class RulerTask:
    """What all processes of a run know.

    models: row -> name or folder; place: the folder of the parts; longest: frames of the longest play. no_memory: the
    first model runs without its memory.
    """

    models: Mapping[str, str]
    config: RulerConfig
    place: Path
    seed: int
    steps: int | None
    device: str
    longest: int
    no_memory: bool = False


@dataclass(frozen=True)
class Pictures:
    """What a report shows of a player: game and dream, uint8 [2, 1 + T, H, W, 3], of the first and of the worst start.

    seed, number: of the worst start, the one with the largest mean score of the manifold.
    """

    game: np.ndarray
    dream: np.ndarray
    seed: int
    number: int

    def save(self, file: Path) -> None:
        """Write one .npz file."""
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, game=self.game, dream=self.dream, seed=self.seed, number=self.number)

    @staticmethod
    def load(file: Path) -> Pictures:
        """Raises OSError, ValueError or KeyError for a file that is damaged."""
        with np.load(file, allow_pickle=False) as found:
            return Pictures(found["game"], found["dream"], int(found["seed"]), int(found["number"]))


class RulerWorker:
    """The game, the models, the manifold and the recorded games of one process."""

    def __init__(self, task: RulerTask) -> None:
        self.task = task
        self.worlds = {
            row: load_world(model, task.device, memory=not (task.no_memory and row == MODEL))
            for row, model in task.models.items()
        }
        self.world = self.worlds[MODEL]
        self.game = RealGame(self.world.config, task.config, task.longest)
        self.reader = motion_reader(self.world.config, self.game.name)[0]

    def measure(self, name: str, frames: int) -> None:
        """Measure one player and write NAME.npz and NAME.pictures.npz: the first start, and the worst one."""
        task, fps, starts = self.task, self.world.config.fps, self.starts
        first = np.stack([start.frames[-1] for start in starts])
        played = self.game.play(starts, self.players[name], frames)
        views = {row: dream(world, starts, played.table, task.seed, task.steps) for row, world in self.worlds.items()}
        views[COPY] = np.repeat(first[:, None], frames, axis=1)
        views[RETRIEVAL] = np.stack([self.clips.follow(f, t, round(fps)) for f, t in zip(first, played.table)])
        scores = measure(views, played, first, fps, self.manifold, self.reader)
        shown = {"game": played.frames, "dream": views[MODEL]}
        worst = int(np.argmax(scores.rows[MODEL].score.mean(1)))
        whole = {who: np.concatenate([first[:, None], frames], 1)[[0, worst]] for who, frames in shown.items()}
        Pictures(**whole, seed=starts[worst].seed, number=worst).save(part(task.place, name, ".pictures.npz"))
        scores.save(part(task.place, name, ".npz"))

    @cached_property
    def starts(self) -> list[Start]:
        """The starts of every player."""
        return self.game.starts(self.task.config.starts)

    @cached_property
    def players(self) -> Mapping[str, Player]:
        """All players by name."""
        return everyone(self.game, self.starts)

    @cached_property
    def manifold(self) -> Manifold:
        """The manifold that the run has made."""
        return Manifold.load(self.task.place / "manifold.npz")

    @cached_property
    def clips(self) -> Clips:
        """The recorded games that the run has made."""
        return Clips.load(self.task.place / "clips.npz")


def everyone(game: RealGame, starts: list[Start]) -> dict[str, Player]:
    """The players of a game by name: those of its keys, and play as it was recorded after each start."""
    spec = game.world.spec
    found = dict(players(spec, game.world.fps, _turn(game, starts[0])))
    return {**found, RECORDED: recorded(spec, [start.after for start in starts])}


def player_names(world: VideoModelConfig, config: RulerConfig, frames: int) -> list[str]:
    """The players of a world's game, those of `config.only` if there are any. Raises UsageError for an unknown one."""
    game = RealGame(world, config, frames)
    try:
        names = list(everyone(game, game.starts(1)))
    finally:
        game.close()
    for name in config.only:
        if name not in names:
            raise UsageError(f"no player {name!r}; valid: {', '.join(names)}")
    return [name for name in names if not config.only or name in config.only]


def dream(world: VideoModel, starts: list[Start], table: np.ndarray, seed: int, steps: int | None = None) -> np.ndarray:
    """The dreams of a player: uint8 [E, T, H, W, 3]. Start e has the noise of Rng(seed, e)."""
    c = world.config.context
    context = torch.from_numpy(np.stack([start.frames[-c:] for start in starts]))
    before = torch.from_numpy(np.stack([start.actions[-c:] for start in starts]))
    rows = (torch.from_numpy(np.ascontiguousarray(table[:, n])) for n in range(table.shape[1]))
    rngs = [Rng(seed, e) for e in range(len(starts))]
    return np.stack([frame.cpu().numpy() for frame in world.frames(context, rows, before, rngs, steps)], 1)


def part(place: Path, name: str, kind: str) -> Path:
    """A file of one player."""
    return place / f"{name.replace(' ', '_')}{kind}"


def _turn(game: RealGame, start: Start) -> int | None:
    """Frames of a full turn with a turning key held, from the pose of the real game."""
    keys = [name for name in game.world.spec.names if "TURN" in name.upper()]
    if not keys:
        return None
    rows = np.repeat(game.world.spec.noop()[None], 16, axis=0)
    rows[:, game.world.spec.names.index(keys[0])] = 1
    angles = game.play([start], lambda frames, number: rows[:frames], 16).poses[0, :, 3]
    step = abs((angles[-1] - angles[-2] + 180.0) % 360.0 - 180.0)
    return max(1, round(360.0 / step)) if step else None


_here: RulerWorker | None = None  # of this process


def begin(task: RulerTask) -> None:
    """Prepare this process."""
    global _here
    end()
    _here = RulerWorker(task)
    Finalize(None, end, exitpriority=1)


def end() -> None:
    """Stop the game of this process."""
    global _here
    if _here is not None:
        _here.game.close()
        _here = None


def explore(job: tuple[int, int]) -> Episode:
    """(seed, frames) -> a game of the exploring policy."""
    assert _here is not None
    return _here.game.episode(*job)


def measure_player(job: tuple[str, int]) -> None:
    """(name, frames): measure one player and write its part."""
    assert _here is not None
    _here.measure(*job)
