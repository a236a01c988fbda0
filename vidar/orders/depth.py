"""How long the chain of an order is: how many units wait for one another at most."""

from __future__ import annotations

from collections.abc import Collection

from vidar.core.order import Order


def chain_depth(order: Order, given: Collection[int] = ()) -> int:
    """The longest path over `needs | sees` of a finite order, counted in units; given ones are passed but not counted.

    Errors add up along it, and it is what no number of workers makes shorter: one unit a frame where frames are made
    one by one, one unit a segment and the fills of the last one where segments are planned (MMPL,
    planning-memory-control 1.2). Raises ValueError for an endless order.
    """
    if order.num_units is None:
        raise ValueError("an endless order has no longest chain; give it a number of frames")
    depth = [0] * order.num_units
    for wave in order.waves():
        for unit in wave:
            earlier = order.before[unit].nonzero()[:, 0].tolist()
            depth[unit] = max((depth[v] for v in earlier), default=0) + (unit not in given)
    return max(depth)
