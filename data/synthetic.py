"""A synthetic world of moving shapes with fully known state, to test controllability, drift, memory and captions.

Coordinates are pixels, x to the right and y down, with pixel centres at +0.5. All movements are multiples of 1/64 of
a pixel, so that positions are exact in float32 and a player's step is exact. Depth order: shape 0 (the player, white)
is in front of shape 1, which is in front of shape 2, ... Shapes do not collide with one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vidar.actions import Action, ActionSpec
from vidar.config import Config
from vidar.data.episode import Episode, ending
from vidar.data.explore import ActionPolicy, HoldPolicyConfig, ReplayPolicy, View
from vidar.rng import Rng

KINDS = ("circle", "square", "triangle", "ring")
COLOURS = {
    "white": (240, 240, 240),
    "red": (225, 60, 50),
    "blue": (65, 105, 235),
    "green": (70, 190, 80),
    "yellow": (240, 205, 60),
    "purple": (165, 80, 200),
    "orange": (240, 140, 40),
    "cyan": (70, 200, 215),
}
BACKGROUND = 24
MOVES = ("stay", "left", "right", "up", "down")
DIRECTION = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], dtype=np.float32)
X, Y, VX, VY, RADIUS, VISIBLE = range(6)  # columns of a state [num_shapes, 6]
SPEC = ActionSpec(
    actions=(
        Action(
            name="move",
            kind="choice",
            size=len(MOVES),
            keys=(" ", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"),
        ),
    )
)


class ShapesConfig(Config):
    """Size and length of the world. The last `num_blinkers` shapes appear or vanish whenever they hit a side wall."""

    height: int = Field(default=32, ge=8, le=1024)
    width: int = Field(default=32, ge=8, le=1024)
    frames: int = Field(default=32, ge=2)
    num_shapes: int = Field(default=4, ge=1, le=len(COLOURS))
    num_blinkers: int = Field(default=1, ge=0)
    fps: float = Field(default=10.0, gt=0)

    @property
    def step(self) -> float:
        """Pixels that the player moves per frame: 1/16 of the shorter side."""
        return round(min(self.height, self.width) / 16 * 64) / 64

    def build(self) -> ShapesWorld:
        """The world."""
        return ShapesWorld(self)


@dataclass(frozen=True)
class Scene:
    """The appearance of the shapes, and the laws of motion.

    States are float32 [num_shapes, 6]: x y vx vy radius visible.
    """

    config: ShapesConfig
    kinds: tuple[str, ...]
    colours: tuple[str, ...]

    def next_state(self, state: np.ndarray, action: int) -> np.ndarray:
        """One frame later: the player (shape 0) steps and stops at walls.

        The other shapes bounce without losing speed.
        """
        state = state.copy()
        size = np.array([self.config.width, self.config.height], dtype=np.float32)
        low, high = state[:, RADIUS, None], size - state[:, RADIUS, None]  # [num_shapes, 2]
        state[0, VX : VY + 1] = DIRECTION[action] * np.float32(self.config.step)
        place = state[:, X : Y + 1] + state[:, VX : VY + 1]
        state[0, X : Y + 1] = np.clip(place[0], low[0], high[0])
        hit = (place < low) | (place > high)
        place = np.where(place < low, 2 * low - place, np.where(place > high, 2 * high - place, place))
        state[1:, X : Y + 1] = place[1:]
        state[1:, VX : VY + 1] *= np.where(hit, -1, 1)[1:]
        blinker = np.arange(len(state)) >= max(1, len(state) - self.config.num_blinkers)
        toggle = blinker & hit[:, 0]
        state[toggle, VISIBLE] = 1 - state[toggle, VISIBLE]
        return state

    def render(self, state: np.ndarray) -> np.ndarray:
        """State -> frame uint8 [H, W, 3].

        Edges are antialiased over about one pixel by the clipped distance to the shape.
        """
        height, width = self.config.height, self.config.width
        y, x = np.mgrid[0:height, 0:width] + 0.5
        frame = np.full((height, width, 3), BACKGROUND, dtype=np.float64)
        for number in reversed(range(len(state))):  # from far to near
            if state[number, VISIBLE] > 0.5:
                row = state[number].astype(np.float64)
                distance = DISTANCES[self.kinds[number]](x - row[X], y - row[Y], row[RADIUS])
                cover = np.clip(0.5 - distance, 0, 1)[..., None]
                frame += cover * (np.array(COLOURS[self.colours[number]]) - frame)
        return np.round(frame).astype(np.uint8)

    def reward(self, state: np.ndarray) -> float:
        """1 while the player touches another visible shape (by their radii), else 0."""
        apart = np.hypot(*(state[1:, X : Y + 1] - state[0, X : Y + 1]).T)
        return float(((apart < state[1:, RADIUS] + state[0, RADIUS]) & (state[1:, VISIBLE] > 0.5)).any())

    def caption(self, actions: Sequence[int]) -> str:
        """A description of the shapes that bounce, and of the player's main movement."""
        names = [f"a {colour} {kind}" for colour, kind in zip(self.colours[1:], self.kinds[1:])]
        counts = np.bincount(np.asarray(actions, dtype=np.int64), minlength=len(MOVES))
        move = 0 if counts[1:].sum() == 0 else 1 + int(np.argmax(counts[1:]))
        player = f"the {self.colours[0]} {self.kinds[0]} " + ("stays" if move == 0 else f"moves {MOVES[move]}")
        if not names:
            return player
        crowd = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
        return f"{crowd} bounce{'s' if len(names) == 1 else ''}; {player}"


