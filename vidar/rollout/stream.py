"""Frames of a rollout one after another, with what happens between them, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.rng import Rng
from vidar.rollout.codec import Codec, following, remember
from vidar.rollout.driver import Rollout, Setting
from vidar.rollout.hooks import followed
from vidar.rollout.segments import planned
from vidar.types import UsageError

Shown = tuple[Tensor, Callable[[], Tensor]]  # codes [B, n, C] of a frame, and what gives its picture [B, H, W, 3]


def shown(
    setting: Setting,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None = None,
    recache: bool = False,
) -> Iterator[Shown]:
    """Codes and pictures of the frames after a context [B, T, n, C], until the actions [B, A] end, by any order.

    Pictures are asked for of every frame, in turn, or of none. renew, recache: see `vidar.rollout.hooks`. Raises
    UsageError where they are asked of a model that does not make frame after frame.
    """
    if setting.system.interactive:
        return _interactive(setting, context, actions, context_actions, rngs, renew, recache)
    if renew is not None or recache:
        name = "--recache" if recache else "--renew"
        raise UsageError(f"{setting.name} does not make frame after frame; leave {name} out")
    if not setting.system.order.endless:
        return _pictured(setting.codec, context, planned(setting, context, actions, context_actions, rngs))
    rollout = Rollout(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs)
    return _pictured(setting.codec, context, rollout.run(actions))


@torch.inference_mode()
def _interactive(
    setting: Setting,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None,
    recache: bool,
) -> Iterator[Shown]:
    rollout = Rollout(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs)
    hook = followed(rollout, context, context_actions, rngs, renew, recache)
    for action in actions:
        hook.before(action)
        code = rollout.frame(action)
        picture = cache(partial(rollout.decode, code))
        yield code, picture
        hook.after(code, action, picture)


@torch.inference_mode()
def _pictured(codec: Codec, context: Tensor, codes: Iterable[Tensor]) -> Iterator[Shown]:
    rows = [RowState() for _ in context]
    remember(codec, rows, context)
    for code in codes:
        yield code, lambda code=code: following(codec, rows, code).frames()[:, 0]
