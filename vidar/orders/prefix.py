"""Chunks of frames in flight over a shared prefix, with factorised mixers (Ca2-VDM)."""

from __future__ import annotations

from torch import Tensor

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, never, own, window


def prefix_order(height: int, width: int, num_frames: int, chunk: int, prefix: int, past: int) -> tuple[Order, Grid]:
    """Relations `space`, `prefix` and `time` over frames, `chunk` of them in flight.

    space   a frame reads itself (fold t)
    prefix  a frame in flight reads itself and the last `prefix` frames before its chunk; a committed one only itself
    time    causal window of `past` frames at the same place (fold y, x); frames in flight read each other
    """

    def before_chunk(q: Tensor, k: Tensor) -> Tensor:
        first = q // chunk * chunk
        return (k == q) | ((k < first) & (k >= first - prefix))

    sites = height * width
    relations = {
        "space": Relation(own, fold=("t",), capacity=0),
        "prefix": Relation(before_chunk, memory=own, capacity=prefix * sites),
        "time": Relation(window(past), joint=True, fold=("y", "x"), capacity=past * sites),
    }
    order = Order(relations, num_frames, num_frames, needs=never, reach=past)
    return order, frame_grid(height, width, num_frames)