def _circle(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    return np.sqrt(dx * dx + dy * dy) - radius


def _square(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    return np.maximum(np.abs(dx), np.abs(dy)) - radius


def _triangle(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    # the equilateral triangle inside the circle, one corner up: three half-planes at half the radius
    slant = 0.5 * np.sqrt(3.0)
    return np.maximum(dy, slant * np.abs(dx) - 0.5 * dy) - 0.5 * radius


def _ring(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    return np.abs(_circle(dx, dy, 0.75 * radius)) - 0.25 * radius


Distance = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (dx, dy, radius) -> signed distance in pixels
DISTANCES: dict[str, Distance] = dict(zip(KINDS, (_circle, _square, _triangle, _ring)))


class ShapesWorld:
    """Creates scenes and episodes; both are functions of config and seed (and of the actions)."""

    spec = SPEC

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config

    def close(self) -> None:
        """Does nothing; every source of episodes has this method."""

    def scene(self, seed: int) -> tuple[Scene, np.ndarray]:
        """The scene of a seed and its first state, float32 [num_shapes, 6]."""
        config, rng = self.config, Rng(seed)
        count, side = config.num_shapes, min(config.height, config.width)
        kinds = tuple(KINDS[int(u * len(KINDS))] for u in rng.uniform("init", 0, 0, (count,)))
        others = list(COLOURS)[1:]
        order = rng.permutation("init", len(others), 1).tolist()
        colours = ("white", *(others[i] for i in order[: count - 1]))
        u = rng.uniform("init", 2, 0, (count, 6)).numpy()
        radius = side * (0.10 + 0.09 * u[:, 0])
        size = np.array([config.width, config.height])
        place = radius[:, None] + u[:, 1:3] * (size - 2 * radius[:, None])
        speed, angle = side * (0.02 + 0.04 * u[:, 3]), 2 * np.pi * u[:, 4]
        velocity = np.stack([speed * np.cos(angle), speed * np.sin(angle)], 1)
        velocity[0] = 0
        state = np.round(np.column_stack([place, velocity, radius]) * 64) / 64
        state[:, X : Y + 1] = np.clip(state[:, X : Y + 1], state[:, 4:5], size - state[:, 4:5])
        return Scene(config, kinds, colours), np.column_stack([state, np.ones(count)]).astype(np.float32)

    def episode(self, seed: int, policy: ActionPolicy | None = None, actions: np.ndarray | None = None) -> Episode:
        """Play `actions` [T, 1] (their number sets the length of the episode), or the actions that `policy` chooses.

        Raises VidarError for an illegal action.
        """
        frames = self.config.frames if actions is None else len(actions)
        policy = policy or (HoldPolicyConfig().build() if actions is None else ReplayPolicy(actions))
        policy.start(self.spec, Rng(seed))
        scene, state = self.scene(seed)
        states, pictures, rows = [state], [scene.render(state)], [np.zeros(1, np.float32)]
        while len(states) < frames:
            rows.append(np.asarray(policy(View(pictures[-1])), dtype=np.float32))
            states.append(scene.next_state(states[-1], int(rows[-1][0])))
            pictures.append(scene.render(states[-1]))
        table = np.stack(rows)
        return Episode(
            frames=np.stack(pictures),
            actions=table,
            fps=self.config.fps,
            spec=self.spec,
            name=f"shapes-{seed:09d}",
            source="shapes",
            extras={
                "state": np.stack(states),
                "rewards": np.array([0.0] + [scene.reward(s) for s in states[1:]], np.float32),
                "ended": ending(len(states), False),
            },
            caption=scene.caption([int(v) for v in table[1:, 0]]),
            meta={"seed": seed, "kinds": list(scene.kinds), "colours": list(scene.colours), "license": "CC0-1.0"},
        )
