"""What all rollouts share that make one group of frames after another: a stream, or a chain of segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.conditioning.config import NOTHING, Told
from vidar.core.objective import Objective
from vidar.core.state import RowState
from vidar.core.system import System
from vidar.rng import Rng
from vidar.rollout.codec import EXTRA, Decoding, following
from vidar.rollout.setting import Setting
from vidar.types import Model, UsageError


class Turns(ABC):
    """`capacity` rows that make group after group of frames, each with its own clock, context, actions and noise.

    per_group: frames of a group. ahead: frames behind a group whose actions it reads too, 0: none. keep: the latest
    frames whose codes a `recache` may read. model: makes the calls of frames. Codes are float32 [B, n, C].
    """

    ahead = 0

    per_group: int
    keep: int

    def __init__(self, setting: Setting, capacity: int, model: Model | None = None) -> None:
        self.setting, self.capacity, self.model = setting, capacity, model or setting.network.call
        self.codec, self.frames, self.most = setting.codec, setting.system.frames, setting.steps
        self.told = [NOTHING] * capacity  # what is told of the video of each row

    @property
    @abstractmethod
    def rows(self) -> Sequence[RowState]:
        """The small state of every row."""

    @property
    def due(self) -> int:
        """Frames of the next group. Raises UsageError where rows differ in it."""
        return self.per_group

    @abstractmethod
    def open(
        self,
        rows: Sequence[int],
        codes: Tensor,
        actions: Tensor | None,
        rngs: Sequence[Rng],
        first: int = 0,
        told: Sequence[Told] | None = None,
    ) -> None:
        """Begin some rows anew after their context. No snapshot may be held.

        codes [b, T, n, C]; actions [b, T, A], row t acts between frames t-1 and t, None: unknown; rngs: one per row.
        first: number of the context's first frame; told: of each video as a whole, None: nothing. Raises UsageError
        where the context is too short.
        """

    @abstractmethod
    def group(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """The next group of frames of every row under their actions, [B, F, A] -> codes [B, F, n, C].

        steps: calls of the solver, None: as many as usual. Raises UsageError for another number of frames than `due`.
        """

    @abstractmethod
    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """The last frames of some rows seen from now on as if made under other actions. No snapshot may be held.

        codes [b, T, n, C]: these frames; actions [b, T, A], as in `open`.
        """

    @abstractmethod
    def snapshot(self) -> Any:
        """A point to come back to; `release` it. While it is held, what is overwritten is kept."""

    @abstractmethod
    def restore(self, snapshot: Any, rows: Sequence[int] | None = None) -> None:
        """Go back to a snapshot: all rows, or some. The snapshot stays held."""

    @abstractmethod
    def release(self, snapshot: Any) -> None:
        """Give a snapshot up."""

    def least(self) -> int:
        """Frames that a context must have."""
        return next(frames for frames in count(1) if self.frames.whole(frames))

    def check_start(self, frames: int) -> None:
        """Raises UsageError where a start of so many frames is too short to go on from."""
        if frames < self.least():
            per, name = self.per_group, self.setting.name
            raise UsageError(f"{name} makes {per} frames together; give a context of at least {self.least()} frames")

    def warm_up(self) -> None:
        """Make a group and take it back, so that its calls are compiled. No snapshot may be held."""
        snapshot = self.snapshot()
        self.group(self.setting.rest.expand(self.capacity, self.due, -1))
        self.restore(snapshot)
        self.release(snapshot)

    def begin(self, row: int, frames: Any, actions: Any, seed: int, told: Told = NOTHING) -> Tensor:
        """`open` one row after frames, uint8 [T, H, W, 3] or None (the world's own start), and actions [T, A] or None.

        Of both the last `context` count; returns their codes [T, n, C]. Raises VidarError where they do not fit.
        """
        keep = self.setting.context
        codes = self.codec.encode(self.codec.context_frames(frames)[None, -keep:])
        self.check_start(codes.shape[1])
        known = None if actions is None else torch.as_tensor(np.asarray(actions, np.float32))[None, -keep:]
        self.open([row], codes, known, [Rng(seed)], told=[told])
        return codes[0]

    @torch.inference_mode()
    def frame(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """The next frame of every row under its action, [B, A] -> codes [B, n, C], where a group is one frame."""
        return self.group(actions[:, None], steps)[:, 0]

    def decoding(self, codes: Tensor) -> Decoding:
        """Of what was just made, codes [B, n, C] or [B, F, n, C]: its pictures [B, F, H, W, 3], not yet decoded.

        To be taken before a row goes back, and of every frame or of none. Raises ValueError where one was left out.
        """
        codes = codes[:, None] if codes.ndim == 3 else codes
        if not self.codec.looks_back:
            return Decoding(self.codec, codes)
        rows, period = self.rows, len(self.frames.units(0))
        for row in rows:
            seen = row.extras.get(EXTRA)
            if row.clock != period + (0 if seen is None else seen.clock):
                raise ValueError("the tokenizer of this world looks back: decode every frame, and each one once")
        return following(self.codec, rows, codes)

    def decode(self, codes: Tensor) -> Tensor:
        """As `decoding`, at once: uint8 [B, H, W, 3]."""
        return self.decoding(codes).frames()[:, 0]


def check_in_turn(system: System[Objective], name: str) -> None:
    """Raises UsageError for a system whose groups of frames are not made one after the other."""
    if system.in_turn:
        return
    if system.order.endless:
        raise UsageError(f"{name} has frames in flight together, so nothing can happen between two of them; generate")
    raise UsageError(f"{name} makes clips of a fixed length, which have no next frame; generate")
