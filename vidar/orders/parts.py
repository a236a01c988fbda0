"""Frames generated part by part: what the orders of cells, sub-samples and scales share."""

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
    """window: number of past frames that a part sees; 0: only its own frame."""

    window: int = Field(default=4, ge=0)

    @property
    @abstractmethod
    def period(self) -> int:
        """Units per frame."""

    def frame_sites(self, patch: int) -> FrameSites:
        """How the code of a frame is laid out on the sites of its parts; a site is patch x patch latents."""
        return EverySite()

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> EvenFrames:
        """The frame map of frames with `period` units."""
        return EvenFrames(grid, 1, self.period, self.frame_sites(patch))


class LatticeConfig(PartsConfig):
    """A frame of rows x columns units of equal size."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)

    @property
    def period(self) -> int:
        """Units per frame."""
        return self.rows * self.columns

    def check_sides(self, height: int, width: int, parts: str) -> None:
        """Raises UsageError if the sites cannot be divided into these parts."""
        for name, size, count in (("rows", height, self.rows), ("columns", width, self.columns)):
            if size % count:
                raise UsageError(f"order.{name}: {size} {name} of sites cannot be divided into {count} {parts}")


def parts_order(
    part: Tensor, place: Tensor, axes: tuple[str, ...], window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k is part k of frame f: those of its n sites where `part`, long [n], is k.

    Endless without `num_frames`.

    place: float64 [n, A], coordinates of the sites of frame 0 on `axes`; `t` advances from frame to frame. One
    relation `main`: a part sees itself, the earlier parts of its frame and all of the `window` frames before. Its
    ring keeps these frames and, if a frame has several parts, the frame in progress. For a clip whose frames do not
    see one another it keeps all sites, because their waves run together.
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
    reach = max(window, 1) * period + period - 1  # a hint may need the previous frame, whether it is seen or not
    return Order({"main": relation}, count, count, needs=never, reach=reach, period=period, warmup=reach), grid
