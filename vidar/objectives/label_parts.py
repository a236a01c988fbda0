"""Labels of several parts: the layout of their logits, how they are sampled, and their cross entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidar.config import Config
from vidar.rng import Rng
from vidar.types import Loss, Target, UsageError

Filter = Callable[[Tensor, Any], Tensor]  # see vidar.sampling.filters


class LabelParts:
    """A label has G parts; part g takes one of `classes[g]` values. A model outputs [n, sum of classes]."""

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes, self.width = tuple(classes), sum(classes)
        first = torch.tensor([0, *classes]).cumsum(0)[:-1, None]
        place = torch.arange(max(classes))[None]
        self._padding = place >= torch.tensor(classes)[:, None]
        self._columns = torch.where(self._padding, 0, first + place)

    def logits(self, out: Tensor) -> Tensor:
        """[..., O] -> [..., G, V], -inf where a part has fewer classes than the largest part."""
        return out[..., self._columns.to(out.device)].masked_fill(self._padding.to(out.device), -torch.inf)

    def draw(self, out: Tensor, filters: Iterable[Filter], unit: int, rng: Rng) -> Tensor:
        """Sample labels [n, G] of a unit, each part independently, from the filtered logits [n, O] (Gumbel-max)."""
        logits = self.logits(out)
        for filter_ in filters:
            logits = filter_(logits, None)
        noise = rng.gumbel("token", unit, 0, tuple(logits.shape)).to(logits)
        return (logits + noise).argmax(dim=-1)

    def loss(self, out: Tensor, target: Target, name: str) -> Loss:
        """Cross entropy in nats per label part, as a weighted mean over the slots with a target.

        `guessed`: accuracy.
        """
        logits = self.logits(out.to(torch.promote_types(out.dtype, torch.float32)))
        flat, labels = logits.reshape(-1, logits.shape[-1]), target.value.reshape(-1)
        entropy = F.cross_entropy(flat, labels, reduction="none").reshape(target.value.shape).mean(-1)
        share = target.weight / target.weight.sum()
        right = (logits.argmax(-1) == target.value).to(entropy.dtype).mean(-1)
        total = (entropy * share).sum()
        return Loss(total, {name: total.detach(), "guessed": (right * share).sum().detach()})


def filters_of(
    key: str, every: Sequence[Config], entries: Sequence[Sequence[Config]], count: int
) -> list[tuple[Filter, ...]]:
    """The filters `every`, followed by those of one of `count` entries (without entries: nothing more), per entry.

    Raises UsageError that names the key, for another number of entries.
    """
    if entries and len(entries) != count:
        raise UsageError(f"{key} has {len(entries)} entries; give one per scale, {count}")
    more = entries or ((),) * count
    return [tuple(f.build() for f in (*every, *own)) for own in more]  # pyright: ignore


def no_levels(levels: Tensor | None, context: Tensor | None, shown: Tensor | None) -> None:
    """Raises ValueError if a caller passes levels, another context or a memory, because labels have none of them."""
    if shown is not None:
        raise ValueError("an objective of labels takes nothing from a memory")
    if levels is not None or context is not None:
        raise ValueError("labels have no noise level, and what later units see of them depends on their flips only")


def unchanged(scale: int, labels: Tensor) -> Tensor:
    """The flip that changes nothing."""
    return labels
