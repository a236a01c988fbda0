"""Next-frame and next-scale prediction (VideoAR, arXiv 2601.05966): one call predicts all labels of one scale.

A frame has K scales and a memory unit; unit f (K + 1) + k. Scale k receives the area average of F_{f,k-1}, the sum of
the coarser scales of its frame, and predicts its labels. The memory unit holds F_{f,K}; later frames see the frame
through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.objective import Prepared
from vidar.core.state import Content
from vidar.objectives.flips import random_flips
from vidar.objectives.hint import NoHintConfig, ScaleHintConfig
from vidar.objectives.label_parts import LabelParts, filters_of, no_levels, unchanged
from vidar.objectives.protocols import Coded, ObjectiveConfig
from vidar.objectives.rows import Place, once, one_hot, side_by_side
from vidar.orders.config import OrderConfig
from vidar.rng import Rng, every, uniforms
from vidar.types import MEMORY, Loss, Pass, Past, Quantiser, Target, UsageError


class Corrupted(Protocol):
    """See `vidar.tokenizers.multi_scale.CorruptPyramid`: rows are frames."""

    @property
    def total(self) -> Tensor:
        """F of the last scale, [R, C, 1, h, w]."""
        ...

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """Labels by scale, long [R, 1, h_k, w_k, G]."""
        ...

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs by scale, [R, C, 1, h_k, w_k]."""
        ...


class Labelled(Protocol):
    """See `vidar.tokenizers.multi_scale.PyramidCodes`."""

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """Labels by scale, long [R, 1, h_k, w_k, G]."""
        ...


class Pyramid(Protocol):
    """What is required of a multi-scale tokenizer of single frames: `vidar.tokenizers.multi_scale.MultiScale`."""

    quantiser: Quantiser

    @property
    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(1, h, w) of every scale."""
        ...

    def down(self, x: Tensor, k: int) -> Tensor:
        """[R, C, 1, h, w] resized to scale k."""
        ...

    def seen(self, total: Tensor, k: int) -> Tensor:
        """F before scale k [R, C, 1, h, w] -> the input of scale k [R, C, 1, h_k, w_k]."""
        ...

    def accumulate(self, total: Tensor, labels: Tensor, k: int) -> Tensor:
        """F before scale k [R, C, 1, h, w] and its labels [R, 1, h_k, w_k, G] -> F after it."""
        ...

    def quantise(self, latent: Tensor) -> Labelled:
        """Latents [R, C, 1, h, w] -> their labels."""
        ...

    def features(self, labels: Sequence[Tensor]) -> Tensor:
        """Labels of the first scales, [R, 1, h_k, w_k, G] each -> F after them [R, C, 1, h, w]."""
        ...

    def corrupt(self, latent: Tensor, flip: Callable[[int, Tensor], Tensor]) -> Corrupted:
        """Latents [R, C, 1, h, w] -> labels, each of the residual that the flipped earlier labels leave."""
        ...


class ScaleRows(NamedTuple):
    """places: what the slots hold, among the concatenated units of a clip. asked: bool [S, 1]; weight: [S]."""

    places: Place
    asked: Tensor
    weight: Tensor


class NextScaleConfig(ObjectiveConfig):
    """Cross-frame error correction, frame mask, weights of the scales, and sampling of labels in play.

    flip_first, flip_last: largest share of flipped label parts in the first and the last frame of a clip, linear in
    between. Later scales are labelled again after the flips and later frames see the flipped frame, but the targets
    stay clean. p_hidden: probability that a frame does not see one of the earlier frames; with probability 1/2 the
    frame right before it is exempt. balance: a label of scale k has the weight (N_K / N_k)^balance (Infinity: 1/2).
    filters: of the logits in play, see vidar.sampling.filters; by_scale: one further tuple per scale, applied after
    them; empty: none. recall: number of scales whose sum a memory unit holds, found by quantising the frame again;
    None: the whole frame. hint: what a scale receives of the previous frame besides attention. Choice: flips 0.05 to
    0.3, p_hidden 0.1; the papers give 0 to 0.1, 0.3 and 0.1 to 0.3.
    """

    codes: ClassVar[str] = "scales"

    flip_first: float = Field(default=0.05, ge=0, le=1)
    flip_last: float = Field(default=0.3, ge=0, le=1)
    p_hidden: float = Field(default=0.1, ge=0, lt=1)
    balance: float = Field(default=0.5, ge=0)
    filters: tuple[Config, ...] = ()
    by_scale: tuple[tuple[Config, ...], ...] = ()
    recall: int | None = Field(default=None, ge=1)
    hint: ScaleHintConfig = NoHintConfig()

    def build(self, pyramid: Pyramid, grid: Grid, dtype: torch.dtype = torch.float32) -> NextScale:
        """The objective over the units of a grid from `vidar.orders.frame_scale`, with the tokenizer's pyramid."""
        return NextScale(self, pyramid, grid, dtype)

    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> NextScale:
        """See `ObjectiveConfig`. Raises UsageError for a tokenizer without scales."""
        if coded.pyramid is None:
            raise UsageError("objective: next-scale prediction needs a pyramid tokenizer")
        return self.build(coded.pyramid(), grid, dtype)

    def calls(self, order: OrderConfig) -> int:
        """One call per scale."""
        return order.scales


