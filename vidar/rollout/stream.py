"""Frames of a rollout one after another, with what happens between them, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.rng import Rng
from vidar.rollout.codec import Codec, following, remember
from vidar.rollout.driver import Rollout
from vidar.rollout.hooks import followed

Shown = tuple[Tensor, Callable[[], Tensor]]  # codes [B, n, C] of a frame, and what gives its picture [B, H, W, 3]


@torch.inference_mode()
def interactive(
    rollout: Rollout,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None = None,
    recache: bool = False,
) -> Iterator[Shown]:
    """Frames that are made when their action is known. Pictures are asked for of every frame, in turn, or of none.

    renew, recache: see `vidar.rollout.hooks`.
    """
    rollout.open(range(len(context)), context, context_actions, rngs)
    hook = followed(rollout, context, context_actions, rngs, renew, recache)
    for action in actions:
        hook.before(action)
        code = rollout.frame(action)
        picture = cache(partial(rollout.decode, code))
        yield code, picture
        hook.after(code, action, picture)


@torch.inference_mode()
def pictured(codec: Codec, context: Tensor, codes: Iterable[Tensor]) -> Iterator[Shown]:
    """Codes [B, n, C] of the frames after a context [B, T, n, C], with their pictures."""
    rows = [RowState() for _ in context]
    remember(codec, rows, context)
    for code in codes:
        yield code, lambda code=code: following(codec, rows, code).frames()[:, 0]
