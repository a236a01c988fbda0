"""Random operations on streams, and what each row should show: the same as a row that is played alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
import torch

from vidar.rng import Rng
from vidar.rollout.driver import Snapshot

CAPACITY = 3
PATTERNS = (  # with moments inside one another, and ones that are given up before the last is
    "open frame hold frame back frame frame",
    "hold frame frame hold frame back frame back frame",
    "hold frame hold frame release hold frame back frame back frame",
    "again frame hold frame back frame release open frame",
)


@dataclass(frozen=True, eq=False)
class Opened:
    """A row begins anew after its context."""

    codes: torch.Tensor
    actions: torch.Tensor | None
    seed: int
    first: int


@dataclass(frozen=True, eq=False)
class Framed:
    """A row's action, and the calls of its frame."""

    action: torch.Tensor
    steps: int | None


@dataclass(frozen=True, eq=False)
class Recached:
    """Keys of the last frames of a row are made anew under other actions."""

    codes: torch.Tensor
    actions: torch.Tensor


@dataclass
class Held:
    """A snapshot, the histories of all rows then, and the rows that may still go back to it."""

    snapshot: Snapshot
    histories: list[tuple]
    rows: set[int]


@dataclass
class Player:
    """Plays `world` by random operations, and keeps of every row what happened to it and what it showed.

    shown: by row and history, the code of its last frame: what was taken back is in it too.
    """

    world: object
    random: Random
    steps: tuple[int | None, ...] = (None,)
    log: list[str] = field(default_factory=list)
    shown: dict[tuple[int, tuple], torch.Tensor] = field(default_factory=dict)

    def __post_init__(self):
        self.streams = self.world.rollout(CAPACITY)
        self.histories: list[tuple] = [()] * CAPACITY
        self.held: list[Held] = []
        self.generator = torch.Generator().manual_seed(self.random.randrange(1 << 30))

    def play(self, frames: int):
        """All rows but one are opened, and operations follow in random patterns until so many frames were made."""
        operations = {"open": self.open, "again": self.recache, "hold": self.hold, "back": self.back,
                      "release": self.release, "frame": self.frame}  # fmt: skip
        made = 0
        for row in range(1, CAPACITY):
            self.open(row)
        while made < frames:
            for name in self.random.choice(PATTERNS).split():
                operations[name]()
                made += name == "frame"
            while self.held:
                self.release()

    def actions(self, *shape: int) -> torch.Tensor:
        """Random legal actions, [*shape, A]."""
        columns = [
            torch.randint(int(a.lowest), int(a.highest) + 1, shape, generator=self.generator).float()
            for a in self.world.config.actions.actions
        ]
        return torch.stack(columns, -1)

    def open(self, row: int | None = None):
        """One row: the bits of a prefill depend on how many rows are opened together."""
        config, count = self.world.config, self.random.choice([1, 2, 4])
        row = self.random.randrange(CAPACITY) if row is None else row
        first, seed = self.random.choice([0, 0, 3]), self.random.randrange(100)
        count += 2 * bool(first)  # the last frame before the new one may need the one before itself
        shape = (1, count, config.height, config.width, 3)
        codes = self.world.encode(torch.randint(0, 256, shape, generator=self.generator, dtype=torch.uint8))
        known = self.actions(1, count) if self.random.random() < 0.7 else None
        self.streams.open([row], codes, known, [Rng(seed)], first)
        self.histories[row] = (Opened(codes, known, seed, first),)
        self.log.append(f"open {row} from frame {first} after {count}")

    def frame(self):
        actions, steps = self.actions(CAPACITY), self.random.choice(self.steps)
        codes = self.streams.frame(actions, steps)
        for row, history in enumerate(self.histories):
            if history:
                self.histories[row] = (*history, Framed(actions[row], steps))
                self.shown[row, self.histories[row]] = codes[row]
        self.log.append(f"frame of {steps} calls")

    def hold(self):
        self.held.append(Held(self.streams.snapshot(), list(self.histories), set(range(CAPACITY))))
        self.log.append("hold")

    def back(self):
        """All rows, or some of those that did not go back behind this snapshot since."""
        number = self.random.randrange(len(self.held))
        chosen = self.held[number]
        if not chosen.rows:
            return
        every = len(chosen.rows) == CAPACITY and self.random.random() < 0.3
        some = self.random.sample(sorted(chosen.rows), self.random.randint(1, min(2, len(chosen.rows))))
        rows = None if every else some
        self.streams.restore(chosen.snapshot, rows)
        for row in range(CAPACITY) if rows is None else rows:
            self.histories[row] = chosen.histories[row]
            for later in self.held[number + 1 :]:
                later.rows.discard(row)
        if rows is None:
            del self.held[number + 1 :]
        self.log.append(f"back to snapshot {number}, rows {rows}")

    def release(self):
        """Rows that went back behind a snapshot are refused it until then."""
        number = self.random.randrange(len(self.held))
        held = self.held.pop(number)
        for row in {*range(CAPACITY)} - held.rows:
            with pytest.raises(ValueError, match="went past"):
                self.streams.restore(held.snapshot, [row])
        self.streams.release(held.snapshot)
        self.log.append(f"release snapshot {number}")

    def recache(self):
        """Of rows that made frames since they were opened, with these or some of them."""
        rows = [row for row, history in enumerate(self.histories) if history and isinstance(history[-1], Framed)]
        if not rows:
            return
        row = self.random.choice(rows)
        made = [self.shown[row, self.histories[row][: n + 1]] for n, what in enumerate(self.histories[row])
                if isinstance(what, Framed)]  # fmt: skip
        codes = torch.cat([self.histories[row][0].codes, torch.stack(made)[None]], 1)
        told = self.actions(1, codes.shape[1])
        self.streams.recache([row], codes, told)
        self.histories[row] = (*self.histories[row], Recached(codes, told))
        self.log.append(f"recache {row} with {codes.shape[1]} frames")


def alone(world, row: int, histories: list[tuple]) -> dict[tuple, torch.Tensor]:
    """What a row shows that no other row was ever opened beside: by history, each of them a way that was gone."""
    streams, shown, place = world.rollout(CAPACITY), {}, ()
    for history in histories:
        done = len(place) if place == history[: len(place)] else 0
        for n in range(done, len(history)):
            what = history[n]
            if isinstance(what, Opened):
                streams.open([row], what.codes, what.actions, [Rng(what.seed)], what.first)
            elif isinstance(what, Recached):
                streams.recache([row], what.codes, what.actions)
            else:
                actions = torch.zeros(CAPACITY, what.action.shape[-1])
                actions[row] = what.action
                shown[history[: n + 1]] = streams.frame(actions, what.steps)[row]
        place = history
    return shown
