"""A world as a gymnasium environment: a VectorEnv that computes all dreams in one forward pass, and a single Env.

`import vidar` registers both as `Vidar/World-v0`: `gymnasium.make("Vidar/World-v0", model="doom")` and
`gymnasium.make_vec("Vidar/World-v0", num_envs=8, model="doom")`.
"""

from __future__ import annotations

import copy
import math
import operator
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vidar.conditioning.config import NOTHING, Told
from vidar.data.reader import episodes
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.rollout.codec import last_picture
from vidar.types import UsageError

OPTIONS = ("context", "actions", "episode", "prompt", "label", "reset_mask")
Info = dict[str, Any]


class WorldVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """num_envs dreams of one world; observations uint8 [N, H, W, 3], actions as ActionSpec.space().

    model: a VideoModel, a shipped name or a directory. horizon: frames after which a dream is truncated; None: never.
    starts: folder of shards from whose episodes (of split `starts_split`) dreams start, drawn by seed; None: the
    world's own clip. capacity: rows of a forward pass, at least num_envs; the bits of a frame depend on it, but not on
    the other dreams. compiled: whether the network calls are compiled (`VideoModel.compiled`). `reset` observes the
    last frame of the context. The world's outcome head predicts the reward, and terminates a dream if its end is
    likelier than not; a world without such a head (`vidar train outcome`) gives reward 0 and never terminates. Choice:
    autoreset SAME_STEP, so that no action is ignored.

    If the world makes several frames together, an action is held for all of them: a step returns the last frame, and
    the sum of their rewards.

    The environment can be pickled and copied at any time; the copy continues with the same frames.

    reset(options=...): "context" uint8 [T, H, W, 3] (or a video file) with its "actions" [T, A], or "episode", the name
    of one of the starts; "prompt" or "label", if the world takes one, which a dream keeps when it restarts by itself.
    They hold for all dreams that are reset. "reset_mask" bool [N]: which dreams are reset; the others continue.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        num_envs: int = 1,
        model: VideoModel | str | os.PathLike[str] = "doom",
        horizon: int | None = None,
        starts: str | os.PathLike[str] | None = None,
        starts_split: str = "train",
        steps: int | None = None,
        capacity: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        self.streams_of = steps, compiled
        if num_envs < 1 or (capacity is not None and capacity < num_envs) or (horizon is not None and horizon < 1):
            raise UsageError("a vector of worlds needs num_envs >= 1, capacity >= num_envs and horizon >= 1")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f"render_mode {render_mode!r}: valid are rgb_array and None")
        self.world = model if isinstance(model, VideoModel) else load(model, device)
        config = self.world.config
        self.num_envs, self.horizon, self.render_mode = num_envs, horizon, render_mode
        self.mode = AutoresetMode(autoreset_mode)
        self.single_observation_space = spaces.Box(0, 255, (config.height, config.width, 3), np.uint8)
        self.single_action_space = config.spec.space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.streams = self.world.rollout(capacity or num_envs, steps, compiled)
        self.per = self.streams.per_group  # frames of a step
        self.metadata = {**self.metadata, "render_fps": config.fps / self.per, "autoreset_mode": self.mode}
        self.starts = None if starts is None else _starts(starts, starts_split, self.world)
        self.frames = np.zeros(self.observation_space.shape or (), np.uint8)
        self.codes = torch.zeros(self.streams.capacity, math.prod(config.sites), config.channels)
        self.age = np.zeros(num_envs, np.int64)
        self.seeds, self.told = [0] * num_envs, [NOTHING] * num_envs
        self.over = np.zeros(num_envs, bool)  # ended, and not restarted since
        self.begun = np.zeros(num_envs, bool)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "streams": (self.streams.capacity, self.streams.progress())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        capacity, progress = state["streams"]
        steps, compiled = self.streams_of
        self.streams = self.world.rollout(capacity, steps, compiled)
        self.streams.resume(progress)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.world)] = self.world  # which does not change
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return made

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, Info]:
        """Restart dreams. seed: dream i has the seed seed + i, or one seed for each; equal seeds give equal dreams.

        A seed is any whole number from 0. Raises UsageError for other seeds and unknown options, or after `close`,
        VidarError for a context that is not the world's.
        """
        self._check_open()
        options = dict(options or {})
        if unknown := set(options) - set(OPTIONS):
            raise UsageError(f"reset: unknown option {', '.join(sorted(unknown))}; valid: {', '.join(OPTIONS)}")
        told = Told(options.get("prompt"), options.get("label"))
        self.world.config.check_told(told)
        seeds = _seeds(seed, self.num_envs)
        super().reset(seed=None if _many(seed) else seeds[0])
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)), bool)
        if mask.shape != (self.num_envs,):
            raise UsageError(f"reset_mask has shape {list(mask.shape)}, expected [{self.num_envs}]")
        for row in np.flatnonzero(mask):
            self.told[row] = told
            self._begin(int(row), seeds[row], options)
        return self.frames.copy(), self._info()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """One group of frames of every dream. Raises UsageError after `close`, or for a dream that is over."""
        self._check_open()
        spec = self.world.config.spec
        rows = spec.validate_actions(np.asarray(actions).reshape(self.num_envs, -1), "actions")
        if not self.begun.all() or (self.mode == AutoresetMode.DISABLED and self.over.any()):
            raise UsageError("a dream has not begun, or has ended; call reset, with reset_mask for some")
        pressed = torch.zeros(self.streams.capacity, spec.width)
        pressed[: self.num_envs] = torch.from_numpy(rows)
        again = np.flatnonzero(self.over)  # NEXT_STEP: their action is ignored
        made = self.streams.group(pressed[:, None].expand(-1, self.per, -1))
        reward, ended = self._outcome(made, pressed)
        frames = self.streams.decoding(made).frames()[: self.num_envs, -1]
        self.codes, self.frames = made[:, -1].clone(), frames.numpy().copy()  # plain: _begin writes rows of it
        self.age += self.per
        for row in again:
            self._begin(int(row), None, {})
            reward[row], ended[row] = 0.0, False
        cut = np.zeros(self.num_envs, bool) if self.horizon is None else self.age >= self.horizon
        done = ended | cut
        info: Info = {}
        if done.any() and self.mode == AutoresetMode.SAME_STEP:
            info = self._ended(done)
            for row in np.flatnonzero(done):
                self._begin(int(row), None, {})
        elif done.any():
            self.over |= done
        return self.frames.copy(), reward, ended, cut, {**self._info(), **info}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current frames."""
        self._check_open()
        return None if self.render_mode is None else tuple(self.frames.copy())

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError("this environment is closed; make a new one")

    def _begin(self, row: int, seed: int | None, options: Mapping[str, Any]) -> None:
        """Restart one dream; without a seed, with one that is drawn from the environment's generator."""
        chosen = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        frames, known = self._context(chosen, options)
        codes = self.streams.begin(row, frames, known, chosen, self.told[row])
        picture = last_picture(self.world, self.streams.rows[row], codes)
        self.codes[row], self.frames[row] = codes[-1], picture.numpy()
        self.age[row], self.over[row], self.begun[row], self.seeds[row] = 0, False, True, chosen

    def _context(self, seed: int, options: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Frames uint8 [T, H, W, 3] and actions [T, A] or None, T at most the world's context."""
        keep, spec = self.world.config.context, self.world.config.spec
        context, given, name = options.get("context"), options.get("actions"), options.get("episode")
        if name is not None or (context is None and self.starts is not None):
            if self.starts is None:
                raise UsageError("option episode: there are no starts; give the environment starts=FOLDER_OF_SHARDS")
            names = sorted(self.starts)
            name = names[int(Rng(seed).raw("init", 0, 0, 1)[0] % np.uint64(len(names)))] if name is None else name
            if name not in self.starts:
                raise UsageError(f"no episode {name!r} among the starts; one of: {', '.join(names[:8])} ...")
            context, given = self.starts[name]
        frames = self.world.context_frames(context)[-keep:]
        if given is None:
            return frames, None
        known = torch.from_numpy(spec.validate_actions(np.asarray(given), "option actions"))[-keep:]
        if len(known) != len(frames):
            raise UsageError(f"options: {len(known)} rows of actions for {len(frames)} frames of context; one each")
        return frames, known

    def _outcome(self, codes: torch.Tensor, pressed: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Codes [capacity, F, n, C] that followed on self.codes -> reward float64 [N], is it over bool [N].

        Computed row by row: in a batch the last bit of a row would depend on its place. Rewards after the end do not
        count.
        """
        total, over = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for before, after in pairwise([self.codes, *codes.unbind(1)]):
            pairs = torch.stack([before, after], 1)
            each = [self.world.outcomes(pairs[row : row + 1], pressed[row : row + 1]) for row in range(self.num_envs)]
            reward, probability = (torch.cat(column).double().numpy() for column in zip(*each, strict=True))
            total, over = total + np.where(over, 0.0, reward), over | (probability > 0.5)
        return total, over

    def _info(self) -> Info:
        every = np.ones(self.num_envs, bool)
        return {"seed": np.array(self.seeds), "_seed": every, "frame": self.age.copy(), "_frame": every.copy()}

    def _ended(self, done: np.ndarray) -> Info:
        """The infos of SAME_STEP about dreams that end in this step."""
        last = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            last[row] = self.frames[row].copy()
        told = {name: np.where(done, value, 0) for name, value in self._info().items() if not name.startswith("_")}
        told |= {f"_{name}": done.copy() for name in list(told)}
        return {"final_obs": last, "_final_obs": done.copy(), "final_info": told, "_final_info": done.copy()}


class WorldEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One dream: a WorldVectorEnv with one row, and with the same arguments.

    It terminates when the world's outcome head says so, and is truncated after `horizon` frames if that is given.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, model: VideoModel | str | os.PathLike[str] = "doom", **arguments: Any) -> None:
        if "num_envs" in arguments or "autoreset_mode" in arguments:
            raise UsageError("num_envs and autoreset_mode are for make_vec; a single environment has neither")
        self.rows = WorldVectorEnv(1, model, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self.rows.metadata["render_fps"]}
        self.render_mode = self.rows.render_mode
        self.observation_space = self.rows.single_observation_space
        self.action_space = self.rows.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Info]:
        """See WorldVectorEnv.reset."""
        given = _seeds(seed, 1)[0]
        super().reset(seed=given)
        first = int(self.np_random.integers(2**31)) if given is None else given
        frames, info = self.rows.reset(seed=first, options=options)
        return frames[0], _single(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """One group of frames, see WorldVectorEnv."""
        frames, reward, terminated, truncated, info = self.rows.step(np.asarray(action)[None])
        return frames[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _single(info)

    def render(self) -> np.ndarray | None:
        """The current frame."""
        shown = self.rows.render()
        return None if shown is None else shown[0]

    def close(self) -> None:
        """End the environment: from here on it refuses to be reset, stepped and rendered."""
        self.rows.close()

    def __copy__(self) -> Self:
        return copy.deepcopy(self)


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    """One for each of `count` dreams; of a single one, seed + i. Raises UsageError for what is no seed."""
    given: list[Any] = list(cast(Any, seed)) if _many(seed) else [seed]
    try:
        whole = [None if one is None else operator.index(one) for one in given]
    except TypeError:
        whole = [-1]
    if any(one is not None and one < 0 for one in whole):
        raise UsageError(f"seed {seed!r}: a seed is a whole number, 0 or more")
    if not _many(seed):
        return [None if one is None else one + i for one in whole for i in range(count)]
    if len(whole) != count:
        raise UsageError(f"{len(whole)} seeds for {count} dreams; give one each")
    return [*whole]


def _many(seed: Any) -> bool:
    """Whether it is a seed for each dream."""
    return isinstance(seed, Sequence) or (isinstance(seed, np.ndarray) and seed.ndim > 0)


def _single(info: Info) -> Info:
    return {name: value.tolist()[0] for name, value in info.items() if not name.startswith("_")}


def _starts(
    folder: str | os.PathLike[str], split: str, world: VideoModel, most: int = 256
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The first frames and actions of up to `most` episodes, by name. Raises UsageError where none is long enough."""
    keep = world.config.context
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for episode in episodes(folder, split, extras=()):
        if len(episode.frames) >= keep:
            found[episode.name] = episode.frames[:keep].copy(), episode.actions[:keep].copy()
        if len(found) == most:
            break
    if not found:
        raise UsageError(f"{folder}: no episode of split {split!r} has the {keep} frames of context of this world")
    return found
