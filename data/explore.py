"""Recording policies: exploration of a first-person game, random held actions for any environment, and replay.

A policy receives the ActionSpec and the Rng at the start of an episode, and then returns an action row for every
View. All draws are named "policy" and have their own running number, so an episode is a function of its seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from pydantic import Field

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.rng import Rng
from vidar.types import UsageError


@dataclass(frozen=True)
class View:
    """What a policy sees before it acts: frame uint8 [H, W, 3]; in a game also depth uint8 [H, W] and pose [4]."""

    frame: np.ndarray
    depth: np.ndarray | None = None
    pose: np.ndarray | None = None


class ActionPolicy(Protocol):
    """Chooses actions during a recording."""

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode and drop all memory."""
        ...

    def __call__(self, view: View) -> np.ndarray:
        """View -> action row float32 [A]."""
        ...


@dataclass
class Draws:
    """Random numbers in the order in which a policy requests them."""

    rng: Rng
    count: int = 0

    def uniform(self) -> float:
        """A uniform number in (0, 1)."""
        self.count += 1
        return float(self.rng.uniform("policy", unit=self.count))

    def integer(self, low: int, high: int) -> int:
        """A uniform integer in low..high, both ends included."""
        return low + min(int(self.uniform() * (high - low + 1)), high - low)

    def pick(self, weights: dict[str, float]) -> str:
        """A name with probability proportional to its weight."""
        left = self.uniform() * sum(weights.values())
        names = list(weights)
        for name in names:
            left -= weights[name]
            if left <= 0:
                return name
        return names[-1]


class ReplayPolicy:
    """Plays a given table of actions [T, A].

    Row 0 is skipped (a_t acts between frames t-1 and t); after the table, no-op.
    """

    def __init__(self, actions: np.ndarray) -> None:
        self.actions = np.asarray(actions, dtype=np.float32)

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Check the table against the spec. Raises VidarError for a wrong width or an illegal value."""
        self.rows = iter(spec.validate_actions(self.actions, "replayed actions")[1:])
        self.noop = spec.noop()

    def __call__(self, view: View) -> np.ndarray:
        """The next row."""
        return next(self.rows, self.noop)


class HoldPolicyConfig(Config):
    """Random actions: every column is held for a random number of steps, and is at rest with probability p_rest."""

    shortest: int = Field(default=2, ge=1)
    longest: int = Field(default=12, ge=1)
    p_rest: float = Field(default=0.25, ge=0, le=1)

    def build(self) -> HoldPolicy:
        """Raises UsageError if `longest` is less than `shortest`."""
        if self.longest < self.shortest:
            raise UsageError(f"HoldPolicyConfig: longest ({self.longest}) is less than shortest ({self.shortest})")
        return HoldPolicy(self)


class HoldPolicy:
    """See HoldPolicyConfig."""

    def __init__(self, config: HoldPolicyConfig) -> None:
        self.config = config

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode."""
        self.spec, self.draws = spec, Draws(rng)
        self.row, self.left = spec.noop(), [0] * spec.width

    def __call__(self, view: View) -> np.ndarray:
        """The next action row; each column changes at its own time."""
        for column, action in enumerate(self.spec.actions):
            if self.left[column] == 0:
                self.left[column] = self.draws.integer(self.config.shortest, self.config.longest)
                u = self.draws.uniform()
                if self.draws.uniform() < self.config.p_rest:
                    self.row[column] = action.noop
                elif action.kind == "continuous":
                    self.row[column] = action.low + u * (action.high - action.low)
                else:
                    self.row[column] = min(int(u * (action.highest + 1)), int(action.highest))
            self.left[column] -= 1
        return self.row.copy()


class ExplorePolicyConfig(Config):
    """Weights of the behaviours of an explorer of a first-person game. Choice: all numbers, tuned on my_way_home.

    seek  face the most open and least visited direction in view, then run     run   straight on
    arc   run while turning                turn  turn in place                 back  look back
    strafe sidestep, half of the time while running                            pause do nothing
    retrace walk back along the trail (revisits test the memory of a model)
    blind: press keys in the same manner without using depth and pose, so that it runs into walls and along them, as a
    player's keys do in a dream; without seek and retrace
    """

    seek: float = 0.36
    run: float = 0.18
    arc: float = 0.16
    turn: float = 0.05
    back: float = 0.03
    strafe: float = 0.16
    pause: float = 0.06
    retrace: float = 0.03
    cell: float = Field(default=64.0, gt=0)  # map units
    near: float = 12.0  # depth value below which the way ahead is blocked
    open: float = 16.0  # depth value from which a turn stops at a view
    speed: float = 1.5  # map units per step below which a runner is stuck
    depth_unit: float = 7.6  # map units per depth step
    view_degrees: float = 86.0  # horizontal field of view of the depth picture
    blind: bool = False

    def build(self) -> ExplorePolicy:
        """The policy."""
        return ExplorePolicy(self)


