"""Gain and cost of speculation: hit rate, wasted work, latency, frames per second and, for *joint*, quality.

    python scripts/bench_speculation.py [--ahead doom] [--joint DIR] [--data runs/data/doom]

*ahead*: in idle time the next M frames are generated one after another under the keys held now (as in `vidar play`,
where M is 1); M = 0 is no speculation. *joint*: M frames share every solver step (vidar/rollout/joint.py); M = 1 is
no speculation. Both run in the same loop, with measured costs in simulated time and in real time. Keys change at the
hold times of the recorded policy and at geometric ones of mean 0.4 s. For the quality of *joint*, and the world that
it needs, see scripts/evaluate_joint.py.

hit     share of frames that were ready when they were requested
wasted  share of the generated frames that are discarded; with one frame in flight that is the share of model calls
frame   mean ms from reading the keys to the picture;  key: mean ms from a changed key to its first picture
gain    frames per second divided by those without speculation, with the same keys and pace
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidar.actions import ActionSpec
from vidar.config import override
from vidar.configs.shapes import CHANNELS, world_shapes
from vidar.data.explore import View
from vidar.data.index import load_index
from vidar.data.policies import named_policy
from vidar.data.reader import read_actions, read_side, samples
from vidar.eval.provenance import hardware, versions
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.objectives.hint import NoHintConfig
from vidar.play.clock import Clock
from vidar.rng import Rng
from vidar.rollout.driver import Snapshot
from vidar.rollout.joint import JointStream
from vidar.types import VidarError


@dataclass(frozen=True)
class Presses:
    """Keys over time. since: seconds [H] at which each hold begins; kind: its row in `rows` [K, A]."""

    since: np.ndarray
    kind: np.ndarray
    rows: torch.Tensor

    def at(self, seconds: float) -> int:
        """The hold at a time."""
        return min(int(np.searchsorted(self.since, seconds, side="right")), len(self.since)) - 1


def presses(holds: np.ndarray, fps: float, spec: ActionSpec, seed: int) -> Presses:
    """Holds of these numbers of frames at `fps`, each with another action than the previous one.

    Keys change between frames.
    """
    rng = np.random.default_rng(seed)
    rows = np.unique(np.stack([spec.noop(), *(_row(spec, rng) for _ in range(32))]), axis=0)
    kind = np.cumsum(rng.integers(1, len(rows), len(holds))) % len(rows)
    since = (np.concatenate([[0], np.cumsum(holds)[:-1]]) + rng.uniform(0, 1, len(holds))) / fps
    since[0] = 0.0
    return Presses(since, kind, torch.from_numpy(rows.astype(np.float32)))


def _row(spec: ActionSpec, rng: np.random.Generator) -> np.ndarray:
    high = [int(action.highest) + 1 for action in spec.actions]
    return rng.integers(0, high).astype(np.float32)


def lengths(actions: np.ndarray) -> list[int]:
    """Hold times in frames of an action table [T, A]."""
    changed = np.flatnonzero((actions[1:] != actions[:-1]).any(1)) + 1
    return np.diff([0, *changed, len(actions)]).tolist()


def recorded_holds(data: str | None, spec: ActionSpec) -> tuple[np.ndarray, str]:
    """Hold times in frames of recorded episodes; without data, of the exploring policy without vision."""
    if data is not None:
        index, holds = load_index(data), []
        for sample in samples(data, index, index.splits()[0])[:64]:
            holds += lengths(read_actions(sample, read_side(sample), index.spec.width)[1:])
        return np.array(holds), f"recorded in {data}"
    policy, view, holds = named_policy("blind"), View(np.zeros((8, 8, 3), np.uint8)), []
    for seed in range(8):
        policy.start(spec, Rng(seed))
        holds += lengths(np.stack([policy(view) for _ in range(512)]))
    return np.array(holds), "of the blind exploring policy"


def geometric_holds(fps: float, mean: float, count: int) -> np.ndarray:
    """Hold times in frames; the probability of a change is the same in every frame."""
    return np.random.default_rng(0).geometric(min(1.0, 1 / (mean * fps)), count)


class Wall:
    """Real time, in seconds."""

    now = staticmethod(time.perf_counter)
    wait = staticmethod(time.sleep)


class Simulated:
    """Time in seconds that advances only when something waits or works."""

    seconds = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self.seconds

    def wait(self, seconds: float) -> None:
        """Advance the time."""
        self.seconds += seconds


@dataclass
class Told:
    """Mean figures of a play; see the module docstring."""

    hit: float
    wasted: float
    frame_ms: float
    key_ms: float
    fps: float


def play(dream: Ahead | Joint, keys: Presses, timer: Wall | Simulated, fps: float | None, frames: int) -> Told:
    """The loop of interactive play: wait for the next frame and guess meanwhile, read the keys, show the frame."""
    begun, pace, last = timer.now(), Clock(fps, timer.now), 0
    spent, answers, hits, ready = list[float](), list[float](), 0, 0.0
    for _ in range(frames):
        while left := pace.left():
            if not dream.idle(int(keys.kind[keys.at(timer.now() - begun)])):
                timer.wait(left)
        pace.tick()
        read = timer.now() - begun
        hold = keys.at(read)
        hits += dream.frame(int(keys.kind[hold]))
        ready = timer.now() - begun
        spent.append(ready - read)
        if hold != last:
            answers.append(ready - float(keys.since[hold]))
        last = hold
    key_ms = 1e3 * statistics.fmean(answers) if answers else float("nan")
    return Told(hits / frames, dream.thrown / dream.made, 1e3 * statistics.fmean(spent), key_ms, frames / ready)


class Dream:
    """Frames that wait for their turn under one kind of keys. most: maximum number; made, thrown: counts of frames."""

    def __init__(self, most: int) -> None:
        self.most, self.made, self.thrown = most, 0, 0
        self.waiting: deque[Snapshot | None] = deque()
        self.kind = -1

    def idle(self, kind: int) -> bool:
        """Use spare time while these keys are held; returns False if there is nothing to do."""
        return False


class Nowhere:
    """The snapshot functions of `Rollout` for simulated time, which do nothing."""

    def snapshot(self) -> None:
        """Return None."""

    def restore(self, snapshot: None) -> None:
        """Do nothing."""

    def release(self, snapshot: None) -> None:
        """Do nothing."""


class Ahead(Dream):
    """Guesses one after another, as `vidar play` makes one. work(kind): generate and decode the next frame.

    The queue holds the snapshot before each guess.
    """

    def __init__(self, most: int, streams: Any, work: Callable[[int], object]) -> None:
        super().__init__(most)
        self.streams, self.work = streams, work

    def idle(self, kind: int) -> bool:
        """Make one more guess; none under other keys while some wait."""
        if len(self.waiting) >= self.most or (self.waiting and kind != self.kind):
            return False
        self.kind = kind
        self.waiting.append(self.streams.snapshot())
        self._make(kind)
        return True

    def frame(self, kind: int) -> bool:
        """Show a waiting frame, or generate one after the last frame that was shown."""
        if self.waiting and kind == self.kind:
            self.streams.release(self.waiting.popleft())
            return True
        if self.waiting:
            self.thrown += len(self.waiting)
            self.streams.restore(self.waiting[0])
            self.streams.release(self.waiting[0])
            self.waiting.clear()
        self._make(kind)
        return False

    def _make(self, kind: int) -> None:
        self.made += 1
        self.work(kind)


class Joint(Dream):
    """Frames in flight together, none before it is requested. work(kind, held): generate and decode the next frame."""

    def __init__(self, most: int, work: Callable[[int, bool], object]) -> None:
        super().__init__(most)
        self.work = work

    def frame(self, kind: int) -> bool:
        """Show a waiting frame, or propose new ones."""
        hit = bool(self.waiting) and kind == self.kind
        if hit:
            self.waiting.popleft()
        else:
            self.thrown, self.made, self.kind = self.thrown + len(self.waiting), self.made + self.most, kind
            self.waiting = deque([None] * (self.most - 1))
        self.work(kind, hit)
        return hit


def real_ahead(most: int, world: VideoModel, rows: torch.Tensor) -> Ahead:
    """Speculation on a real world, from its own start."""
    streams = world.rollout(1)
    streams.begin(0, None, None, 0)
    return Ahead(most, streams, lambda kind: world.decode(streams.frame(rows[kind][None])[:, None]))


def play_joint(most: int, world: VideoModel, start: np.ndarray, keys: Presses, frames: int) -> Told:
    """A real play of a `JointStream` without a frame rate limit; its own counts must equal those of the loop."""
    stream = JointStream(world.setting(), most)
    stream.begin(start, None, 0)
    dream = Joint(most, lambda kind, held: world.decode(stream.frame(keys.rows[kind][None])[:, None]))
    told = play(dream, keys, Wall(), None, frames)
    own = stream.discarded, stream.proposals * most, stream.hits
    assert own == (dream.thrown, dream.made, round(told.hit * frames))
    return told


def took(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def joint_costs(
    world: VideoModel, counts: Sequence[int], start: np.ndarray, rounds: int = 7
) -> tuple[list[float], float]:
    """Median seconds of a proposal for each count, measured alternately, and of a picture.

    Each follows a full proposal.
    """
    streams = [JointStream(world.setting(), count) for count in counts]
    noop = torch.from_numpy(world.config.actions.noop())[None]
    code = [stream.begin(start, None, 0) for stream in streams][0][-1:]
    spent: list[list[float]] = [[] for _ in counts]
    paint = [took(lambda: world.decode(code[:, None])) for _ in range(rounds + 2)]
    for _ in range(rounds + 2):
        for stream, times in zip(streams, spent):
            while stream.held:
                stream.frame(noop)
            times.append(took(lambda s=stream: s.frame(noop)))
    return [statistics.median(times[2:]) for times in spent], statistics.median(paint[2:])


def table(title: str, counts: Sequence[int], runs: Sequence[Sequence[Told]]) -> None:
    """One line per count, the first without speculation; medians over the rounds."""
    print(f"\n{title}\n{'M':>4}{'hit':>8}{'wasted':>8}{'frame ms':>10}{'key ms':>9}{'frames/s':>10}{'gain':>7}")
    for count, rounds in zip(counts, runs, strict=True):
        hit, wasted, frame, key, fps = (
            statistics.median(values) for values in zip(*(vars(r).values() for r in rounds))
        )
        gain = statistics.median(a.fps / b.fps for a, b in zip(rounds, runs[0]))
        print(f"{count:>4}{hit:8.2f}{wasted:8.2f}{frame:10.1f}{key:9.1f}{fps:10.2f}{gain:7.2f}")


def bench_ahead(
    world: VideoModel, counts: Sequence[int], keys: dict[str, Presses], frames: int, seconds: float
) -> None:
    """Both key streams at the world's own pace; without a limit there is no idle time, and nothing is guessed."""
    fps, counts = world.config.fps, [0, *counts]
    probe = real_ahead(0, world, next(iter(keys.values())).rows)
    cost = statistics.median([took(lambda: probe.frame(0)) for _ in range(9)][2:])
    print(f"\n*ahead*: world {world.config.name}, {1e3 * cost:.1f} ms per frame, due every {1e3 / fps:.1f} ms")
    for name, pressed in keys.items():
        told = []
        for count in counts:
            timer = Simulated()
            dream = Ahead(count, Nowhere(), lambda kind, t=timer: t.wait(cost))
            told.append([play(dream, pressed, timer, fps, frames)])
        table(f"ahead, simulated, {name}", counts, told)
        if real := int(seconds * fps):
            rounds = [
                [play(real_ahead(c, world, pressed.rows), pressed, Wall(), fps, real) for c in counts] for _ in "AB"
            ]
            table(f"ahead, real, {real} frames twice, {name}", counts, list(zip(*rounds)))