class NextScale:
    """Objective with one pass per unit, which predicts and commits.

    Codes of a scale: labels long [n_k, G]; of a memory unit: F float [n_K, C]. Raw inputs [n, I]: C channels, the
    hint (0 or C channels) and a one-hot of the scale (K of them) or memory; scale 0 receives zeros. Outputs: logits
    of all label parts, [n, sum of classes].
    """

    passes: tuple[Pass, ...] = ((MEMORY, 0),)

    def __init__(self, config: NextScaleConfig, pyramid: Pyramid, grid: Grid, dtype: torch.dtype = torch.float32):
        self.config, self.pyramid, self.grid, self.dtype = config, pyramid, grid, dtype
        self.channels, self.classes = pyramid.quantiser.channels, pyramid.quantiser.classes
        self.scales = len(pyramid.sizes)
        self.period = self.scales + 1
        self.hinted = config.hint.hinted
        width = self.channels * (2 if self.hinted else 1)
        self.input_width, self.output_width = width + self.period, sum(self.classes)
        self.parts = LabelParts(self.classes)
        self.filters = filters_of("by_scale", config.filters, config.by_scale, self.scales)
        self.given = Contents(self)
        counts = [h * w for _, h, w in pyramid.sizes]
        self.weights = [(counts[-1] / count) ** config.balance for count in counts]

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The inputs [n, I] of a unit: the sum of the earlier scales, resized to its scale."""
        first, k = unit // self.period * self.period, unit % self.period
        hint = self._frame(past.codes[first - 1]) if self.hinted and first else None
        return self._inputs(self.pyramid.seen(self.total(past.codes, first, k), k), k, hint)[0]

    def needs(self, q: Tensor, k: Tensor) -> Tensor:
        """Content edges: the coarser scales of the frame, and with a hint the previous frame."""
        inside = (q // self.period == k // self.period) & (k < q)
        return inside | (k == q // self.period * self.period - 1) & (q % self.period < self.scales) & self.hinted

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """The inputs that `start` returned."""
        return x

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """Labels [n, G], sampled from the filtered logits [n, O], each label part independently."""
        return self.parts.draw(out.to(x.device, self.dtype), self.filters[unit % self.period], unit, rng)

    def finish(self, x: Tensor) -> Tensor:
        """The labels."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What is committed: for a scale the input it was predicted from, for a memory unit the frame."""
        if unit % self.period < self.scales:
            return self.start(unit, past, rng)
        return self._inputs(self._recalled(self._frame(code)), self.scales)[0]

    def total(self, codes: Mapping[int, Tensor], first: int, count: int) -> Tensor:
        """F after `count` scales of the frame whose first unit is `first`, [1, C, 1, h, w]."""
        total = torch.zeros(1, self.channels, *self.pyramid.sizes[-1], dtype=self.dtype)
        for k in range(count):
            labels = codes[first + k].reshape(1, *self.pyramid.sizes[k], -1)
            total = self.pyramid.accumulate(total, labels, k)
        return total

    def latents(self, codes: Mapping[int, Tensor]) -> Tensor:
        """See `Objective`: the frame that is the sum of the scales of its units, float [n_K, C]."""
        return self.total(codes, min(codes), self.scales)[0].flatten(1).T

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
        """Training inputs of all rows of a layout of whole frames.

        codes: latents float [B, T n_K, C] before quantisation, frame by frame (errors can only be corrected where the
        latents are known) -> seen [B, S, I], labels long [B, S, G] with weight 0 on memory units, keep bool [B, U,
        U]. `play`: flip and hide nothing.
        """
        no_levels(levels, context, shown)
        batch, (_, h, w) = len(codes), self.pyramid.sizes[-1]
        frames = codes.shape[1] // (h * w)
        latents = codes.to(self.dtype).reshape(batch * frames, h, w, self.channels).permute(0, 3, 1, 2)[:, :, None]
        made = self.pyramid.corrupt(latents, unchanged if play else self._flips(rngs, frames))
        keep = None if play else self._hidden(rngs, frames)
        hint = self._hints(made.total.unflatten(0, (batch, frames)), keep)
        contents = (*made.inputs, self._recalled(made.total))
        inputs = torch.cat([self._inputs(x, k, hint) for k, x in enumerate(contents)], 1)
        labels = torch.cat([x.flatten(1, 3) for x in made.labels], 1)
        labels = F.pad(labels, (0, 0, 0, inputs.shape[1] - labels.shape[1]))  # memory units have no target
        rows = self._rows(layout, codes.device)
        seen, asked = (x.unflatten(0, (batch, frames)).flatten(1, 2)[:, rows.places] for x in (inputs, labels))
        return seen, Target(asked * rows.asked, rows.weight.to(seen).expand(batch, -1)), keep

    def _rows(self, layout: Layout, device: torch.device) -> ScaleRows:
        """What `prepare` needs of a layout, computed once."""
        counts = [h * w for _, h, w in (*self.pyramid.sizes, self.pyramid.sizes[-1])]
        weights = torch.tensor([*self.weights, 0.0], dtype=torch.float64)

        def made() -> ScaleRows:
            unit = layout.slots.unit[0]
            asked = (unit % self.period < self.scales) & (layout.row_step[layout.row] >= 0)
            weight = torch.where(asked, weights[unit % self.period], 0)
            return ScaleRows(side_by_side(layout, counts, device), asked[:, None].to(device), weight.to(device))

        return once(layout, f"scales {counts} {self.config.balance} {device}", made)

    def loss(self, out: Tensor, target: Target) -> Loss:
        """See `LabelParts.loss`."""
        return self.parts.loss(out, target, "next_scale")

    def _recalled(self, whole: Tensor) -> Tensor:
        """F of frames [R, C, 1, h, w] -> what their memory units hold."""
        if self.config.recall is None:
            return whole
        return self.pyramid.features(self.pyramid.quantise(whole).labels[: self.config.recall]).to(whole)

    def _inputs(self, x: Tensor, kind: int, hint: Tensor | None = None) -> Tensor:
        """[R, C, 1, h, w] -> [R, n, I]. kind: the scale, or K for memory.

        hint: F of the previous frames [R, C, 1, h, w].
        """
        columns = [x.flatten(2).transpose(1, 2)]
        if self.hinted:
            known = None if hint is None or kind == self.scales else self.pyramid.down(hint, kind)
            columns.append(0 * columns[0] if known is None else known.flatten(2).transpose(1, 2))
        return torch.cat([*columns, one_hot(kind, self.period, x).expand(*columns[0].shape[:2], -1)], -1)

    def _frame(self, code: Tensor) -> Tensor:
        """The code of a memory unit [n_K, C] -> [1, C, 1, h, w]."""
        return code.to(self.dtype).T.reshape(1, self.channels, *self.pyramid.sizes[-1])

    def _hints(self, totals: Tensor, keep: Tensor | None) -> Tensor | None:
        """F of all frames [B, T, C, 1, h, w] -> F of the frame before each; 0 if there is none or it is hidden."""
        if not self.hinted:
            return None
        before = totals.roll(1, dims=1)
        before[:, 0] = 0
        if keep is not None:
            frame = torch.arange(1, totals.shape[1]) * self.period
            before[:, 1:] *= keep[:, frame, frame - 1].reshape(len(totals), -1, 1, 1, 1, 1).to(before.device)
        return before.flatten(0, 1)

    def _flips(self, rngs: Sequence[Rng], frames: int) -> Callable[[int, Tensor], Tensor]:
        """Flips of rows of [B T] frames; the largest share increases with the frame."""
        low, high = self.config.flip_first, self.config.flip_last
        most = [low + (high - low) * t / max(1, frames - 1) for t in range(frames)]
        rows, units = zip(*every(rngs, range(frames)), strict=True)
        return random_flips(rows, self.classes, most * len(rngs), units)

    def _hidden(self, rngs: Sequence[Rng], frames: int) -> Tensor | None:
        """bool [B, U, U] over cells, False where a frame does not see the memory unit of an earlier frame."""
        if not self.config.p_hidden:
            return None
        keep = torch.ones(len(rngs), frames * self.period, frames * self.period, dtype=torch.bool)
        for frame in range(1, frames):
            u = uniforms(every(rngs, [frame]), "hidden_frames", (frame + 1,))
            sees = u[:, :frame] >= self.config.p_hidden
            sees[:, -1] |= u[:, frame] < 0.5
            own = slice(frame * self.period, (frame + 1) * self.period)
            keep[:, own, self.scales : frame * self.period : self.period] = sees[:, None]
        return keep


class Contents:
    """The `given` argument of decoding: for each memory unit, the function from the row to its code."""

    def __init__(self, objective: NextScale) -> None:
        self.objective = objective

    def __contains__(self, unit: object) -> bool:
        return isinstance(unit, int) and unit % self.objective.period == self.objective.scales

    def __getitem__(self, unit: int) -> Content:
        if unit not in self:
            raise KeyError(unit)
        first = unit - self.objective.scales
        return lambda row: self.objective.latents({u: row.codes[u] for u in range(first, unit)})
