"""Random flips of labels, which a scale-by-scale model learns to repair (Infinity; VideoAR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidar.rng import Rng, uniforms
from vidar.types import UsageError


def random_flips(
    rngs: Sequence[Rng],
    classes: Sequence[int],
    most: float | Sequence[float] = 0.3,
    units: Sequence[int] | None = None,
) -> Callable[[int, Tensor], Tensor]:
    """Flips for a pyramid's `corrupt`: per row and scale, p is uniform in 0, 0.01, .., most; each part flips with p.

    The result maps (scale, labels long [R, .., G]) to flipped labels of the same shape. most: one value for all rows,
    or one per row (VideoAR increases it with the frame). A part of more than two classes becomes any other class with
    equal probability (Choice; the papers have bits only). Raises UsageError for a wrong number of rngs.
    """

    def flip(k: int, labels: Tensor) -> Tensor:
        if len(labels) != len(rngs):
            raise UsageError(f"{len(labels)} rows of labels need one Rng each, not {len(rngs)}")
        shape, keys = labels.shape[1:], list(zip(rngs, units or [0] * len(rngs), strict=True))
        u = uniforms(keys, "flip", (1 + 2 * shape.numel(),), k)
        highest = [most] * len(rngs) if isinstance(most, int | float) else most
        steps = torch.tensor([int(one / 0.01 + 1e-6) + 1 for one in highest])
        p = 0.01 * (u[:, 0] * steps).floor()
        changed, which = u[:, 1:].reshape(len(rngs), 2, *shape).unbind(1)
        other = 1 + (which * (torch.tensor(classes) - 1)).long()  # 1 to classes - 1
        moved = torch.where(changed < p.reshape(-1, *[1] * len(shape)), other, 0)
        return (labels + moved.to(labels.device)) % labels.new_tensor(classes)

    return flip
