"""Environments with the methods of gym before 0.26, seen through the methods of gymnasium.

Before 0.26, `reset()` takes no seed and returns the observation alone, `step` returns 4 values, and `render` takes the
mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.utils import seeding

from vidar.types import VidarError


class CurrentApi(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes old and current methods alike, and refuses other results in one line."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """(observation, info). Where `reset` takes no seed, the method `seed`, or else `np_random`, gets it."""
        inner: Any = self.env
        given: dict[str, Any] = {}
        if _takes(inner.reset, "seed"):
            given["seed"] = seed
        elif callable(getattr(inner, "seed", None)):
            inner.seed(seed)
        elif seed is not None:
            inner.unwrapped.np_random = seeding.np_random(seed)[0]
        if options is not None and _takes(inner.reset, "options"):
            given["options"] = options
        result = inner.reset(**given)
        if isinstance(result, tuple) and len(result) == 2 and (result[1] is None or isinstance(result[1], Mapping)):
            return result[0], dict(result[1] or {})
        return result, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """(observation, reward, terminated, truncated, info); of 4 values, an info "TimeLimit.truncated" counts."""
        result: Any = self.env.step(action)
        values = tuple(result) if isinstance(result, tuple | list) else (result,)
        if len(values) == 4:
            observation, reward, done, info = values
            known = info if isinstance(info, Mapping) else {}
            cut = bool(done) and bool(known.get("TimeLimit.truncated", False))
            return observation, reward, bool(done) and not cut, cut, dict(known)
        if len(values) != 5:
            raise VidarError(
                f"step returns {len(values)} value(s), expected (observation, reward, terminated, truncated, info)"
            )
        observation, reward, terminated, truncated, info = values
        return observation, reward, bool(terminated), bool(truncated), info or {}

    def render(self) -> Any:
        """What the environment renders, as an array where the method asks for a mode."""
        draw: Any = self.env.render
        return draw(mode="rgb_array") if _takes(draw, "mode", itself=True) else draw()


def with_current_api(env: gymnasium.Env[Any, Any], ours: bool) -> gymnasium.Env[Any, Any]:
    """An environment seen through CurrentApi. ours: it may be changed, so that its wrappers see CurrentApi too."""
    if not ours or not isinstance(env, gymnasium.Wrapper):
        return CurrentApi(env)
    inner: gymnasium.Wrapper[Any, Any, Any, Any] = env
    while isinstance(inner.env, gymnasium.Wrapper):
        inner = inner.env
    inner.env = CurrentApi(inner.env)
    return env


def _takes(call: Callable[..., Any], name: str, itself: bool = False) -> bool:
    """Whether a call has a parameter of this name, or, unless `itself`, takes any."""
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):  # a built-in function without a signature
        return not itself
    return name in parameters or (not itself and any(one.kind == one.VAR_KEYWORD for one in parameters.values()))