LEFT, RIGHT, AHEAD, SIDE_LEFT, SIDE_RIGHT = "TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"

NEEDS = {  # the buttons that each behaviour needs
    "seek": (LEFT, RIGHT, AHEAD),
    "run": (AHEAD,),
    "arc": (LEFT, RIGHT, AHEAD),
    "turn": (LEFT, RIGHT),
    "back": (LEFT, RIGHT),
    "strafe": (SIDE_LEFT, SIDE_RIGHT),
    "pause": (),
    "retrace": (LEFT, RIGHT, AHEAD),
}


@dataclass
class Stretch:
    """Buttons held for a number of steps."""

    pressed: tuple[str, ...]
    steps: int
    heading: float | None = None  # degrees; turn until it is faced (steps is the limit)
    wary: bool = True  # a wall ahead ends it
    seeking: bool = False  # an open view ends it


@dataclass
class Memory:
    """What an explorer remembers: visits per cell, the trail, and the next behaviours."""

    visits: dict[tuple[int, int], int] = field(default_factory=dict)
    trail: list[tuple[float, float]] = field(default_factory=list)
    route: list[tuple[float, float]] = field(default_factory=list)  # trail to walk back, next point last
    queue: list[Stretch] = field(default_factory=list)
    stuck: int = 0


class ExplorePolicy:
    """See ExplorePolicyConfig. Without depth or pose it falls back to random held behaviours."""

    def __init__(self, config: ExplorePolicyConfig) -> None:
        self.config = config

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode."""
        self.spec, self.draws, self.memory = spec, Draws(rng), Memory()
        self.column = {name: column for column, name in enumerate(spec.names)}
        self.able = [name for name, buttons in NEEDS.items() if set(buttons) <= set(self.column)]
        self.last: tuple[str, ...] = ()
        self.fire = 0

    def __call__(self, view: View) -> np.ndarray:
        """The action row of the current behaviour; a trigger, if there is one, is held now and then."""
        if self.config.blind:
            view = View(view.frame)
        self._notice(view)
        memory = self.memory
        running = bool(memory.queue) and memory.queue[0].wary and AHEAD in memory.queue[0].pressed
        if memory.stuck >= 2 or (running and self._blocked(view)):
            self._avoid(view)
        while not memory.queue or self._done(memory.queue[0], view):
            del memory.queue[:1]
            if not memory.queue:
                self._choose(view)
        stretch = memory.queue[0]
        stretch.steps -= 1
        row = self.spec.noop()
        for name in stretch.pressed:
            if name in self.column:
                row[self.column[name]] = 1.0
        self._trigger(row)
        self.last = stretch.pressed
        return row

    def _trigger(self, row: np.ndarray) -> None:
        if "ATTACK" in self.column:
            if self.fire == 0 and self.draws.uniform() < 0.06:
                self.fire = self.draws.integer(2, 6)
            row[self.column["ATTACK"]] = float(self.fire > 0)
            self.fire = max(0, self.fire - 1)

    def _notice(self, view: View) -> None:
        if view.pose is None:
            return
        memory, here = self.memory, (float(view.pose[0]), float(view.pose[1]))
        if memory.trail and AHEAD in self.last:
            slow = math.dist(here, memory.trail[-1]) < self.config.speed
            memory.stuck = memory.stuck + 1 if slow else 0
        cell = self._cell(*here)
        memory.visits[cell] = memory.visits.get(cell, 0) + 1
        memory.trail.append(here)

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        return (math.floor(x / self.config.cell), math.floor(y / self.config.cell))

    def _columns(self, view: View, count: int) -> np.ndarray:
        """Nearest depth along the horizon in `count` columns, [count]."""
        depth = view.depth
        assert depth is not None
        height, width = depth.shape
        band = depth[height * 2 // 5 : height * 3 // 5].min(0)
        return np.array([part.mean() for part in np.array_split(band[: width // count * count], count)])

    def _blocked(self, view: View) -> bool:
        return view.depth is not None and self._columns(view, 5)[2] < self.config.near

    def _done(self, stretch: Stretch, view: View) -> bool:
        if stretch.steps <= 0:
            return True
        if stretch.seeking and view.depth is not None and self._columns(view, 5)[1:4].mean() > self.config.open:
            return True
        if stretch.heading is None or view.pose is None:
            return False
        off = (stretch.heading - float(view.pose[3]) + 180) % 360 - 180
        return abs(off) < 5 or (abs(off) < 90 and (off > 0) != (LEFT in stretch.pressed))

    def _face(self, view: View, heading: float) -> Stretch:
        """Turn until `heading` (degrees, counter-clockwise) is faced."""
        assert view.pose is not None
        off = (heading - float(view.pose[3]) + 180) % 360 - 180
        side = LEFT if off > 0 else RIGHT
        if abs(off) > 150:  # about turn, in either direction
            side = LEFT if self.draws.uniform() < 0.5 else RIGHT
        return Stretch((AHEAD, side) if abs(off) < 50 and not self._blocked(view) else (side,), 40, heading)

    def _open_side(self, view: View) -> str:
        """The side to turn to at a wall, mostly the more open one."""
        if view.depth is None or self.draws.uniform() < 0.15:
            return LEFT if self.draws.uniform() < 0.5 else RIGHT
        columns = self._columns(view, 5)
        return LEFT if columns[:2].mean() > columns[3:].mean() else RIGHT

    def _avoid(self, view: View) -> None:
        """Without progress, turn away and try again; at a wall ahead, choose another behaviour."""
        memory, draws = self.memory, self.draws
        if memory.stuck >= 2:
            memory.queue = [
                Stretch((self._open_side(view),), draws.integer(6, 16)),
                Stretch((AHEAD,), draws.integer(4, 12)),
            ]
            memory.stuck, memory.route = 0, []
        else:
            self._choose(view, blocked=True)

    def _choose(self, view: View, blocked: bool = False) -> None:
        """Queue the next behaviour."""
        memory, draws = self.memory, self.draws
        if memory.route and not blocked:
            return self._walk_route(view)
        memory.route = []
        weights = {name: float(getattr(self.config, name)) for name in self.able}
        if view.pose is None or view.depth is None:
            weights = {name: weight for name, weight in weights.items() if name not in ("seek", "retrace")}
        side = LEFT if draws.uniform() < 0.5 else RIGHT
        if blocked:
            side = self._open_side(view)
            less = {"run": 0.0, "arc": 0.25, "pause": 0.25}
            weights = {name: weight * less.get(name, 1.0) for name, weight in weights.items()}
        match draws.pick(weights):
            case "seek":
                memory.queue = self._seek(view)
            case "run":
                memory.queue = [Stretch((AHEAD,), draws.integer(8, 32))]
            case "arc":
                arc = Stretch((AHEAD, side), draws.integer(4, 14), wary=False)
                memory.queue = [arc, Stretch((AHEAD,), draws.integer(4, 16))]
            case "turn":
                memory.queue = [Stretch((side,), draws.integer(4, 25))]
            case "back":
                memory.queue = [Stretch((side,), draws.integer(22, 28)), Stretch((AHEAD,), draws.integer(0, 16))]
            case "strafe":
                way = (SIDE_LEFT if side == LEFT else SIDE_RIGHT,)
                both = draws.uniform() < 0.5
                memory.queue = [Stretch((AHEAD, *way) if both else way, draws.integer(4, 12), wary=False)]
            case "pause":
                memory.queue = [Stretch((), draws.integer(4, 12))]
            case _:
                memory.route = memory.trail[-draws.integer(40, 160) :: 4]
                self._walk_route(view)

    def _seek(self, view: View) -> list[Stretch]:
        """Face the image column with the best openness and the fewest visits in its direction; then run."""
        assert view.pose is not None
        x, y, _, angle = (float(v) for v in view.pose)
        columns = self._columns(view, 9)
        best, heading = -1.0, angle
        for number, depth in enumerate(columns):
            off = math.atan(math.tan(math.radians(self.config.view_degrees / 2)) * (1 - (2 * number + 1) / 9))
            way = math.radians(angle) + off
            fresh, reach = 0.0, min(float(depth), 60.0)
            for part in (0.35, 0.65, 0.9):
                far = part * reach * self.config.depth_unit
                cell = self._cell(x + far * math.cos(way), y + far * math.sin(way))
                fresh += 1 / (1 + self.memory.visits.get(cell, 0))
            score = reach * (0.1 + fresh) * (0.7 + 0.6 * self.draws.uniform())
            if score > best:
                best, heading = score, math.degrees(way)
        if columns.max() < self.config.open:  # a wall or a corner: no view
            return [Stretch((self._open_side(view),), self.draws.integer(18, 40), seeking=True)]
        return [self._face(view, heading), Stretch((AHEAD,), self.draws.integer(10, 30))]

    def _walk_route(self, view: View) -> None:
        """Walk to the next point of the trail."""
        assert view.pose is not None
        route, here = self.memory.route, (float(view.pose[0]), float(view.pose[1]))
        while route and math.dist(here, route[-1]) < 48:
            route.pop()
        if not route:
            self.memory.queue = [Stretch((), self.draws.integer(2, 5))]
            return
        x, y = route[-1]
        heading = math.degrees(math.atan2(y - here[1], x - here[0]))
        steps = max(2, round(math.dist(here, route[-1]) / 8))
        self.memory.queue = [self._face(view, heading), Stretch((AHEAD,), steps)]
