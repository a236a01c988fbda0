"""Any gymnasium environment as a source of episodes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image
from pydantic import Field

from vidar.actions import Action, ActionSpec
from vidar.config import Config
from vidar.data.episode import Episode, ending
from vidar.data.explore import ActionPolicy, HoldPolicyConfig, View
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

DEFAULT_FPS = 10.0  # Choice: for an environment whose metadata names no render_fps


class GymConfig(Config):
    """A registered environment. height and width are given together or not at all (the environment's own size)."""

    env_id: str
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    frames: int = Field(default=300, ge=2)  # maximum; an episode may end earlier

    def build(self) -> GymRecorder:
        """Make the environment. Raises UsageError for an unknown id."""
        return GymRecorder(self.env_id, self.height, self.width, self.frames)


class GymRecorder:
    """Records an environment, given by id or as an object (with render_mode="rgb_array" unless it observes images)."""

    def __init__(
        self,
        env: str | gymnasium.Env,
        height: int | None = None,
        width: int | None = None,
        frames: int = 300,
    ) -> None:
        if (height is None) != (width is None):
            raise UsageError("give both height and width, or neither")
        self.env = make(env) if isinstance(env, str) else env
        name = env if isinstance(env, str) else (env.spec.id if env.spec else type(env.unwrapped).__name__)
        self.source = f"gym:{name}"
        self.name = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
        self.size = None if height is None or width is None else (width, height)
        self.frames = frames
        self.spec, self.to_env = action_columns(self.env.action_space, name)
        self.fps = float(self.env.metadata.get("render_fps") or DEFAULT_FPS)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def episode(self, seed: int, policy: ActionPolicy | None = None) -> Episode:
        """One episode from `reset(seed=seed)`, by default with random held actions.

        Raises VidarError if there is no image.
        """
        policy = policy or HoldPolicyConfig().build()
        policy.start(self.spec, Rng(seed))
        observation, _ = self.env.reset(seed=seed)
        frames, rows, rewards = [self._frame(observation)], [np.zeros(self.spec.width, np.float32)], [0.0]
        ended = over = False
        while len(frames) < self.frames and not over:
            row = np.asarray(policy(View(frames[-1])), dtype=np.float32)
            observation, reward, terminated, truncated, _ = self.env.step(self.to_env(row))
            ended, over = bool(terminated), bool(terminated or truncated)
            frames.append(self._frame(observation))
            rows.append(row)
            rewards.append(float(reward))
        return Episode(
            frames=np.stack(frames),
            actions=np.stack(rows),
            fps=self.fps,
            spec=self.spec,
            name=f"{self.name}-{seed:09d}",
            source=self.source,
            extras={"rewards": np.array(rewards, np.float32), "ended": ending(len(frames), ended)},
            meta={"seed": seed},
        )

    def _frame(self, observation: Any) -> np.ndarray:
        """The observation if it is a colour image, else the rendered image: uint8 [H, W, 3]."""
        try:
            picture = observation if is_picture(observation) else self.env.render()
        except NotImplementedError:  # raised by an environment without images
            picture = None
        found = picture if is_picture(picture) else None
        if found is None:
            remedy = "make it with render_mode='rgb_array'"
            raise VidarError(f"{self.source}: neither observes nor renders colour images; {remedy}")
        if self.size is not None and found.shape[:2] != self.size[::-1]:
            found = np.asarray(Image.fromarray(found).resize(self.size, Image.Resampling.BOX))
        return np.array(found)  # a copy, because some environments reuse their buffer


def is_picture(value: Any) -> TypeGuard[np.ndarray]:
    """Whether a value is an array uint8 [H, W, 3]."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def make(env_id: str) -> gymnasium.Env:
    """gymnasium.make with one-line errors. Raises UsageError with near matches for an unknown id."""
    try:
        return gymnasium.make(env_id, render_mode="rgb_array")
    except (gymnasium.error.UnregisteredEnv, ModuleNotFoundError) as error:
        names = sorted(gymnasium.registry)
        near = difflib.get_close_matches(env_id, names, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"{len(names)} are registered; write module:ID for others"
        )
        raise UsageError(f"gymnasium has no environment {env_id!r}; {hint}") from error
    except gymnasium.error.Error as error:
        raise VidarError(f"{env_id}: {str(error).splitlines()[0]}") from error


def action_columns(space: spaces.Space[Any], name: str) -> tuple[ActionSpec, Callable[[np.ndarray], Any]]:
    """An action space as columns, and the inverse: row float32 [A] -> action. Raises VidarError for other spaces."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        columns = (Action(name="action", kind="choice", size=int(space.n)),)
        return ActionSpec(actions=columns), lambda row: int(row[0]) + start
    if isinstance(space, spaces.MultiBinary):
        shape = space.shape
        columns = tuple(Action(name=f"button_{i}") for i in range(int(np.prod(shape))))
        return ActionSpec(actions=columns), lambda row: row.astype(np.int8).reshape(shape)
    if isinstance(space, spaces.MultiDiscrete):
        shape, dtype, starts = space.shape, space.dtype, np.asarray(space.start)
        columns = tuple(
            Action(name=f"choice_{i}", kind="choice", size=int(n)) for i, n in enumerate(space.nvec.reshape(-1))
        )
        return ActionSpec(actions=columns), lambda row: row.reshape(shape).astype(dtype) + starts.astype(dtype)
    if isinstance(space, spaces.Box) and space.is_bounded():
        shape, dtype = space.shape, space.dtype
        low, high = (v.reshape(-1).astype(np.float64) for v in (space.low, space.high))
        columns = tuple(
            Action(name=f"axis_{i}", kind="continuous", low=a, high=b, noop=min(max(0.0, a), b))
            for i, (a, b) in enumerate(zip(low.tolist(), high.tolist()))
        )
        return ActionSpec(actions=columns), lambda row: np.clip(row, low, high).astype(dtype).reshape(shape)
    known = "Discrete, MultiBinary, MultiDiscrete or a bounded Box"
    raise VidarError(f"{name}: action space {space} cannot be recorded; wrap it into {known}")
