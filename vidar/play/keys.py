"""Keys, mouse and what they press: browser key codes and motion -> one action row of an ActionSpec."""

from __future__ import annotations

import math

import numpy as np

from vidar.actions import ActionSpec, mu_law_bins

DEGREES_PER_PIXEL = 0.15  # VPT: 360 / 2400
NAMED = {
    " ": "Space",
    "space": "Space",
    "shift": "ShiftLeft",
    "ctrl": "ControlLeft",
    "control": "ControlLeft",
    "enter": "Enter",
    "tab": "Tab",
    "[": "BracketLeft",
    "]": "BracketRight",
}


def code_of(key: str) -> str:
    """A key of an ActionSpec as the browser's KeyboardEvent.code, the same on every layout: "a" -> "KeyA"."""
    if len(key) == 1 and key.isalpha():
        return f"Key{key.upper()}"
    if len(key) == 1 and key.isdigit():
        return f"Digit{key}"
    return NAMED.get(key.lower(), key)


class Keys:
    """The keys of an ActionSpec in a fixed order, and what a set of them presses.

    codes: browser codes, bit i of a mask is codes[i]. Mouse motion in pixels turns camera and continuous columns: those
    whose name says pitch, vertical or y take dy, the others dx. Choice: of two keys of one choice the later one in the
    spec wins; continuous columns move by DEGREES_PER_PIXEL.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec
        table: dict[str, list[tuple[int, float]]] = {}
        for column, action in enumerate(spec.actions):
            for value, key in enumerate(action.keys):
                worth = 1.0 if action.kind == "binary" else float(value)
                table.setdefault(code_of(key), []).append((column, worth))
        self.codes = tuple(table)
        self._presses = tuple(tuple(presses) for presses in table.values())

    def row(self, mask: int, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
        """Held keys and the motion since the last row -> float32 [A], always legal."""
        row = self.spec.noop()
        for bit, presses in enumerate(self._presses):
            if mask >> bit & 1:
                for column, value in presses:
                    row[column] = value
        for column, action in enumerate(self.spec.actions):
            moved = dy if _vertical(action.name) else dx
            if not moved or not math.isfinite(moved):
                continue
            if action.kind == "camera":
                row[column] = float(mu_law_bins(np.array(moved * DEGREES_PER_PIXEL), action.size))
            elif action.kind == "continuous":
                row[column] = float(np.clip(row[column] + moved * DEGREES_PER_PIXEL, action.low, action.high))
        return row


class InputState:
    """What one player holds: the latest keys, and the sum of the mouse motion that no frame has used yet.

    echo: of the newest input. Not safe between threads by itself; a slot asks under its engine's lock.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.echo = 0
        self._row: np.ndarray | None = keys.spec.noop()
        self._mask, self._dx, self._dy = 0, 0.0, 0.0

    def press(self, row: np.ndarray, echo: int) -> None:
        """A row as it is, in the place of keys and motion. Raises VidarError where it is not legal."""
        self._row = self.keys.spec.validate_actions(np.asarray(row)[None], "keys")[0]
        self._dx, self._dy, self.echo = 0.0, 0.0, echo

    def hold(self, mask: int, dx: float, dy: float, echo: int) -> None:
        """Keys held from now on, and motion since the last call."""
        self._row, self._mask, self.echo = None, mask, echo
        self._dx, self._dy = self._dx + dx, self._dy + dy

    def row(self) -> np.ndarray:
        """The action of the next frame, float32 [A]."""
        return self._row if self._row is not None else self.keys.row(self._mask, self._dx, self._dy)

    def used(self) -> None:
        """A frame has taken the motion."""
        self._dx, self._dy = 0.0, 0.0


def _vertical(name: str) -> bool:
    lowered = name.lower()
    return any(word in lowered for word in ("pitch", "vertical", "look_up", "look_down")) or lowered.endswith("_y")
