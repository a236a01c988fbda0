"""Next-scale prediction of whole pyramids (VAR; Infinity; InfinityStar): one call predicts all labels of one scale.

A unit is one scale of one pyramid. It receives F_{k-1}, the sum of the coarser scales of its pyramid, resized to its
scale, and predicts its labels; F starts at zero in every pyramid. An image is one pyramid; a video has one for its
first latent frame and one for each following clip. Scales that are visited again (semantic repetition in
InfinityStar) are a longer list of sizes. Choice: training covers every visit, while InfinityStar trains one visit of
each scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.objective import Prepared
from vidar.core.state import Content
from vidar.objectives.flips import random_flips
from vidar.objectives.label_parts import LabelParts, filters_of, no_levels, unchanged
from vidar.objectives.next_scale import Pyramid
from vidar.objectives.protocols import Coded, ObjectiveConfig
from vidar.objectives.rows import Place, once, one_hot, side_by_side
from vidar.orders.config import OrderConfig, Size
from vidar.rng import Rng
from vidar.types import MEMORY, Loss, Pass, Past, Target, UsageError


class PyramidsConfig(ObjectiveConfig):
    """Self-correction, weights of the scales, and how labels are drawn.

    flip: largest share of flipped label parts in a scale (Infinity 0.3; VAR 0); later scales are labelled again after
    the flips, but the targets stay clean. balance, heaviest: a label of a unit with n sites has the weight
    min(heaviest, (n_max / n)^balance), n_max being that of the largest unit (VAR 0, Infinity 1/2, InfinityStar 1/5
    and 40). filters: of the logits, see vidar.sampling.filters; by_scale: one further tuple per scale, applied after
    them; by_pyramid: one per pyramid, applied last, whose last entry serves all further pyramids (InfinityStar: the
    image at temperature 1, clips at 0.4); empty: none.
    """

    codes: ClassVar[str] = "pyramids"

    flip: float = Field(default=0.3, ge=0, le=1)
    balance: float = Field(default=0.5, ge=0)
    heaviest: float | None = Field(default=None, gt=0)
    filters: tuple[Config, ...] = ()
    by_scale: tuple[tuple[Config, ...], ...] = ()
    by_pyramid: tuple[tuple[Config, ...], ...] = ()

    def build(self, pyramids: Sequence[Pyramid], dtype: torch.dtype = torch.float32) -> Pyramids:
        """The objective over the scales of these pyramids, one after another. All must have equally many scales."""
        return Pyramids(self, pyramids, dtype)

    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> Pyramids:
        """See `ObjectiveConfig`. Raises UsageError where the tokenizer makes no pyramids."""
        if coded.pyramid is None:
            raise UsageError("an objective over pyramids needs a tokenizer that makes them")
        pyramid = coded.pyramid()
        return self.build([pyramid.at(size) for size in coded.sizes], dtype)

    def calls(self, order: OrderConfig) -> int:
        """See `ObjectiveConfig`: one a scale."""
        return order.scales


class Pyramids:
    """Objective with one pass per unit, which predicts and commits. Unit c K + k is scale k of pyramid c.

    Codes: labels long [n, G]. Raw inputs [n, C + K + 3]: C channels (scale 0: zeros), a one-hot of the scale, and the
    position t, y, x of a site in its pyramid, in (-1, 1). Outputs: logits of all label parts, [n, sum of classes].
    Choice: the position is an input because a rotary embedding turns keys and not values. Sites of equal content that
    see only one another, as in an image of InfinityStar, would otherwise have equal outputs (in InfinityStar the text
    tokens in the sequence distinguish them).
    """

    passes: tuple[Pass, ...] = ((MEMORY, 0),)

    def __init__(self, config: PyramidsConfig, pyramids: Sequence[Pyramid], dtype: torch.dtype = torch.float32):
        self.config, self.pyramids, self.dtype = config, list(pyramids), dtype
        self.given: Mapping[int, Content] = {}
        quantiser = pyramids[0].quantiser
        self.channels, self.scales = quantiser.channels, len(pyramids[0].sizes)
        self.parts = LabelParts(quantiser.classes)
        self.input_width, self.output_width = self.channels + self.scales + 3, self.parts.width
        self.filters = filters_of("by_scale", config.filters, config.by_scale, self.scales)
        self.later = filters_of("by_pyramid", (), config.by_pyramid, len(config.by_pyramid) or 1)
        counts = [t * h * w for pyramid in pyramids for t, h, w in pyramid.sizes]
        most = config.heaviest or float("inf")
        self.weights = [min(most, (max(counts) / count) ** config.balance) for count in counts]

    @property
    def sizes(self) -> Sequence[Sequence[Size]]:
        """Of every scale of every pyramid."""
        return [pyramid.sizes for pyramid in self.pyramids]

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The inputs [n, I] of a unit: the sum of the earlier scales of its pyramid, resized to its scale."""
        number, k = divmod(unit, self.scales)
        return self._inputs(self.pyramids[number].seen(self.total(past.codes, number, k), k), k)[0]

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """The inputs that `start` returned."""
        return x

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """Labels [n, G], see `LabelParts.draw`."""
        number, k = divmod(unit, self.scales)
        filters = (*self.filters[k], *self.later[min(number, len(self.later) - 1)])
        return self.parts.draw(out.to(x.device, self.dtype), filters, unit, rng)

    def finish(self, x: Tensor) -> Tensor:
        """The labels."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What is committed: the input that the labels were predicted from."""
        return self.start(unit, past, rng)

    def total(self, codes: Mapping[int, Tensor], number: int, count: int | None = None) -> Tensor:
        """F of a pyramid after its first `count` scales (None: all), [1, C, t, h, w], from labels by unit."""
        pyramid = self.pyramids[number]
        total = torch.zeros(1, self.channels, *pyramid.sizes[-1], dtype=self.dtype)
        for k in range(self.scales if count is None else count):
            labels = codes[number * self.scales + k].reshape(1, *pyramid.sizes[k], -1)
            total = pyramid.accumulate(total, labels, k)
        return total

    def latents(self, codes: Mapping[int, Tensor]) -> Tensor:
        """See `Objective`: the sum of the scales of whole pyramids, float [t h w, C]."""
        numbers = dict.fromkeys(unit // self.scales for unit in sorted(codes))
        return torch.cat([self.total(codes, number)[0].flatten(1).T for number in numbers])

    def labels(self, number: int, latents: Tensor) -> list[Tensor]:
        """Labels of the scales of a pyramid, long [.., n_k, G], from quantising its latents [.., t, h w, C]."""
        (_, h, w), before = self.pyramids[number].sizes[-1], latents.shape[:-3]
        grid = latents.reshape(-1, *latents.shape[-3:]).unflatten(2, (h, w)).permute(0, 4, 1, 2, 3)
        made = self.pyramids[number].quantise(grid).labels
        return [label.flatten(1, 3).reshape(*before, -1, label.shape[-1]) for label in made]

    def needs(self, q: Tensor, k: Tensor) -> Tensor:
        """Content edges: the coarser scales of the pyramid."""
        return (q // self.scales == k // self.scales) & (k < q)

    def prepare(
        self,
        codes: Tensor,
        layout: Layout,
        rngs: Sequence[Rng],
        *,
        play: bool = False,
        levels: Tensor | None = None,
        context: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Prepared:
        """Training inputs of the units of a layout, which may be a subset.

        codes: latents float [B, N, C] before quantisation, frame by frame -> seen [B, S, I], labels long [B, S, G]
        with their weights, and None, because nothing is hidden. `play`: flip nothing.
        """
        no_levels(levels, context, shown)
        h, w = self.pyramids[0].sizes[-1][1:]
        latents = codes.to(self.dtype).unflatten(1, (-1, h, w)).permute(0, 4, 1, 2, 3)  # [B, C, T, h, w]
        inputs, labels, start = list[Tensor](), list[Tensor](), 0
        for number, pyramid in enumerate(self.pyramids):
            frames = pyramid.sizes[-1][0]
            flip = unchanged if play else self._flips(rngs, number)
            made = pyramid.corrupt(latents[:, :, start : start + frames], flip)
            inputs += [self._inputs(x, k) for k, x in enumerate(made.inputs)]
            labels += [label.flatten(1, 3) for label in made.labels]
            start += frames
        places, weight = self._rows(layout, codes.device)
        seen, asked = (torch.cat(parts, 1)[:, places] for parts in (inputs, labels))
        return seen, Target(asked, weight.to(seen).expand(len(seen), -1)), None

    def _rows(self, layout: Layout, device: torch.device) -> tuple[Place, Tensor]:
        """What the slots hold, among the concatenated units, and their weights float64 [S]; computed once."""

        def made() -> tuple[Place, Tensor]:
            counts = [t * h * w for pyramid in self.pyramids for t, h, w in pyramid.sizes]
            weights = torch.tensor(self.weights, dtype=torch.float64)[layout.slots.unit[0]]
            return side_by_side(layout, counts, device), weights.to(device)

        return once(layout, f"pyramids {self.weights} {device}", made)

    def loss(self, out: Tensor, target: Target) -> Loss:
        """See `LabelParts.loss`."""
        return self.parts.loss(out, target, "next_scale")

    def _inputs(self, x: Tensor, k: int) -> Tensor:
        """[B, C, t, h, w] -> [B, n, I]."""
        channels = x.flatten(2).transpose(1, 2)
        mark = one_hot(k, self.scales, channels).expand(*channels.shape[:2], -1)
        axes = [(2 * torch.arange(n, dtype=x.dtype, device=x.device) + 1) / n - 1 for n in x.shape[2:]]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3)
        return torch.cat([channels, mark, place.expand(len(x), -1, -1).to(channels)], -1)

    def _flips(self, rngs: Sequence[Rng], number: int) -> Callable[[int, Tensor], Tensor]:
        """Flips of one pyramid of every row; one strength per scale or visit."""
        if not self.config.flip:
            return unchanged
        return random_flips(rngs, self.parts.classes, self.config.flip, [number] * len(rngs))
