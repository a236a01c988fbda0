"""Players of the ruler: what people do with a world, as tables of actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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


def players(spec: ActionSpec, fps: float, turn: int | None = None) -> Mapping[str, Player]:
    """The players by name. turn: frames of a full turn with the key held, if known (default: 3 seconds).

    idle; each key held; two keys held; each turn or move and back ("around" for turns); a walk there and back; tapping;
    mashing. Raises UsageError for a world that is not played with keys.
    """
    keys = key_names(spec)
    found: dict[str, Player] = {"idle": lambda frames, start: _rest(spec, frames)}
    for key in keys:
        found[f"hold {key}"] = _held(spec, key)
    pair = next(((a, b) for a in keys for b in keys if a != b and b != opposite(a, keys) and _moves(a)), None)
    if pair is not None:
        found[f"hold {pair[0]} {pair[1]}"] = _held(spec, *pair)
    for key in keys:
        back = opposite(key, keys)
        if back is not None and keys.index(key) < keys.index(back):
            around = "TURN" in key.upper()
            length = round(turn if around and turn is not None else 3 * fps)
            found[f"{key} and back"] = _there_and_back(spec, key, back, length)
    ahead, turning = next(filter(_moves, keys), None), next((key for key in keys if "TURN" in key.upper()), None)
    if ahead is not None and turning is not None and turn is not None:
        found["walk and return"] = _walk(spec, ahead, turning, round(WALK * fps), turn // 2)
    found[f"tap {keys[0]}"] = _tapping(spec, keys[0])
    found["mash"] = _mashing(spec, keys)
    return found


def key_names(spec: ActionSpec) -> list[str]:
    """The actions that are keys. Raises UsageError if there is none."""
    keys = [action.name for action in spec.actions if action.kind == "binary"]
    if not keys:
        raise UsageError("the ruler plays with keys, but this world has none; use the suite world")
    return keys


def opposite(key: str, keys: list[str]) -> str | None:
    """The key that undoes another, by its name: TURN_LEFT and TURN_RIGHT, left and right; None if there is none."""
    for word, other in OPPOSITE.items():
        name = key.upper().replace(word, other)
        if name != key.upper() and name in [k.upper() for k in keys]:
            return next(k for k in keys if k.upper() == name)
    return None


def _moves(key: str) -> bool:
    return any(word in key.upper() for word in ("FORWARD", "UP"))


def _rest(spec: ActionSpec, frames: int) -> Table:
    return np.repeat(spec.noop()[None], frames, axis=0)


def _held(spec: ActionSpec, *keys: str) -> Player:
    def table(frames: int, start: int) -> Table:
        rows = _rest(spec, frames)
        rows[:, [spec.names.index(key) for key in keys]] = 1
        return rows

    return table


def _there_and_back(spec: ActionSpec, key: str, back: str, length: int) -> Player:
    def table(frames: int, start: int) -> Table:
        rows, away = _rest(spec, frames), np.arange(frames) // length % 2 == 0
        rows[away, spec.names.index(key)] = 1
        rows[~away, spec.names.index(back)] = 1
        return rows

    return table


def _walk(spec: ActionSpec, ahead: str, turning: str, length: int, about: int) -> Player:
    """Ahead for `length` frames, then an about turn of `about` frames, again and again: a way there and back."""

    def table(frames: int, start: int) -> Table:
        rows, phase = _rest(spec, frames), np.arange(frames) % (length + about)
        rows[phase < length, spec.names.index(ahead)] = 1
        rows[phase >= length, spec.names.index(turning)] = 1
        return rows

    return table


def recorded(spec: ActionSpec, tables: Sequence[Table]) -> Player:
    """The table of each start, and rest after its end."""

    def table(frames: int, start: int) -> Table:
        rows, given = _rest(spec, frames), tables[start][:frames]
        rows[: len(given)] = given
        return rows

    return table


def _tapping(spec: ActionSpec, key: str) -> Player:
    def table(frames: int, start: int) -> Table:
        rows, down = _rest(spec, frames), np.arange(frames) % sum(TAP) < TAP[0]
        rows[down, spec.names.index(key)] = 1
        return rows

    return table


def _mashing(spec: ActionSpec, keys: list[str]) -> Player:
    columns = [spec.names.index(key) for key in keys]

    def table(frames: int, start: int) -> Table:
        rows = _rest(spec, frames)
        rows[:, columns] = Rng(start).uniform("policy", shape=(frames, len(columns))).numpy() < MASH
        return rows

    return table
