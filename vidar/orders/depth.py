"""The depth of an order: the longest chain of units that wait for one another."""

from __future__ import annotations

from collections.abc import Collection

from vidar.core.order import Order


def chain_depth(order: Order, given: Collection[int] = ()) -> int:
    """The longest path over `needs | sees` of a finite order, counted in units.

    Given units are passed but not counted.

    Errors accumulate along this path, and no number of workers makes it shorter. It has one unit per frame if frames
    are generated one by one, and one unit per segment plus the fills of the last segment if segments are planned
    (MMPL, arXiv 2508.03334). Raises ValueError for an endless order.
    """
    if order.num_units is None:
        raise ValueError("an endless order has no longest chain; give it a number of frames")
    depth = [0] * order.num_units
    for wave in order.waves():
        for unit in wave:
            earlier = order.before[unit].nonzero()[:, 0].tolist()
            depth[unit] = max((depth[v] for v in earlier), default=0) + (unit not in given)
    return max(depth)
