"""The longest chain of a video: planned in segments, compared with frame after frame.

    python scripts/plan_depth.py mmpl_shapes [--segments 1 --segments 8]

Chain: the largest number of units that wait for one another (`vidar.orders.depth`), not counting given frames. Errors
accumulate along it, and no number of workers makes it shorter.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vidar.configs.catalog import find_world, resolve_recipe
from vidar.orders.depth import chain_depth
from vidar.orders.frame import frame_order
from vidar.orders.plan import chain_of
from vidar.types import UsageError


def row(recipe: str, segments: int) -> tuple[int, int, int]:
    """New frames of `segments` segments, the chain of the plan, and the chain of frame-by-frame generation."""
    world = find_world(resolve_recipe(recipe))
    if world is None:
        raise UsageError(f"{recipe} has no order: only worlds have one")
    chain = chain_of(world.order, world.name)
    order = world.system(segments * chain.map.length).order
    given = [s * chain.map.units + step for s in range(segments) for step in range(chain.map.plan)]
    frames = chain.made + (segments - 1) * chain.stride - chain.first
    return frames, chain_depth(order, given), chain_depth(frame_order(1, 1, frames, past=1)[0])


def main(recipe: str, segments: Annotated[list[int], typer.Option()] = [1, 2, 4, 8, 16, 32]) -> None:  # noqa: B006
    """Print the table."""
    print("| segments | frames | chain, planned | chain, frame by frame |\n|---|---|---|---|")
    for number in segments:
        print(f"| {number} | " + " | ".join(map(str, row(recipe, number))) + " |")


if __name__ == "__main__":
    typer.run(main)
