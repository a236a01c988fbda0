"""Rings of equal distance from the first corner (NAR, next-neighbour prediction); a ring is a unit."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, table_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, Rule, causal


def _previous(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return k == q - 1


def ring_order(num_frames: int, height: int, width: int) -> tuple[Order, Grid]:
    """The units are t + y + x = constant. A unit's input is built from the outputs of the previous ring; causal."""
    t, y, x = torch.meshgrid(torch.arange(num_frames), torch.arange(height), torch.arange(width), indexing="ij")
    distance = (t + y + x).reshape(-1)
    sorted_sites = torch.argsort(distance, stable=True)
    coord = torch.stack([t, y, x], dim=-1).reshape(-1, 3)[sorted_sites]
    unit = distance[sorted_sites]
    needs: Rule = _previous
    order = Order({"main": Relation(causal)}, int(unit.max()) + 1, needs=needs)
    return order, table_grid(("t", "y", "x"), unit, unit, coord)
