"""Hooks of a rollout: periodic re-encoding (VideoAR, 2026), KV re-caching on changed actions (LongLive, 2025)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidar.rng import Rng
from vidar.rollout.turns import Turns
from vidar.types import UsageError

Picture = Callable[[], Tensor]  # -> uint8 [B, H, W, 3]
APART = 2**32  # added to the video number of the noise at each renewal, because the frame count restarts at 0


class Hook:
    """Base of hooks, which are called before and after every frame of a rollout."""

    def before(self, action: Tensor) -> None:
        """Called before a frame is generated under action [B, A]."""

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """Called after a frame: its code [B, n, C], its action [B, A], and a function that returns its picture."""


class ReencodeEvery(Hook):
    """Every `every` frames, decode the last frames, re-encode them, and continue from them as a new context (VideoAR).

    Uses as many frames as a context may have, at most `every`. The frame count restarts at 0, so positions stay in the
    range of training. Re-encoding drops whatever a code holds that its picture does not show. If the tokenizer looks
    back, the pictures are the ones that were shown. What a memory holds stays.
    """

    def __init__(self, rollout: Turns, every: int, rngs: Sequence[Rng]) -> None:
        """rngs: one per row. Raises UsageError unless `every` is a positive multiple of the frames of a group."""
        if every < 1:
            raise UsageError(f"renew is {every}; give a number of frames, 1 or more")
        per = rollout.per_group
        if rollout.due != per:
            raise UsageError(f"renew needs a context of at least {rollout.least()} frames")
        if every % per:
            raise UsageError(f"renew is {every}; this world makes {per} frames together: give a multiple of {per}")
        self.rollout, self.every, self.rngs, self.count = rollout, every, rngs, 0
        keep = min(every, rollout.setting.context)
        self.codes: deque[Tensor] = deque(maxlen=keep)
        self.actions: deque[Tensor] = deque(maxlen=keep)
        self.pictures: deque[Tensor] = deque(maxlen=keep)

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """See `Hook`."""
        self.codes.append(code)
        self.actions.append(action)
        if self.rollout.codec.looks_back:
            self.pictures.append(picture())
        self.count += 1
        if self.count % self.every:
            return
        number = self.count // self.every
        context = self.rollout.codec.encode(self._shown())
        told = self.rollout.told
        rngs = [Rng(rng.seed, rng.video + number * APART) for rng in self.rngs]
        self.rollout.reopen(range(len(context)), context, torch.stack(list(self.actions), 1), rngs, 0, told)

    def _shown(self) -> Tensor:
        """The last pictures, uint8 [B, T, H, W, 3]."""
        if self.pictures:
            return torch.stack(list(self.pictures), 1)
        return self.rollout.codec.decode(torch.stack(list(self.codes), 1))[0]


class RecacheOnAction(Hook):
    """When the action of a row changes, recompute the keys of its last frames under the new action (`recache`)."""

    def __init__(self, rollout: Turns, context: Tensor, actions: Tensor | None) -> None:
        """context [B, T, n, C]; actions [B, T, A], or None if unknown: the first action is then not a change."""
        self.rollout = rollout
        self.codes = deque(context.unbind(1), maxlen=rollout.keep)
        self.last = None if actions is None else actions[:, -1]

    def before(self, action: Tensor) -> None:
        """See `Hook`."""
        if self.last is None:
            return
        rows = torch.nonzero((action != self.last.to(action)).any(1))[:, 0]
        if len(rows):
            codes = torch.stack(list(self.codes), 1)[rows]
            told = action[rows, None].expand(-1, codes.shape[1], -1)
            self.rollout.recache(rows.tolist(), codes, told)

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """See `Hook`."""
        self.codes.append(code)
        self.last = action


def make_hook(
    rollout: Turns,
    context: Tensor,
    actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None,
    recache: bool,
) -> Hook:
    """The hook for the arguments of `VideoModel.codes`. Raises UsageError for `renew` together with `recache`."""
    if renew is not None and recache:
        raise UsageError("renew and recache exclude each other: frames before a renewal are no longer seen")
    if recache:
        return RecacheOnAction(rollout, context, actions)
    return Hook() if renew is None else ReencodeEvery(rollout, renew, rngs)
