"""A chain of planned segments as a rollout (MMPL, arXiv 2508.03334): a group is the frames that one segment adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.config import NOTHING, Told
from vidar.core.state import RowState
from vidar.rng import Rng
from vidar.rollout.codec import Decoding, following, remember
from vidar.rollout.segments import chain_of, plan, populate
from vidar.rollout.setting import Setting
from vidar.rollout.turns import Turns
from vidar.types import Model, UsageError

START = "start"  # the key in RowState.extras


@dataclass(frozen=True)
class SegmentStart:
    """The frames that the next segment of a row starts from: codes [k, n, C], actions [k, A], unknown bool [k].

    segment: the number of that segment.
    """

    codes: Tensor
    actions: Tensor
    unknown: Tensor
    segment: int = 0


class FramewiseDecoding(Decoding):
    """The pictures of several frames, each of which is decoded in a call of its own."""

    def __init__(self, frames: Sequence[Decoding]) -> None:
        self.each = frames

    def frames(self) -> Tensor:
        """uint8 [B, T, H, W, 3]."""
        return torch.cat([one.frames() for one in self.each], 1)


class SegmentRollout(Turns):
    """`capacity` rows of a model that plans segments; each row may be at another segment.

    A segment starts from the last frames of the previous segment, decoded and re-encoded; its KV cache ends with it. A
    segment is planned as a whole, so it also reads the actions of the `ahead` frames that follow its own frames. Where
    these are not given, the last given action is repeated.
    """

    moving = (*Turns.moving, "_rows")

    def __init__(self, setting: Setting, capacity: int, model: Model | None = None) -> None:
        if setting.memory is not None:
            raise UsageError(f"{setting.name} plans segments, which are shown no memory; leave the memory out")
        super().__init__(setting, capacity, model)
        chain = self.chain = chain_of(setting)
        self.per_group, self.keep, self.ahead = chain.stride, chain.first, chain.map.length - chain.made
        first, rest = torch.zeros(chain.first, *setting.frame_shape), setting.rest.expand(chain.first, -1)
        blank = SegmentStart(first, rest, torch.ones(chain.first, dtype=torch.bool))
        self._rows = [RowState(extras={START: blank}) for _ in range(capacity)]
        self.rngs = [Rng(0, row) for row in range(capacity)]

    @property
    def rows(self) -> Sequence[RowState]:
        """See `Turns`."""
        return self._rows

    @property
    def due(self) -> int:
        """See `Turns`. The first segment makes more frames if its context was shorter than `Chain.first`."""
        known = {len(start.codes) for start in self._starts()}
        if len(known) > 1:
            raise UsageError(
                f"rows have contexts of {' and '.join(map(str, sorted(known)))} frames; give all rows the same number"
            )
        return self.chain.made - known.pop()

    def least(self) -> int:
        """See `Turns`. Returns `Chain.first`, so that all groups have the same length."""
        return self.chain.first

    @torch.inference_mode()
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
        """See `Turns.open`. Only the last k frames are used (`Chain.first`).

        Raises UsageError unless a segment begins at frame `first`.
        """
        segment, rest = divmod(first, self.chain.stride)
        if rest:
            raise UsageError(f"a segment begins every {self.chain.stride} frames, none at frame {first}")
        remember(self.codec, fresh := [RowState() for _ in rows], codes)
        codes = codes[:, -self.chain.first :]
        count = codes.shape[1]
        known = self.setting.rest.expand(len(codes), count, -1) if actions is None else actions[:, -count:]
        unknown = torch.full((len(codes), count), actions is None)
        for place, (row, state) in enumerate(zip(rows, fresh, strict=True)):
            state.extras[START] = SegmentStart(codes[place], known[place], unknown[place], segment)
            self._rows[row], self.rngs[row] = state, rngs[place]
            self.told[row] = NOTHING if told is None else told[place]

    @torch.inference_mode()
    def group(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """See `Turns.group`. Up to `ahead` actions of the following frames may be appended."""
        due, count = self.due, actions.shape[1]
        if not due <= count <= due + self.ahead:
            raise UsageError(f"{self.setting.name} makes {due} frames next, not {count}")
        told = torch.cat([actions, actions[:, -1:].expand(-1, due + self.ahead - count, -1)], 1)
        starts, setting = self._starts(), self._setting(steps)
        values = torch.cat([torch.stack([start.actions for start in starts]).to(told), told], 1)
        unknown = torch.zeros(values.shape[:2], dtype=torch.bool)
        known = len(starts[0].codes)
        unknown[:, :known] = torch.stack([start.unknown for start in starts])
        unknown[:, 0], heard = True, values.clone()
        heard[:, 0] = self.setting.rest
        segments, first = [start.segment for start in starts], torch.stack([start.codes for start in starts])
        made = plan(setting, first, Actions(heard, unknown), self.rngs, segments, self.told)
        codes = populate(setting, made, Actions(heard, unknown), self.rngs, segments, self.told)
        kept = slice(self.chain.made - self.chain.first, self.chain.made)
        for row, state in enumerate(self._rows):
            following = SegmentStart(made.after[row], values[row, kept], unknown[row, kept], segments[row] + 1)
            state.extras[START], state.clock = following, state.clock + self.chain.map.units
        return codes[:, known:]

    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """See `Turns.recache`. Replaces the actions of the frames that the next segment starts from."""
        for row, told in zip(rows, actions, strict=True):
            start: SegmentStart = self._rows[row].extras[START]
            told = told[-len(start.codes) :]
            self._rows[row].extras[START] = replace(start, actions=told, unknown=torch.zeros_like(start.unknown))

    def _following(self, codes: Tensor) -> Decoding:
        """See `Turns`. Choice: frames are decoded one by one, so bits do not depend on where segments end."""
        return FramewiseDecoding([following(self.codec, self._rows, code[:, None]) for code in codes.unbind(1)])

    def snapshot(self) -> list[RowState]:
        """See `Turns`."""
        return [row.copy() for row in self._rows]

    def restore(self, snapshot: list[RowState], rows: Sequence[int] | None = None) -> None:
        """See `Turns`."""
        for row in range(self.capacity) if rows is None else rows:
            self._rows[row] = snapshot[row].copy()

    def release(self, snapshot: list[RowState]) -> None:
        """See `Turns`. Does nothing, because a snapshot holds no resources."""

    def _starts(self) -> list[SegmentStart]:
        return [row.extras[START] for row in self._rows]

    def _setting(self, steps: int | None) -> Setting:
        """The setting with the model of this rollout and `steps` calls per unit."""
        system = self.setting.system
        if steps not in (None, self.most):
            system = replace(system, objective=self.setting.faster(steps))
        return replace(self.setting, system=system, network=replace(self.setting.network, call=self.model))
