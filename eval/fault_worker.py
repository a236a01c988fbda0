"""One process of the fault table: it plants one fault after another in real play, and measures every strength."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np

from vidar.data.atomic import replacing
from vidar.data.episode import Episode
from vidar.eval.endless_figures import RealRange, real_range, sample
from vidar.eval.endless_play import EndlessConfig
from vidar.eval.extractors import Extractor, RandomNet
from vidar.eval.fault_metrics import HEADLINE, PART
from vidar.eval.fault_rows import Flows, Sight, Truth, digest, metrics, sight
from vidar.eval.faults import FAULTS, STRENGTHS, Scene
from vidar.eval.frozen_encoder import FrozenEncoder
from vidar.eval.manifold import Manifold
from vidar.eval.output import write
from vidar.eval.plots import strip
from vidar.eval.ruler_measure import REAL, PlayerScores, measure
from vidar.eval.ruler_play import Played, RealGame, RulerConfig, Start
from vidar.eval.ruler_reader import motion_reader
from vidar.eval.ruler_summary import likeness, likeness_parts
from vidar.eval.ruler_worker import COPY, everyone
from vidar.model.load import load_world_config, locate

PICTURED = (0, 1, 4, 8)  # strengths in the strips
COLUMNS = 7  # frames of a strip


@dataclass(frozen=True)
class FaultTask:
    """What all processes know: the world whose game is played, the players, the folder of the parts."""

    model: str
    config: RulerConfig
    players: tuple[str, ...]
    place: Path
    seed: int


@dataclass(frozen=True)
class Remembering(Manifold):
    """A manifold that remembers the scores of frames: many faults show real frames at other times."""

    known: dict[bytes, float] = field(default_factory=dict[bytes, float])

    @staticmethod
    def of_file(file: Path) -> Remembering:
        """See `Manifold.load`."""
        plain = Manifold.load(file)
        return Remembering(*(getattr(plain, one.name) for one in fields(Manifold)))

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """As `Manifold.scores`, which does not depend on what else is judged."""
        names = [digest(frame) for frame in frames]
        new = {name: number for number, name in enumerate(names) if name not in self.known}
        if new:
            self.known.update(zip(new, super().scores(frames[list(new.values())]).tolist()))
        return np.array([self.known[name] for name in names])


@dataclass(frozen=True)
class Planted:
    """The real play of a player, and what a fault needs to know of it."""

    played: Played
    scene: Scene
    truth: Truth


class FaultWorker:
    """The game, the manifold and the real play of one process."""

    def __init__(self, task: FaultTask) -> None:
        self.task = task
        self.world = load_world_config(locate(task.model))
        self.frames = round(task.config.seconds * self.world.fps)
        self.game = RealGame(self.world, task.config, self.frames)
        self.reader = motion_reader(self.world, self.game.name)[0]

    def measure(self, fault: str) -> dict[str, list[float]]:
        """Metric -> its figures at the strengths 0, 1, ... Writes the strip of the fault as FAULT.png."""
        scores: dict[str, PlayerScores] = {}
        sights: dict[int, list[Sight]] = {strength: [] for strength in range(1, STRENGTHS + 1)}
        for name, planted in self.plays.items():
            views = {str(strength): FAULTS[fault](planted.scene, strength) for strength in sights}
            if name == self.task.players[0]:
                self._picture(fault, planted.played.frames[0], {int(s): view[0] for s, view in views.items()})
            for strength, found in sights.items():
                found.append(sight(views[str(strength)], planted.truth, self.extractors, self.flows))
            views[COPY] = np.repeat(planted.scene.first[:, None], self.frames, axis=1)
            first, fps = planted.scene.first, self.world.fps
            scores[name] = measure(views, planted.played, first, fps, self.manifold, self.reader)
        truths = [planted.truth for planted in self.plays.values()]
        rows = [self._likeness(scores, REAL) | metrics(self.real, self.real, truths, self.range)]
        for strength, found in sights.items():
            rows.append(self._likeness(scores, str(strength)) | metrics(found, self.real, truths, self.range))
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _likeness(self, scores: Mapping[str, PlayerScores], row: str) -> dict[str, float]:
        """The headline and its parts, means over the starts."""
        parts = likeness_parts(scores, row, self.manifold.threshold, self.world.fps)
        means = {f"{PART}{name}": float(np.nanmean(part)) for name, part in parts.items() if not np.isnan(part).all()}
        return {HEADLINE: likeness(parts), **means}

    def _picture(self, fault: str, real: np.ndarray, harmed: Mapping[int, np.ndarray]) -> None:
        rows = [real if strength == 0 else harmed[strength] for strength in PICTURED]
        with replacing(fault_part(self.task.place, fault, ".png")) as temporary:
            temporary.write_bytes(strip(rows, pictured(self.frames), scale=1))

    @cached_property
    def starts(self) -> list[Start]:
        """The starts of every player."""
        return self.game.starts(self.task.config.starts)

    @cached_property
    def plays(self) -> dict[str, Planted]:
        """What every player sees in the real game."""
        known = everyone(self.game, self.starts)
        return {name: self._play(number, self.game.play(self.starts, known[name], self.frames))
                for number, name in enumerate(self.task.players)}  # fmt: skip

    def _play(self, number: int, played: Played) -> Planted:
        first = np.stack([start.frames[-1] for start in self.starts])
        spec, fps = self.world.spec, self.world.fps

        def again(table: np.ndarray) -> np.ndarray:
            return self.game.play(self.starts, lambda frames, start: table[start], self.frames).frames

        seed = (self.task.seed, number)
        scene = Scene(played.frames, first, played.table, played.poses, spec, fps, again, seed)
        pressed = (played.table != spec.noop()).any(-1)
        return Planted(played, scene, Truth(played.frames, first, pressed, played.lasted, fps))

    @cached_property
    def real(self) -> list[Sight]:
        """The players without a fault."""
        return [sight(one.played.frames, one.truth, self.extractors, self.flows) for one in self.plays.values()]

    @cached_property
    def extractors(self) -> Mapping[str, Extractor]:
        """The features of the Frechet distances."""
        return {"frozen": FrozenEncoder(self.task.model), "random3d": RandomNet()}

    @cached_property
    def flows(self) -> Flows:
        """Block matching."""
        return Flows()

    @cached_property
    def manifold(self) -> Remembering:
        """The manifold that the run has made."""
        return Remembering.of_file(self.task.place / "manifold.npz")

    @cached_property
    def range(self) -> RealRange:
        """The range of real frames that the run has made."""
        found = json.loads((self.task.place / "range.json").read_text())
        return RealRange({name: (low, high) for name, (low, high) in found["looks"].items()}, found["still"], 0)


def prepare(place: Path, reference: Sequence[Episode], others: Sequence[Episode]) -> None:
    """Write the manifold, and the range of real frames of the suite `endless`."""
    Manifold.of(*([one.frames[::2] for one in some] for some in (reference, others))).save(place / "manifold.npz")
    samples = [
        sample(one.frames, (one.actions != one.spec.noop()).any(-1), np.arange(len(one.frames)) == 0) for one in others
    ]
    real = real_range(samples, EndlessConfig().quantile)
    write(place / "range.json", {"looks": {name: list(ends) for name, ends in real.looks.items()}, "still": real.still})


def prepared(place: Path) -> bool:
    """Whether `prepare` has been finished here."""
    try:
        Manifold.load(place / "manifold.npz")
        json.loads((place / "range.json").read_text())
    except (OSError, ValueError, KeyError):
        return False
    return True


def pictured(frames: int) -> list[int]:
    """The frames of a strip, evenly spaced up to the last one."""
    return [round(n * (frames - 1) / (COLUMNS - 1)) for n in range(COLUMNS)]


def fault_part(place: Path, fault: str, kind: str) -> Path:
    """A file of one fault."""
    return place / f"{fault.replace(' ', '_')}{kind}"


_here: FaultWorker | None = None  # of this process


def begin(task: FaultTask) -> None:
    """Prepare this process."""
    global _here
    end()
    _here = FaultWorker(task)
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


def measure_fault(fault: str) -> dict[str, list[float]]:
    """See `FaultWorker.measure`."""
    assert _here is not None
    return _here.measure(fault)
