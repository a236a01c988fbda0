"""Base of the rollouts that generate one group of frames after another: streams and chains of segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
from vidar.rollout.memory import Chart, Recall
from vidar.rollout.setting import Setting
from vidar.types import Model, UsageError


class Turns(ABC):
    """`capacity` rows that generate group after group of frames, each with its own clock, context, actions and noise.

    per_group: frames per group. ahead: number of following frames whose actions a group also reads. keep: number of
    last frames whose codes `recache` may read. model: the function that generates frames. Codes are float32 [B, n, C].
    """

    ahead = 0

    per_group: int
    keep: int
    moving: tuple[str, ...] = ("told", "rngs")  # attributes that change while frames are generated

    def __init__(self, setting: Setting, capacity: int, model: Model | None = None) -> None:
        self.setting, self.capacity, self.model = setting, capacity, model or setting.network.call
        self.codec, self.frames, self.most = setting.codec, setting.system.frames, setting.steps
        self.told = [NOTHING] * capacity  # prompt and label of each row's video
        self.recall = None if setting.memory is None else Recall(setting.memory, setting.codec)

    @property
    @abstractmethod
    def rows(self) -> Sequence[RowState]:
        """The state of every row apart from its rings."""

    @property
    def due(self) -> int:
        """Number of frames of the next group. Raises UsageError if the rows differ."""
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
        pictures: Tensor | None = None,
    ) -> None:
        """Restart some rows after a context. No snapshot may be held.

        codes [b, T, n, C]; actions [b, T, A]: row t acts between frames t-1 and t; None: unknown. rngs: one per row.
        first: number of the context's first frame. told: prompt and label per video, or None. pictures: of the context,
        uint8 [b, T, H, W, 3], which a memory keeps; None: those that the codes decode to. Raises UsageError if the
        context is too short.
        """

    def reopen(
        self,
        rows: Sequence[int],
        codes: Tensor,
        actions: Tensor | None,
        rngs: Sequence[Rng],
        first: int = 0,
        told: Sequence[Told] | None = None,
    ) -> None:
        """As `open`, after the last frames of these rows themselves: what they remember beyond the context stays."""
        self.open(rows, codes, actions, rngs, first, told)

    def carried(self, row: int) -> dict[str, Tensor]:
        """What a row remembers beyond its context, as tensors by name, for `carry`; empty without a memory."""
        return {} if self.recall is None else self.recall.packed(self.rows[row])

    def carry(self, row: int, carried: Mapping[str, Tensor]) -> None:
        """Let a row remember what `carried` returned, here or elsewhere; call `reopen` next, with its last frames."""
        if carried and self.recall is not None:
            self.recall.unpacked(self.rows[row], carried)

    @abstractmethod
    def group(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """Generate the next group of frames of every row: actions [B, F, A] -> codes [B, F, n, C].

        steps: number of solver calls; None: that of the setting. Raises UsageError unless F fits `due`.
        """

    @abstractmethod
    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """Recompute the context of some rows as if their last frames had been generated under other actions.

        codes [b, T, n, C]: these frames. actions [b, T, A]: as in `open`. No snapshot may be held.
        """

    @abstractmethod
    def snapshot(self) -> Any:
        """A snapshot for `restore`. While it is held, overwritten state is kept; call `release` when done."""

    @abstractmethod
    def restore(self, snapshot: Any, rows: Sequence[int] | None = None) -> None:
        """Return all rows, or some, to a snapshot. The snapshot stays held."""

    @abstractmethod
    def release(self, snapshot: Any) -> None:
        """Release a snapshot, so that overwritten state is no longer kept."""

    def least(self) -> int:
        """Minimum number of context frames."""
        return next(frames for frames in count(1) if self.frames.whole(frames))

    def check_start(self, frames: int) -> None:
        """Raises UsageError if a context of `frames` frames is too short."""
        if frames < self.least():
            per, name = self.per_group, self.setting.name
            raise UsageError(f"{name} makes {per} frames together; give a context of at least {self.least()} frames")

    def progress(self) -> dict[str, Any]:
        """What distinguishes this rollout from a new one, for `resume`. No snapshot may be held."""
        return {name: getattr(self, name) for name in self.moving}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Continue where a rollout of the same model, capacity and steps was; takes the values over, without a copy."""
        for name in self.moving:
            setattr(self, name, progress[name])

    def warm_up(self) -> None:
        """Generate a group and discard it, so that its calls are compiled. No snapshot may be held."""
        snapshot = self.snapshot()
        self.group(self.setting.rest.expand(self.capacity, self.due, -1))
        self.restore(snapshot)
        self.release(snapshot)

    def begin(self, row: int, frames: Any, actions: Any, seed: int, told: Told = NOTHING) -> Tensor:
        """`open` one row after frames, uint8 [T, H, W, 3] or None (the world's start clip), and actions [T, A] or None.

        Only the last `context` frames are used; returns their codes [T, n, C]. Raises VidarError if they do not fit.
        """
        keep = self.setting.context
        pictures = self.codec.context_frames(frames)[None, -keep:]
        codes = self.codec.encode(pictures)
        self.check_start(codes.shape[1])
        known = None if actions is None else torch.as_tensor(np.asarray(actions, np.float32))[None, -keep:]
        self.open([row], codes, known, [Rng(seed)], told=[told], pictures=pictures)
        return codes[0]

    @torch.inference_mode()
    def frame(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """Generate the next frame of every row, if a group is one frame: actions [B, A] -> codes [B, n, C]."""
        return self.group(actions[:, None], steps)[:, 0]

    def decoding(self, codes: Tensor) -> Decoding:
        """A promise of the pictures [B, F, H, W, 3] of the newest codes, [B, n, C] or [B, F, n, C].

        Call it before a row is restored, and for every frame or for none. Raises ValueError if a frame was skipped.
        """
        codes = codes[:, None] if codes.ndim == 3 else codes
        period = len(self.frames.units(0))
        for row in self.rows if self.codec.looks_back else ():
            seen = row.extras.get(EXTRA)
            if row.clock != period + (0 if seen is None else seen.clock):
                raise ValueError("the tokenizer of this world looks back: decode every frame, and each one once")
        return self._following(codes)

    @property
    def draws(self) -> bool:
        """Whether the model has a memory that draws maps."""
        return self.recall is not None and self.recall.draws

    def charts(self) -> list[Callable[[], Chart | None] | None]:
        """What draws the map of each row at its newest group, see `Recall.charts`. Call it before a row is restored."""
        return [None] * self.capacity if self.recall is None else self.recall.charts(self.rows)

    def _following(self, codes: Tensor) -> Decoding:
        """The pictures of codes [B, F, n, C] that are the next frames of all rows."""
        if self.recall is not None and self.recall.newest is not None:
            return self.recall.newest
        return following(self.codec, self.rows, codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode the newest codes at once: uint8 [B, H, W, 3]. See `decoding`."""
        return self.decoding(codes).frames()[:, 0]


def check_in_turn(system: System[Objective], name: str) -> None:
    """Raises UsageError for a system that does not generate its groups of frames one after another."""
    if system.in_turn:
        return
    if system.order.endless:
        raise UsageError(
            f"{name} has several frames in flight together, so no action can be given between two frames; use "
            "`vidar generate`"
        )
    raise UsageError(f"{name} makes clips of a fixed length, which have no next frame; use `vidar generate`")
