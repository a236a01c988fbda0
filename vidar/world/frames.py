"""Endless frames of a world, one after the other, by whatever makes them: streams, a schedule, a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.orders.plan import PlanOrderConfig
from vidar.rng import Rng
from vidar.types import UsageError
from vidar.world.decoding import following, remember
from vidar.world.planned import planned
from vidar.world.renewal import followed
from vidar.world.scheduled import scheduled
from vidar.world.streams import Streams

if TYPE_CHECKING:
    from vidar.world.world import World


@torch.inference_mode()
def frames(
    world: World,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    steps: int | None,
    renew: int | None,
    recache: bool,
) -> Iterator[tuple[Tensor, Callable[[], Tensor]]]:
    """As `World.codes`: codes [B, n, C] of each frame, and what gives its picture, uint8 [B, H, W, 3].

    Pictures are asked for of every frame, in turn, or of none.
    """
    if not world.config.frame_by_frame:
        if renew is not None or recache:
            name = "--recache" if recache else "--renew"
            raise UsageError(f"world {world.config.name!r} does not make frame after frame; leave {name} out")
        run = planned if isinstance(world.config.order, PlanOrderConfig) else scheduled
        shown = [RowState() for _ in context]
        remember(world, shown, context)
        for code in run(world, context, actions, context_actions, rngs, steps):
            yield code, lambda code=code: following(world, shown, code).frames()[:, 0]
        return
    streams = Streams(world, len(context), steps)
    streams.open(range(len(context)), context, context_actions, rngs)
    follower = followed(streams, context, context_actions, rngs, renew, recache)
    for action in actions:
        follower.before(action)
        code = streams.frame(action)
        picture = cache(partial(streams.decode, code))
        yield code, picture
        follower.after(code, action, picture)