def bench_joint(
    world: VideoModel, counts: Sequence[int], keys: dict[str, Presses], frames: int, seconds: float
) -> None:
    """Both key streams, without a limit and at the world's own pace."""
    window, start = world.config.order.window or 0, noise(world)
    if refused := [count for count in counts if count > window]:
        print(f"\n*joint*: {refused} frames in flight do not fit the window of {window}; skipped")
    counts = [1, *(count for count in counts if 1 < count <= window)]
    costs, paint = joint_costs(world, counts, start)
    ms = ", ".join(f"{count}: {1e3 * cost:.1f} ms ({cost / costs[0]:.2f})" for count, cost in zip(counts, costs))
    print(
        f"\n*joint*: world {world.config.name}, a proposal of M takes (over that of 1) {ms}; {1e3 * paint:.1f} ms paint"
    )
    for name, pressed in keys.items():
        for pace in (None, world.config.fps):
            told = []
            for count, cost in zip(counts, costs):
                timer = Simulated()
                dream = Joint(count, lambda kind, held, t=timer, c=cost: t.wait(paint + (0.0 if held else c)))
                told.append([play(dream, pressed, timer, pace, frames)])
            speed = "as fast as it goes" if pace is None else f"{pace:g} frames/s"
            table(f"joint, simulated, {speed}, {name}", counts, told)
        if real := int(seconds / (costs[0] + paint)):
            rounds = [[play_joint(count, world, start, pressed, real) for count in counts] for _ in "AB"]
            table(f"joint, real, as fast as it goes, {real} frames twice, {name}", counts, list(zip(*rounds)))


