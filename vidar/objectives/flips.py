"""Random flips of labels: what a model that predicts scale by scale learns to repair (Infinity; VideoAR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidar.rng import Rng
from vidar.types import UsageError


def random_flips(
    rngs: Sequence[Rng],
    classes: Sequence[int],
    most: float | Sequence[float] = 0.3,
    units: Sequence[int] | None = None,
    num_scales: int | None = None,
) -> Callable[[int, Tensor], Tensor]:
    """Flips for a pyramid's `corrupt`: per row and scale, p is uniform in 0, 0.01, ..., most; each part changes with p.

    most: of all rows, or one per row (VideoAR lets it rise with the frame). num_scales: how many scales are flipped;
    None: all. A part of more than two classes becomes any other one, evenly (Choice; sources have bits only).
    """

    def flip(k: int, labels: Tensor) -> Tensor:
        if len(labels) != len(rngs):
            raise UsageError(f"{len(labels)} rows of labels take one Rng each, not {len(rngs)}")
        if num_scales is not None and k >= num_scales:
            return labels
        shape, rows = labels.shape[1:], []
        for row, rng in enumerate(rngs):
            u = rng.uniform("flip", units[row] if units else 0, k, (1 + 2 * shape.numel(),))
            highest = most if isinstance(most, int | float) else most[row]
            p = 0.01 * int(u[0] * (int(highest / 0.01 + 1e-6) + 1))
            changed, which = u[1:].reshape(2, *shape)
            other = 1 + (which * (torch.tensor(classes) - 1)).long()  # 1 to classes - 1
            rows.append(torch.where(changed < p, other, 0))
        return (labels + torch.stack(rows).to(labels.device)) % labels.new_tensor(classes)

    return flip
