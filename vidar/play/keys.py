"""Keys and mouse: the keys held and the motion of the mouse -> one action row of an ActionSpec."""

from __future__ import annotations

import math

import numpy as np

from vidar.actions import DEGREES_PER_PIXEL, Action, ActionSpec, mu_law_bins
from vidar.play.key_codes import code_of, is_known

MOST = 32  # keys of a world: the bits of a mask
FREE = (*(f"Digit{n}" for n in range(10)), *(f"Key{letter}" for letter in "QWETYUIOASDGHJKLZXCVBM"))


def with_keys(spec: ActionSpec) -> ActionSpec:
    """The spec with keys for every button and choice that names none, such as those of a recorded gymnasium game.

    The values of the first choice get the keys 0, 1, 2, ... Choice: after the digits come letters that the page does
    not use for itself. An action with more values than keys are left gets none.
    """
    used = {code_of(key) for action in spec.actions for key in action.keys}
    free, made = [code for code in FREE if code not in used][: max(0, MOST - len(used))], list[Action]()
    for action in spec.actions:
        count = 1 if action.kind == "binary" else action.size if action.kind == "choice" else 0
        if not any(action.keys) and count <= len(free):
            action, free = action.replace(keys=tuple(free[:count])), free[count:]
        made.append(action)
    return ActionSpec(actions=tuple(made))


class Keys:
    """The keys of an ActionSpec in a fixed order, and the actions that a set of them presses.

    codes: KeyboardEvent.code of each key; bit i of a mask is codes[i]. Buttons and choices that name no key get free
    ones (`with_keys`). Mouse motion in pixels turns camera and continuous columns by DEGREES_PER_PIXEL, along
    `Action.mouse_axis`. Where two keys of one choice are held, the later one in the spec wins.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec = with_keys(spec)
        table: dict[str, list[tuple[int, float]]] = {}
        for column, action in enumerate(spec.actions):
            for value, key in enumerate(action.keys):
                worth = 1.0 if action.kind == "binary" else float(value)
                if key:  # a value of a choice may have none
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
            if action.kind not in ("camera", "continuous"):
                continue
            degrees = (dy if action.mouse_axis == "y" else dx) * DEGREES_PER_PIXEL
            if not degrees or not math.isfinite(degrees):
                continue
            if action.kind == "camera":
                row[column] = float(mu_law_bins(np.array(degrees), action.size))
            else:
                row[column] = float(np.clip(row[column] + degrees, action.low, action.high))
        return row

    def unused(self, dx: float, dy: float) -> tuple[float, float]:
        """The part of a motion that is too small to leave the middle bin of a camera, and turns nothing else."""
        row, rest = self.row(0, dx, dy), self.spec.noop()
        small: set[str] = set()
        turned: set[str] = set()
        for column, action in enumerate(self.spec.actions):
            if action.kind in ("camera", "continuous"):
                waits = action.kind == "camera" and row[column] == rest[column]
                (small if waits else turned).add(action.mouse_axis)
        kept = small - turned
        return (dx if "x" in kept else 0.0), (dy if "y" in kept else 0.0)

    def names(self) -> list[dict[str, str]]:
        """Of each key, in the order of `codes`: its code, and the names of the actions it presses."""
        pressed: dict[str, list[str]] = {code: [] for code in self.codes}
        for action in self.spec.actions:
            for value, key in enumerate(action.keys):
                if key:
                    name = action.name if action.kind == "binary" else f"{action.name} {value}"
                    pressed[code_of(key)].append(name)
        return [{"code": code, "action": ", ".join(names)} for code, names in pressed.items()]

    def unknown(self) -> list[str]:
        """Keys of the spec that no keyboard or mouse has."""
        return [code for code in self.codes if not is_known(code)]


class InputState:
    """The input of one player: the keys held now, and the sum of the mouse motion that no frame has used yet.

    echo: number of the newest input. Not safe between threads by itself; a slot uses it under its engine's lock.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.echo = 0
        self._row: np.ndarray | None = keys.spec.noop()
        self._mask, self._dx, self._dy = 0, 0.0, 0.0

    @property
    def holding(self) -> bool:
        """Whether a key is held."""
        return self._row is None and self._mask > 0

    def press(self, row: np.ndarray, echo: int) -> None:
        """Use this row until the next call, in place of keys and motion. Raises VidarError if it is not legal."""
        self._row = self.keys.spec.validate_actions(np.asarray(row)[None], "keys")[0]
        self._mask, self._dx, self._dy, self.echo = 0, 0.0, 0.0, echo

    def hold(self, mask: int, dx: float, dy: float, echo: int) -> None:
        """Keys held from now on, and the motion since the last call."""
        self._row, self._mask, self.echo = None, mask & (1 << len(self.keys.codes)) - 1, echo
        self._dx, self._dy = self._dx + dx, self._dy + dy

    def row(self) -> np.ndarray:
        """The action of the next frame, float32 [A]."""
        return self._row if self._row is not None else self.keys.row(self._mask, self._dx, self._dy)

    def used(self) -> None:
        """A frame has used the motion; slow motion of a camera is kept until it fills a bin."""
        self._dx, self._dy = self.keys.unused(self._dx, self._dy)

    def drop_motion(self) -> None:
        """Forget the motion that no frame has used."""
        self._dx, self._dy = 0.0, 0.0
