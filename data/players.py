"""What people do with a world, as tables of actions: the players of the ruler, and of recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.actions import ActionSpec
from vidar.rng import Rng
from vidar.types import UsageError

Table = np.ndarray  # float32 [T, A]
Player = Callable[[int, int], Table]  # (frames, number of the start) -> table
OPPOSITE = {"LEFT": "RIGHT", "RIGHT": "LEFT", "FORWARD": "BACKWARD", "BACKWARD": "FORWARD", "UP": "DOWN", "DOWN": "UP"}
TAP = (2, 6)  # frames down, frames up
WALK = 2  # seconds of a walk before it turns about
MASH = 0.3  # probability that a key is down in a frame


@dataclass(frozen=True)
class Key:
    """A key that a player holds: its name, its column, and the value of the column while it is down."""

    name: str
    column: int
    value: float = 1.0


def keys_of(spec: ActionSpec) -> list[Key]:
    """The keys of binary actions, and one for each value of a choice that is not its rest.

    A value is named by its key, as in `move ArrowLeft`, or by its number. Raises UsageError if there is none.
    """
    found: list[Key] = []
    for column, action in enumerate(spec.actions):
        if action.kind == "binary":
            found.append(Key(action.name, column))
        elif action.kind == "choice":
            names = [*action.keys, *map(str, range(len(action.keys), action.size))]
            values = (value for value in range(action.size) if value != action.noop)
            found += [Key(f"{action.name} {names[value]}", column, float(value)) for value in values]
    if not found:
        names = ", ".join(spec.names)
        raise UsageError(f"no action with keys (binary, or a choice) among {names}; the suite world needs none")
    return found


def players(spec: ActionSpec, fps: float, turn: int | None = None) -> Mapping[str, Player]:
    """The players by name. turn: frames of a full turn with the key held, if known (default: 3 seconds).

    idle; each key held; two keys held; each turn or move and back ("around" for turns); a walk there and back; tapping;
    mashing. Raises UsageError for a world that is not played with keys.
    """
    keys = {key.name: key for key in keys_of(spec)}
    names = list(keys)
    found: dict[str, Player] = {"idle": lambda frames, start: _rest(spec, frames)}
    for key in keys.values():
        found[f"hold {key.name}"] = _held(spec, key)
    ahead, turning = next(filter(_moves, names), None), next((name for name in names if "TURN" in name.upper()), None)
    unturning = None if turning is None else opposite(turning, names)
    other = next((b for b in names if ahead is not None and _together(keys[ahead], keys[b], names)), None)
    if ahead is not None and other is not None:
        found[f"hold {ahead} {other}"] = _held(spec, keys[ahead], keys[other])
    for name, key in keys.items():
        back = opposite(name, names)
        if back is not None and names.index(name) < names.index(back):
            around = "TURN" in name.upper()
            length = round(turn if around and turn is not None else 3 * fps)
            found[f"{name} and back"] = _there_and_back(spec, key, keys[back], length)
    if ahead is not None and turning is not None and unturning is not None and turn is not None:
        about = keys[turning], keys[unturning]
        found["walk and return"] = _walk(spec, keys[ahead], about, round(WALK * fps), turn // 2)
    found[f"tap {names[0]}"] = _tapping(spec, keys[names[0]])
    found["mash"] = _mashing(spec, list(keys.values()))
    return found


def opposite(key: str, keys: list[str]) -> str | None:
    """The key that undoes another, by its name: TURN_LEFT and TURN_RIGHT, left and right; None if there is none."""
    for word, other in OPPOSITE.items():
        name = key.upper().replace(word, other)
        if name != key.upper() and name in [k.upper() for k in keys]:
            return next(k for k in keys if k.upper() == name)
    return None


def forward(spec: ActionSpec) -> str:
    """The name of the key that moves ahead, or of the first one."""
    names = [key.name for key in keys_of(spec)]
    return next(filter(_moves, names), names[0])


def _moves(key: str) -> bool:
    return any(word in key.upper() for word in ("FORWARD", "UP"))


def _together(a: Key, b: Key, names: list[str]) -> bool:
    """Whether two keys can be held at once without undoing one another."""
    return a.column != b.column and b.name != opposite(a.name, names)


def _rest(spec: ActionSpec, frames: int) -> Table:
    return np.repeat(spec.noop()[None], frames, axis=0)


def _held(spec: ActionSpec, *keys: Key) -> Player:
    def table(frames: int, start: int) -> Table:
        rows = _rest(spec, frames)
        for key in keys:
            rows[:, key.column] = key.value
        return rows

    return table


def _there_and_back(spec: ActionSpec, key: Key, back: Key, length: int) -> Player:
    def table(frames: int, start: int) -> Table:
        rows, away = _rest(spec, frames), np.arange(frames) // length % 2 == 0
        rows[away, key.column] = key.value
        rows[~away, back.column] = back.value
        return rows

    return table


def _walk(spec: ActionSpec, ahead: Key, turning: tuple[Key, Key], length: int, about: int) -> Player:
    """Ahead for `length` frames, an about turn of `about` frames, ahead, the about turn undone, again and again.

    Half a turn is seldom a whole number of frames; a turn that is undone leads back to the same view all the same.
    """

    def table(frames: int, start: int) -> Table:
        rows, number = _rest(spec, frames), np.arange(frames)
        leg, phase = number // (length + about), number % (length + about)
        rows[phase < length, ahead.column] = ahead.value
        for key, odd in zip(turning, (0, 1)):
            rows[(phase >= length) & (leg % 2 == odd), key.column] = key.value
        return rows

    return table


def _tapping(spec: ActionSpec, key: Key) -> Player:
    def table(frames: int, start: int) -> Table:
        rows, down = _rest(spec, frames), np.arange(frames) % sum(TAP) < TAP[0]
        rows[down, key.column] = key.value
        return rows

    return table


def _mashing(spec: ActionSpec, keys: list[Key]) -> Player:
    def table(frames: int, start: int) -> Table:
        rows = _rest(spec, frames)
        down = Rng(start).uniform("policy", shape=(frames, len(keys))).numpy() < MASH
        for number, key in enumerate(keys):
            rows[down[:, number], key.column] = key.value
        return rows

    return table


def recorded(spec: ActionSpec, tables: Sequence[Table]) -> Player:
    """The table of each start, and rest after its end."""

    def table(frames: int, start: int) -> Table:
        rows, given = _rest(spec, frames), tables[start][:frames]
        rows[: len(given)] = given
        return rows

    return table
