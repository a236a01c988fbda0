"""Token raster: every token is a unit; causal."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, table_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, causal


def token_order(num_frames: int, height: int, width: int) -> tuple[Order, Grid]:
    """Raster order over t, y, x; one relation `main`."""
    count = num_frames * height * width
    t, y, x = torch.meshgrid(torch.arange(num_frames), torch.arange(height), torch.arange(width), indexing="ij")
    coord = torch.stack([t, y, x], dim=-1).reshape(count, 3)
    number = torch.arange(count)
    return Order({"main": Relation(causal)}, count), table_grid(("t", "y", "x"), number, number, coord)
