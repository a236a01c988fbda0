"""Scales, coarse to fine: next-scale prediction over an image (VAR) or over clips (InfinityStar)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidar.core.grid import Grid, table_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, causal, table_rule

Size = tuple[int, int, int]  # frames, height, width of a scale


def scale_sites(sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
    """Scale number [n] and coordinates [n, 4] (s, t, y, x) of all sites of a pyramid.

    t, y and x are measured in sites of the finest scale, at the centre of the area a coarse site covers.
    """
    finest = sizes[-1]
    numbers: list[Tensor] = []
    coords: list[Tensor] = []
    for s, size in enumerate(sizes):
        axes = [(torch.arange(n, dtype=torch.float64) + 0.5) * (m / n) - 0.5 for n, m in zip(size, finest, strict=True)]
        t, y, x = torch.meshgrid(*axes, indexing="ij")
        place = torch.stack([t, y, x], dim=-1).reshape(-1, 3)
        coords.append(torch.cat([torch.full((place.shape[0], 1), float(s), dtype=torch.float64), place], dim=1))
        numbers.append(torch.full((place.shape[0],), s))
    return torch.cat(numbers), torch.cat(coords)


def scale_order(sizes: Sequence[Size]) -> tuple[Order, Grid]:
    """One pyramid: a scale is a unit and sees all scales up to itself."""
    number, coord = scale_sites(sizes)
    return Order({"main": Relation(causal)}, len(sizes)), table_grid(("s", "t", "y", "x"), number, number, coord)


def clip_scale_order(clips: Sequence[Sequence[Size]]) -> tuple[Order, Grid]:
    """Several pyramids: (clip, scale) sees itself and the last scale of the clip before (needs != sees).

    Its input is built from all earlier scales of its clip: that is what makes waves of scales. The whole clip is
    conditioned on the last scale of the clip before, which therefore comes first.
    """
    lengths = [len(clip) for clip in clips]
    clip_of = torch.repeat_interleave(torch.arange(len(clips)), torch.tensor(lengths))
    scale_of = torch.cat([torch.arange(n) for n in lengths])
    last = torch.tensor(lengths)[clip_of] - 1 == scale_of
    same = clip_of[:, None] == clip_of[None, :]
    sees = torch.eye(clip_of.shape[0], dtype=torch.bool) | ((clip_of[:, None] == clip_of[None, :] + 1) & last[None, :])
    needs = same & (scale_of[None, :] < scale_of[:, None])
    units, coords = [], []
    first, frames = 0, 0
    for clip in clips:
        number, coord = scale_sites(clip)
        units.append(number + first)
        coords.append(coord + torch.tensor([0.0, float(frames), 0.0, 0.0], dtype=torch.float64))
        first, frames = first + len(clip), frames + clip[-1][0]
    unit = torch.cat(units)
    order = Order({"main": Relation(table_rule(sees))}, first, needs=table_rule(needs))
    return order, table_grid(("s", "t", "y", "x"), unit, unit, torch.cat(coords))
