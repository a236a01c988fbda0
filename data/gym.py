"""Any gymnasium environment as a source of episodes."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from pydantic import Field

from vidar.config import Config
from vidar.data.episode import Episode, ending
from vidar.data.explore import ActionPolicy, HoldPolicyConfig, View
from vidar.data.gym_actions import action_columns, action_row
from vidar.data.gym_api import with_current_api
from vidar.data.gym_make import first_line, make
from vidar.data.gym_picture import NotAPicture, Screen
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

DEFAULT_FPS = 10.0  # Choice: for an environment whose metadata names no frame rate
SITE = 16  # pixels; the shipped recipes take heights and widths that are multiples of it
PIXELS = 64 * 96  # of a frame; Choice: about what the shipped recipes train on
KEPT = 128 * 128  # pixels; a picture of at most this many is not made smaller if it fits the recipes


class GymConfig(Config):
    """A registered environment.

    height and width are given together or not at all; by default frames have a size that the shipped recipes train on
    (`trainable_size`). picture: see `Screen`.
    """

    env_id: str
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    frames: int = Field(default=300, ge=2)  # maximum; an episode may end earlier
    picture: str | None = None
    fps: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # default: as its metadata say

    def build(self) -> GymRecorder:
        """Make the environment. Raises UsageError for an unknown id, VidarError for one that cannot be made."""
        return GymRecorder(self.env_id, self.height, self.width, self.frames, self.picture, self.fps)


class GymRecorder:
    """Records an environment, given by id or as an object (with render_mode="rgb_array" unless it observes images).

    An object keeps the size of its own pictures if no height and width are given; one made by its id gets
    `trainable_size`. picture: see `Screen`.
    """

    def __init__(
        self,
        env: str | gymnasium.Env[Any, Any],
        height: int | None = None,
        width: int | None = None,
        frames: int = 300,
        picture: str | None = None,
        fps: float | None = None,
    ) -> None:
        if (height is None) != (width is None):
            raise UsageError("give both height and width, or neither")
        given = env
        self.env = make(given) if isinstance(given, str) else with_current_api(given, ours=False)
        name = given if isinstance(given, str) else (given.spec.id if given.spec else type(given.unwrapped).__name__)
        self.source = f"gym:{name}"
        self.name = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[-64:]
        self.size = None if height is None or width is None else (height, width)
        self.fitted = isinstance(given, str) and self.size is None
        self.frames = frames
        self.screen = Screen(self.env, picture)
        self.seen = (0, 0)  # height and width of the environment's own picture
        with self._calls("its action_space"):
            self.space = self.env.action_space
        self.spec, self.to_env = action_columns(self.space, name)
        self.fps = fps or frame_rate(getattr(self.env, "metadata", None))

    def close(self) -> None:
        """Close the environment."""
        with self._calls("close"):
            self.env.close()

    def facts(self) -> dict[str, Any]:
        """Where the pictures come from, their height and width there and in the recording, and frames per second."""
        return {
            "picture": self.screen.origin,
            "picture_size": list(self.seen),
            "frame_size": list(self.size or self.seen),
            "frame_rate": self.fps,
        }

    def episode(self, seed: int, policy: ActionPolicy | None = None) -> Episode:
        """One episode from `reset(seed=seed)`, by default with random held actions.

        A row of actions holds what the environment got: rounded and clipped to its action space. Raises VidarError
        naming environment, seed and step if there is no picture or the environment raises.
        """
        policy = policy or HoldPolicyConfig().build()
        policy.start(self.spec, Rng(seed))
        with self._calls("reset", seed):
            observation, _ = self.env.reset(seed=seed)
        frames = [self._frame(observation, seed, 0)]
        rows, rewards = [np.zeros(self.spec.width, np.float32)], [0.0]
        ended = over = False
        while len(frames) < self.frames and not over:
            step = len(frames)
            row, action = self._act(policy(View(frames[-1].copy())), seed, step)
            with self._calls("step", seed, step):
                observation, reward, terminated, truncated, _ = self.env.step(action)
                rewards.append(number(reward))
            ended, over = bool(terminated), bool(terminated or truncated)
            frames.append(self._frame(observation, seed, step))
            rows.append(row)
        return Episode(
            frames=np.stack(frames),
            actions=np.stack(rows),
            fps=self.fps,
            spec=self.spec,
            name=f"{self.name}-{seed:09d}",
            source=self.source,
            extras={"rewards": np.array(rewards, np.float32), "ended": ending(len(frames), ended)},
            meta={"seed": seed, "picture": self.screen.origin},
        )

    def _act(self, row: Any, seed: int, step: int) -> tuple[np.ndarray, Any]:
        """The row of an action as the environment gets it, and the action."""
        wanted = np.asarray(row, dtype=np.float32).reshape(1, -1)
        limits = [(a.low, a.high) if a.kind == "continuous" else (-np.inf, np.inf) for a in self.spec.actions]
        if wanted.shape[1] == self.spec.width:
            low, high = np.array(limits, np.float32).reshape(-1, 2).T
            wanted = np.clip(wanted, low, high)
        checked = self.spec.validate_actions(wanted, f"{self.source}: seed {seed}, step {step}: the policy")
        action = self.to_env(checked[0])
        return action_row(self.space, action), action

    def _frame(self, observation: Any, seed: int, step: int) -> np.ndarray:
        """The picture, uint8 [H, W, 3], a new array of the size of all frames."""
        with self._calls("render", seed, step):
            try:
                frame = self.screen(observation)
            except NotAPicture as error:
                raise VidarError(str(error)) from error
        height, width = frame.shape[:2]
        if self.seen == (0, 0):
            self.seen = height, width
            if self.fitted:
                self.size = trainable_size(height, width)
        if self.size is None and (height, width) != self.seen:
            raise VidarError(
                f"{self.source}: seed {seed}, step {step}: the picture is {height} x {width} pixels, the first one was "
                f"{self.seen[0]} x {self.seen[1]}; give height and width (--height, --width), to which all are resized"
            )
        if self.size is not None and self.size != (height, width):
            frame = np.array(Image.fromarray(frame).resize((self.size[1], self.size[0]), Image.Resampling.BOX))
        return frame

    @contextmanager
    def _calls(self, method: str, seed: int | None = None, step: int = 0) -> Generator[None]:
        """Whatever the environment raises becomes one line that names environment, seed, step and method."""
        where = self.source if seed is None else f"{self.source}: seed {seed}, step {step}"
        try:
            yield
        except VidarError as error:
            raise type(error)(f"{where}: {error}") from error
        except (Exception, SystemExit) as error:
            raise VidarError(f"{where}: {method} raised {type(error).__name__}: {first_line(error)}") from error


def trainable_size(height: int, width: int) -> tuple[int, int]:
    """A height and width that the shipped recipes train on, close to those of a picture.

    Multiples of 16; of at most 128 x 128 pixels they stay as they are, else they have about 64 x 96 pixels at nearly
    the same ratio. Choice: the weights of ratio, number of pixels, and enlarging.
    """
    if height % SITE == width % SITE == 0 and height * width <= KEPT:
        return height, width
    aim = min(height * width, PIXELS)

    def cost(size: tuple[int, int]) -> float:
        tall, wide = math.log(size[0] / height), math.log(size[1] / width)
        return abs(tall - wide) + 0.25 * abs(math.log(size[0] * size[1] / aim)) + max(0.0, tall) + max(0.0, wide)

    sides = range(SITE, PIXELS // SITE + 1, SITE)
    return min(((h, w) for h in sides for w in sides if h * w <= 2 * PIXELS), key=cost)


def frame_rate(metadata: Any) -> float:
    """Frames per second as the metadata of an environment name them, else DEFAULT_FPS."""
    known = metadata if isinstance(metadata, Mapping) else {}
    for key in ("render_fps", "video.frames_per_second"):
        value = known.get(key)
        if isinstance(value, int | float | np.number) and 0 < float(value) < math.inf:
            return float(value)
    return DEFAULT_FPS


def number(reward: Any) -> float:
    """A reward as a number; None is 0. Raises VidarError if it is not one finite number."""
    if reward is None:
        return 0.0
    values = np.asarray(reward)
    if values.size != 1 or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        text = " ".join(str(reward).split())[:60]
        raise VidarError(f"step returns the reward {text}, expected one finite number; wrap the environment")
    return float(values.reshape(-1)[0])
