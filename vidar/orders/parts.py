"""Frames made part by part: what cells, sub-samples and scales of a frame have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from vidar.core.frames import EvenFrames, EverySite, FrameSites
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.relation import Relation, never
from vidar.orders.config import OrderConfig
from vidar.types import UsageError


class PartsConfig(OrderConfig):
    """window: frames that a part sees before its own, 0: every frame by itself."""

    window: int = Field(default=4, ge=0)

    @property
    @abstractmethod
    def period(self) -> int:
        """Units of a frame."""

    def frame_sites(self, patch: int) -> FrameSites:
        """How the code of a frame lies on the sites of its parts, each patch x patch latents."""
        return EverySite()

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> EvenFrames:
        """Frames of `period` units."""
        return EvenFrames(grid, 1, self.period, self.frame_sites(patch))


class LatticeConfig(PartsConfig):
    """A frame of rows x columns units, which are equally large."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)

    @property
    def period(self) -> int:
        """Units of a frame."""
        return self.rows * self.columns

    def check_sides(self, height: int, width: int, parts: str) -> None:
        """Raises UsageError where the sites do not divide into these parts."""
        for name, size, count in (("rows", height, self.rows), ("columns", width, self.columns)):
            if size % count:
                raise UsageError(f"order.{name}: {size} {name} of sites do not divide into {count} {parts}")


def parts_order(
    part: Tensor, place: Tensor, axes: tuple[str, ...], window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k is part k of frame f: of its n sites those where `part`, long [n], is k. Endless without num_frames.

    place: float64 [n, A], coordinates of the sites of frame 0 on `axes`, of which `t` moves on. One relation `main`: a
    part sees itself, the parts before it in its frame and all of the `window` frames before. Its ring keeps these
    frames and, where frames are several parts, the one that is being made; all sites of a clip whose frames do not
    see one another, as their waves are made side by side.
    """
    size, period = len(part), int(part.max()) + 1
    sites = [torch.nonzero(part == k)[:, 0] for k in range(period)]
    time = torch.tensor([float(axis == "t") for axis in axes], dtype=torch.float64)

    def sees(q: Tensor, k: Tensor) -> Tensor:
        frame = k.div(period, rounding_mode="floor")
        return (k <= q) & (frame >= q.div(period, rounding_mode="floor") - window)

    grid = Grid(
        axes,
        sites=lambda unit: unit // period * size + sites[unit % period],
        cell=lambda site: site // size * period + part[site % size],
        coord=lambda site: place[site % size] + (site // size)[..., None] * time,
        num_sites=None if num_frames is None else num_frames * size,
    )
    count = None if num_frames is None else num_frames * period
    apart = window == 0 and num_frames is not None
    relation = Relation(sees, capacity=None if apart else (window + (period > 1)) * size)
    reach = max(window, 1) * period + period - 1  # a hint may need the frame before, seen or not
    return Order({"main": relation}, count, count, needs=never, reach=reach, period=period, warmup=reach), grid
