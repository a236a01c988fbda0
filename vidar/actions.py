"""ActionSpec: the actions of a player. It is stored with data and models.

The gymnasium space, the validation and the key map are derived from it. Alignment: action a_t acts between frame t-1
and frame t; a_0 is `unknown`. `unknown` is not an action value but a separate boolean array beside the actions.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from vidar.config import Config
from vidar.types import VidarError

DEGREES_PER_PIXEL = 0.15  # of mouse motion: VPT, 360 / 2400
Kind = Literal["binary", "choice", "camera", "continuous"]
Axis = Literal["x", "y"]
VERTICAL = re.compile(  # of a name in lower case with its words apart: mouseY is mouse_y
    r"pitch|vertical|tilt|elevation|look_(up|down)|up_?down"
    r"|(?<![a-z])(mouse|camera|cam|look|cursor|pointer|delta|rel)?d?y(?![a-z])"
)


class Action(Config):
    """One column of an action vector.

    binary: 0 or 1. choice: 0 .. size-1. camera: a mu-law bin 0 .. size-1 (odd; the middle bin is rest).
    continuous: a number in [low, high]. noop: the value at rest, by default 0, and for a camera the middle bin.
    axis: the motion of the mouse that moves a camera or continuous column; if not given, the name says it.
    """

    YOUNGER: ClassVar[tuple[str, ...]] = ("axis",)

    name: str
    kind: Kind = "binary"
    size: int = 2
    low: float = -1.0
    high: float = 1.0
    noop: float = 0.0
    keys: tuple[str, ...] = ()  # binary: the keys that press it; choice and camera: the key of each value in turn
    axis: Axis | None = None

    @model_validator(mode="after")
    def _check(self) -> Action:
        if self.kind == "camera" and self.size % 2 == 0:
            raise ValueError(f"camera action {self.name!r} has {self.size} bins, which must be odd; write size: 11")
        if self.kind == "camera" and "noop" not in self.model_fields_set:
            object.__setattr__(self, "noop", float(self.size // 2))
        if self.axis is not None and self.kind not in ("camera", "continuous"):
            raise ValueError(f"action {self.name!r} is {self.kind}; axis is for camera and continuous actions")
        if not (self.low < self.high and self.lowest <= self.noop <= self.highest):
            raise ValueError(f"action {self.name!r}: noop {self.noop} lies outside its range")
        return self

    @property
    def lowest(self) -> float:
        """The lowest legal value."""
        return self.low if self.kind == "continuous" else 0.0

    @property
    def highest(self) -> float:
        """The highest legal value."""
        if self.kind == "continuous":
            return self.high
        return 1.0 if self.kind == "binary" else float(self.size - 1)

    @property
    def mouse_axis(self) -> Axis:
        """The motion of the mouse that moves this column: `axis`, else y for names such as pitch, dy and camera_y."""
        if self.axis is not None:
            return self.axis
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        return "y" if VERTICAL.search(words) else "x"


class ActionSpec(Config):
    """The action vector of a world: an ordered tuple of `Action`."""

    actions: tuple[Action, ...] = Field(default=())

    @model_validator(mode="after")
    def _check(self) -> ActionSpec:
        names = [action.name for action in self.actions]
        if len(set(names)) != len(names):
            raise ValueError(f"action names repeat: {names}")
        return self

    @property
    def width(self) -> int:
        """Number of columns of the action vector."""
        return len(self.actions)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(action.name for action in self.actions)

    def noop(self) -> np.ndarray:
        """The action with no key pressed: float32 [A]."""
        return np.array([action.noop for action in self.actions], dtype=np.float32)

    def validate_actions(self, actions: np.ndarray, where: str) -> np.ndarray:
        """Check [T, A] against the spec; returns float32. Raises VidarError naming `where`, column, first bad row."""
        values = np.asarray(actions)
        if values.ndim != 2 or values.shape[1] != self.width:
            shape = "x".join(map(str, values.shape))
            raise VidarError(
                f"{where}: actions have shape {shape}, expected T x {self.width} ({', '.join(self.names)})"
            )
        if not np.issubdtype(values.dtype, np.number):
            raise VidarError(f"{where}: actions have dtype {values.dtype}, expected numbers")
        values = values.astype(np.float32)
        illegal = self.first_illegal(values)
        if illegal is not None:
            row, name, problem = illegal
            raise VidarError(f"{where}: action {name!r} row {row} {problem}")
        return values

    def first_illegal(self, values: np.ndarray) -> tuple[int, str, str] | None:
        """An illegal value of a float32 array [T, A] as (row, column name, problem); None if every value is legal."""
        for column, action in enumerate(self.actions):
            v = values[:, column]
            good = np.isfinite(v) & (v >= action.lowest) & (v <= action.highest)
            if action.kind != "continuous":
                good &= v == np.round(v)
            if not good.all():
                row = int(np.argmin(good))
                legal = f"{action.lowest:g}..{action.highest:g}" + ("" if action.kind == "continuous" else " whole")
                return row, action.name, f"is {v[row]:g}, legal is {legal}"
        return None

    def space(self) -> Any:
        """The gymnasium space: MultiBinary, MultiDiscrete or, if a column is continuous, Box."""
        from gymnasium import spaces

        if any(action.kind == "continuous" for action in self.actions):
            low = np.array([a.lowest for a in self.actions], dtype=np.float32)
            high = np.array([a.highest for a in self.actions], dtype=np.float32)
            return spaces.Box(low, high, dtype=np.float32)
        if all(action.kind == "binary" for action in self.actions):
            return spaces.MultiBinary(self.width)
        return spaces.MultiDiscrete([int(a.highest) + 1 for a in self.actions])


def mu_law_bins(degrees: np.ndarray, size: int, limit: float = 20.0, mu: float = 10.0) -> np.ndarray:
    """Camera angles in degrees, float [..] -> mu-law bins, int [..] in 0 .. size-1 (VPT: limit 20, mu 10, 11 bins)."""
    v = np.clip(np.asarray(degrees, dtype=np.float64) / limit, -1, 1)
    squashed = np.sign(v) * np.log1p(mu * np.abs(v)) / np.log1p(mu)
    return np.round((squashed + 1) / 2 * (size - 1)).astype(np.int64)


def mu_law_degrees(bins: np.ndarray, size: int, limit: float = 20.0, mu: float = 10.0) -> np.ndarray:
    """Mu-law bins 0 .. size-1 -> camera angles in degrees, the middle of each bin: the inverse of `mu_law_bins`."""
    v = 2 * np.asarray(bins, dtype=np.float64) / (size - 1) - 1
    return np.sign(v) * np.expm1(np.abs(v) * np.log1p(mu)) / mu * limit
