"""Grid: the positions of the sites, that is their coordinates on named axes, and the cell of each site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidar.types import PAD


@dataclass(frozen=True)
class Grid:
    """Three functions: unit -> sites, site -> cell, site -> coordinates. All positions come from here.

    sites(unit) -> long [n]; cell(site long [..]) -> long [..], PAD for padding; coord(site) -> float64 [.., A].
    num_sites is None for an endless stream.
    """

    axes: tuple[str, ...]
    sites: Callable[[int], Tensor]
    cell: Callable[[Tensor], Tensor]
    coord: Callable[[Tensor], Tensor]
    num_sites: int | None

    def padded(self, padding: Tensor) -> Grid:
        """A copy in which the sites where bool `padding` [N] is True are padding (left padding of a short text)."""
        inner = self.cell

        def cell(site: Tensor) -> Tensor:
            inside = site < padding.shape[0]
            hit = padding[site.clamp(0, padding.shape[0] - 1)] & inside
            return torch.where(hit, PAD, inner(site))

        return replace(self, cell=cell)


def table_grid(axes: Sequence[str], unit_of_site: Tensor, cell: Tensor, coord: Tensor) -> Grid:
    """A grid from tables: unit_of_site long [N], cell long [N], coord [N, A]. The sites of a unit keep their order."""
    units = [torch.nonzero(unit_of_site == u)[:, 0] for u in range(int(unit_of_site.max()) + 1)]
    positions = coord.to(torch.float64)
    return Grid(
        axes=tuple(axes),
        sites=lambda unit: units[unit],
        cell=lambda site: cell[site],
        coord=lambda site: positions[site],
        num_sites=int(unit_of_site.shape[0]),
    )


def frame_grid(
    height: int,
    width: int,
    num_frames: int | None = None,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Grid:
    """Frames of height x width sites; each frame is one unit and one cell. Axes t y x; endless without `num_frames`."""
    n = height * width

    inside = torch.arange(n)
    frame = torch.stack([torch.zeros(n), inside // width, inside % width], dim=-1).to(torch.float64)
    frame = frame * torch.tensor(scale, dtype=torch.float64)

    def coord(site: Tensor) -> Tensor:
        made = frame[site % n]
        made[..., 0] = (site // n).to(torch.float64) * scale[0]
        return made

    return Grid(
        axes=("t", "y", "x"),
        sites=lambda unit: torch.arange(unit * n, (unit + 1) * n),
        cell=lambda site: site // n,
        coord=coord,
        num_sites=None if num_frames is None else num_frames * n,
    )