def noise(world: VideoModel) -> np.ndarray:
    """Context frames uint8 [4, H, W, 3]; times do not depend on their content."""
    size = (4, world.config.height, world.config.width, 3)
    return np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)


def random_world() -> VideoModel:
    """The SINGLE world of shapes without its hint, with weights of chance."""
    print("\nNOTE: *joint* on random weights: times and counts are real, pictures mean nothing")
    world = override(world_shapes().method, "world.objective.hint", NoHintConfig())
    world = override(world, "world.net.backbone.in_width", CHANNELS + 1)
    torch.manual_seed(0)
    return world.world.build()  # type: ignore[attr-defined]


def streams_of_keys(world: VideoModel, data: str | None, seconds: float) -> dict[str, Presses]:
    """Both kinds of hold times, repeated to the required length."""
    spec, fps = world.config.actions, world.config.fps
    game = load("doom").config
    holds, source = recorded_holds(data, game.actions)
    rate = load_index(data).fps if data is not None else game.fps
    long = np.tile(holds, int(np.ceil(seconds * rate / holds.sum())))
    count = int(seconds / 0.4 * 1.5)
    print(f"\nkeys of world {world.config.name}: {len(holds)} holds {source}, and geometric ones")
    return {
        f"holds {source} (mean {holds.mean() / rate:.2f} s)": presses(long, rate, spec, 1),
        "holds geometric (mean 0.4 s)": presses(geometric_holds(fps, 0.4, count), fps, spec, 2),
    }


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ahead", default="doom", help="world of *ahead*")
    parser.add_argument("--joint", type=Path, help="directory of a SINGLE world without a hint, for *joint*")
    parser.add_argument("--data", help="recording that supplies the hold times (default: runs/data/doom if it exists)")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of frames guessed or in flight"
    )
    parser.add_argument("--frames", type=int, default=4000, help="frames of a simulated play")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of real play; 0: none")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(", ".join([hardware(), *(f"{name} {value}" for name, value in versions().items()), "one thread"]))
    data = given.data or ("runs/data/doom" if Path("runs/data/doom").is_dir() else None)
    try:
        worlds = ((load(given.ahead), bench_ahead), (load(given.joint) if given.joint else random_world(), bench_joint))
        for world, bench in worlds:
            span = 8 * given.frames / world.config.fps  # enough keys for a machine that cannot keep up
            bench(world, given.counts, streams_of_keys(world, data, span), given.frames, given.seconds)
    except VidarError as error:
        parser.exit(1, f"bench_speculation: {error}\n")


if __name__ == "__main__":
    main()
