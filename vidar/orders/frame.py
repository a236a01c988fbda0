"""Frames: every frame is a unit and a cell; with a window, sinks, and several frames in flight."""

from __future__ import annotations

from torch import Tensor

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, Rule, never, window
from vidar.orders.config import OrderConfig


def all_in_flight(length: int, ahead: int, sinks: int = 0) -> Rule:
    """Like `window`, and forward up to `ahead` cells (full attention among the units in flight: Rolling Forcing)."""
    backward = window(length, sinks)

    def rule(q: Tensor, k: Tensor) -> Tensor:
        return backward(q, k) | ((k > q) & (k <= q + ahead))

    return rule


class FrameOrderConfig(OrderConfig):
    """Frames generated one after another, or `in_flight` of them together.

    window: number of past frames that a frame may see (None: all; needs a finite length). sinks: number of first
    frames that are never forgotten. in_flight > 1: frames in flight read each other, with `forward` also later ones.
    """

    window: int | None = 32
    sinks: int = 0
    in_flight: int = 1
    forward: bool = False

    @property
    def forgets(self) -> bool:
        """See `OrderConfig`."""
        return self.window is not None and not self.sinks

    def flying(self, depth: int, both_ways: bool) -> FrameOrderConfig:
        """See `OrderConfig`."""
        return self.replace(in_flight=depth, forward=both_ways)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`."""
        return frame_order(height, width, num_frames, self.window, self.sinks, self.in_flight, self.forward)


def frame_order(
    height: int,
    width: int,
    num_frames: int | None = None,
    past: int | None = None,
    sinks: int = 0,
    in_flight: int = 1,
    forward: bool = False,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[Order, Grid]:
    """One relation `main`. Its ring keeps past + sinks frames, which suffices because a call writes after it reads.

    Units in flight count as past of the last of them, so they need no further room. Raises ValueError for an endless
    stream without `past`.
    """
    if past is None and num_frames is None:
        raise ValueError("an endless stream of frames needs a window")
    sites = height * width
    reach = num_frames or 0 if past is None else past
    memory = window(reach, sinks)
    sees = all_in_flight(reach, in_flight - 1, sinks) if forward else memory
    relation = Relation(
        sees=sees,
        memory=memory if forward else None,
        joint=in_flight > 1,
        capacity=None if past is None else (past + sinks) * sites,
        sinks=sinks * sites,
    )
    order = Order({"main": relation}, num_frames, num_frames, needs=never, reach=reach, period=1, warmup=reach + sinks)
    return order, frame_grid(height, width, num_frames, scale)
