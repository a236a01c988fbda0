"""Stream the frames of a rollout one after another, with their pictures and the hooks between frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice

import torch
from torch import Tensor

from vidar.conditioning.config import Told
from vidar.core.state import RowState
from vidar.rng import Rng
from vidar.rollout.chained import SegmentRollout
from vidar.rollout.codec import Codec, following, remember
from vidar.rollout.driver import Rollout
from vidar.rollout.hooks import make_hook
from vidar.rollout.setting import Setting
from vidar.rollout.turns import Turns, check_in_turn
from vidar.types import Model, UsageError

Shown = tuple[Tensor, Callable[[], Tensor]]  # codes [B, n, C] of a frame; a function that decodes it [B, H, W, 3]


def shown(
    setting: Setting,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None = None,
    recache: bool = False,
    told: Sequence[Told] | None = None,
    pictures: Tensor | None = None,
) -> Iterator[Shown]:
    """Codes and pictures of the frames after a context [B, T, n, C], until the actions [B, A] end, for any order.

    Decode either every frame, in order, or none. renew, recache: see `vidar.rollout.hooks`. told: prompt and label per
    video. pictures: of the context, see `Turns.open`. Raises UsageError for `renew` or `recache` if the model has
    several frames in flight together.
    """
    if setting.system.in_turn:
        return _in_turn(setting, context, actions, context_actions, rngs, renew, recache, told, pictures)
    if renew is not None or recache:
        name = "--recache" if recache else "--renew"
        raise UsageError(f"{setting.name} has several frames in flight together; leave {name} out")
    rollout = Rollout(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs, 0, told)
    return _pictured(setting.codec, context, rollout.run(actions))


def in_turns(setting: Setting, capacity: int, model: Model | None = None) -> Turns:
    """A rollout that generates one group of frames after another.

    model: the function that generates frames, for example a compiled one; it is warmed up by one group, which is then
    discarded. Raises UsageError for a model that does not make its groups one after another.
    """
    check_in_turn(setting.system, setting.name)
    kind = SegmentRollout if setting.system.frames.chained else Rollout
    rollout = kind(setting, capacity, model)
    if model is not None:
        rollout.warm_up()
    return rollout


@torch.inference_mode()
def _in_turn(
    setting: Setting,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None,
    recache: bool,
    whole: Sequence[Told] | None,
    seen: Tensor | None,
) -> Iterator[Shown]:
    """Generate group after group; the hooks between frames run between groups."""
    rollout = in_turns(setting, len(context))
    rollout.open(range(len(context)), context, context_actions, rngs, 0, whole, seen)
    hook, source = make_hook(rollout, context, context_actions, rngs, renew, recache), iter(actions)
    told = list[Tensor]()  # actions of the coming frames
    while True:
        due = rollout.due
        read = due + rollout.ahead
        told += islice(source, read - len(told))
        if not told:
            return
        hook.before(told[0])
        rest = [setting.rest.expand(len(context), -1)] * (read - len(told))
        codes = rollout.group(torch.stack([*told, *rest], 1))
        pictures, now, told = cache(partial(_frames, rollout, codes)), told[:due], told[due:]
        for number, code in enumerate(codes[:, : len(now)].unbind(1)):
            yield code, lambda number=number, pictures=pictures: pictures()[:, number]
        for number, action in enumerate(now):
            hook.after(codes[:, number], action, lambda number=number, pictures=pictures: pictures()[:, number])


def _frames(rollout: Turns, codes: Tensor) -> Tensor:
    return rollout.decoding(codes).frames()


@torch.inference_mode()
def _pictured(codec: Codec, context: Tensor, codes: Iterable[Tensor]) -> Iterator[Shown]:
    rows = [RowState() for _ in context]
    remember(codec, rows, context)
    for code in codes:
        yield code, lambda code=code: following(codec, rows, code[:, None]).frames()[:, 0]
