"""Action spaces of gymnasium as the columns of an ActionSpec.

Discrete and MultiDiscrete become choices that count from 0, MultiBinary becomes buttons, a bounded Box becomes
continuous columns in its own units; the parts of Tuple and Dict follow one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from vidar.actions import Action, ActionSpec
from vidar.types import VidarError

EXACT = 1 << 24  # whole numbers up to this are exact in float32


def action_columns(space: spaces.Space[Any], name: str) -> tuple[ActionSpec, Callable[[np.ndarray], Any]]:
    """An action space as columns, and the inverse: row float32 [A] -> action of the kind that `space.sample()` gives.

    The inverse rounds and clips values of a Box to what the space holds. Raises VidarError for other spaces.
    """
    columns = _columns(space, "", name)
    return ActionSpec(actions=tuple(columns)), lambda row: _action(space, iter(np.asarray(row, np.float64).tolist()))


def action_row(space: spaces.Space[Any], action: Any) -> np.ndarray:
    """The columns of an action of the space: float32 [A], a new array."""
    if isinstance(space, spaces.Dict):
        parts = [action_row(part, action[key]) for key, part in space.spaces.items()]
        return np.concatenate([np.zeros(0, np.float32), *parts])
    if isinstance(space, spaces.Tuple):
        parts = [action_row(part, one) for part, one in zip(space.spaces, action, strict=True)]
        return np.concatenate([np.zeros(0, np.float32), *parts])
    values = np.asarray(action, np.float64)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        values = values - space.start
    flat = values.reshape(-1)
    return (flat[_moving(space)] if isinstance(space, spaces.Box) else flat).astype(np.float32)


def _columns(space: spaces.Space[Any], path: str, name: str) -> list[Action]:
    """path: the place within Tuple and Dict, "" for the whole space."""
    inner = f"{path}_" if path else ""
    if isinstance(space, spaces.Dict):
        return [one for key, part in space.spaces.items() for one in _columns(part, f"{inner}{key}", name)]
    if isinstance(space, spaces.Tuple):
        return [one for i, part in enumerate(space.spaces) for one in _columns(part, f"{inner}part_{i}", name)]
    if isinstance(space, spaces.Discrete):
        return [Action(name=path or "action", kind="choice", size=int(space.n))]
    if isinstance(space, spaces.MultiBinary):
        return [Action(name=f"{path or 'button'}_{i}") for i in range(int(np.prod(space.shape)))]
    if isinstance(space, spaces.MultiDiscrete):
        sizes = enumerate(space.nvec.reshape(-1).tolist())
        return [Action(name=f"{path or 'choice'}_{i}", kind="choice", size=size) for i, size in sizes]
    if isinstance(space, spaces.Box) and _representable(space):
        low, high = (bound.reshape(-1).astype(np.float64).tolist() for bound in (space.low, space.high))
        return [
            Action(
                name=f"{path or 'axis'}_{i}",
                kind="continuous",
                low=low[i],
                high=high[i],
                noop=min(max(0.0, low[i]), high[i]),
            )
            for i in np.flatnonzero(_moving(space)).tolist()
        ]
    at = f" (part {path!r})" if path else ""
    known = "Discrete, MultiBinary, MultiDiscrete, a bounded Box, or Tuple and Dict of them"
    raise VidarError(f"{name}: action space {space}{at} cannot be recorded; wrap it into {known}".replace("\n", " "))


def _action(space: spaces.Space[Any], values: Any) -> Any:
    """The action whose columns are the next values of an iterator."""
    if isinstance(space, spaces.Dict):
        return {key: _action(part, values) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_action(part, values) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(int(next(values)) + int(space.start))
    if isinstance(space, spaces.Box):
        flat, moving = space.low.reshape(-1).copy(), _moving(space)
        wanted = np.array([next(values) for _ in range(int(moving.sum()))])
        wanted = np.rint(wanted) if np.issubdtype(space.dtype, np.integer) else wanted
        low, high = (bound.reshape(-1)[moving] for bound in (space.low, space.high))
        flat[moving] = np.clip(np.clip(wanted, low, high).astype(space.dtype), low, high)
        return flat.reshape(space.shape)
    assert isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete)
    flat = np.array([next(values) for _ in range(int(np.prod(space.shape)))]).astype(space.dtype).reshape(space.shape)
    return flat + space.start.astype(space.dtype) if isinstance(space, spaces.MultiDiscrete) else flat


def _moving(space: spaces.Box) -> np.ndarray:
    """Which of the flat entries can take more than one value, bool [n]; the others have no column."""
    return (space.low < space.high).reshape(-1)


def _representable(space: spaces.Box) -> bool:
    """Whether the bounds are finite, and float32 holds every value between them closely enough."""
    limit = EXACT if np.issubdtype(space.dtype, np.integer) else np.finfo(np.float32).max / 2
    return space.is_bounded() and bool(np.all(np.abs(np.stack([space.low, space.high]).astype(np.float64)) <= limit))
