"""Frames of a rollout one after another, with what happens between them, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.rng import Rng
from vidar.rollout.codec import Codec, following, remember
from vidar.rollout.driver import Rollout, Setting
from vidar.rollout.hooks import make_hook
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
    UsageError where they are asked of a model whose frames are in flight together.
    """
    if setting.system.in_turn:
        return _in_turn(setting, context, actions, context_actions, rngs, renew, recache)
    if renew is not None or recache:
        name = "--recache" if recache else "--renew"
        raise UsageError(f"{setting.name} makes frames that are in flight together; leave {name} out")
    if not setting.system.order.endless:
        return _pictured(setting.codec, context, planned(setting, context, actions, context_actions, rngs))
    rollout = Rollout(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs)
    return _pictured(setting.codec, context, rollout.run(actions))


@torch.inference_mode()
def _in_turn(
    setting: Setting,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None,
    recache: bool,
) -> Iterator[Shown]:
    """Group of frames after group; what happens between frames happens between groups."""
    rollout = Rollout(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs)
    hook, source = make_hook(rollout, context, context_actions, rngs, renew, recache), iter(actions)
    while told := list(islice(source, rollout.per_group)):
        rest = [setting.rest.expand(len(context), -1)] * (rollout.per_group - len(told))
        hook.before(told[0])
        codes = rollout.group(torch.stack([*told, *rest], 1))
        pictures = cache(partial(_frames, rollout, codes))
        for number, code in enumerate(codes[:, : len(told)].unbind(1)):
            yield code, lambda number=number, pictures=pictures: pictures()[:, number]
        for number, action in enumerate(told):
            hook.after(codes[:, number], action, lambda number=number, pictures=pictures: pictures()[:, number])


def _frames(rollout: Rollout, codes: Tensor) -> Tensor:
    return rollout.decoding(codes).frames()


@torch.inference_mode()
def _pictured(codec: Codec, context: Tensor, codes: Iterable[Tensor]) -> Iterator[Shown]:
    rows = [RowState() for _ in context]
    remember(codec, rows, context)
    for code in codes:
        yield code, lambda code=code: following(codec, rows, code[:, None]).frames()[:, 0]
