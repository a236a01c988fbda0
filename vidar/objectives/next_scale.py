"""Next-frame and next-scale prediction (VideoAR, arXiv 2601.05966; scale-wise 6): labels of one scale in one call.

A frame is K scales and a memory unit, unit f (K + 1) + k. Scale k sees the area average of what the coarser scales of
its frame add up to, F_{f,k-1}, and predicts its labels. The memory unit holds F_{f,K}, by which later frames know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.decode import Content
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.step import Row, Step
from vidar.objectives.flips import random_flips
from vidar.rng import Rng
from vidar.types import MEMORY, Loss, Pass, Past, Quantiser, Target, UsageError


class Corrupted(Protocol):
    """See `vidar.tokenizers.multi_scale.CorruptPyramid`: rows are frames."""

    @property
    def total(self) -> Tensor:
        """F of the last scale, [R, C, 1, h, w]."""
        ...

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """By scale, long [R, 1, h_k, w_k, G]."""
        ...

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """By scale, [R, C, 1, h_k, w_k]."""
        ...


class Pyramid(Protocol):
    """What is asked of a multi-scale tokenizer of single frames: `vidar.tokenizers.multi_scale.MultiScale`."""

    quantiser: Quantiser

    @property
    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(1, h, w) of every scale."""
        ...

    def seen(self, total: Tensor, k: int) -> Tensor:
        """F before scale k -> what scale k sees of it."""
        ...

    def accumulate(self, total: Tensor, labels: Tensor, k: int) -> Tensor:
        """F before scale k and its labels -> F after it."""
        ...

    def corrupt(self, latent: Tensor, flip: Callable[[int, Tensor], Tensor]) -> Corrupted:
        """Latents [R, C, 1, h, w] -> labels, each of what the flipped ones before it left to do."""
        ...


class NextScaleConfig(Config):
    """Cross-frame error correction, frame mask, weights of the scales, and how labels are drawn in play.

    flip_first, flip_last: the largest share of label parts that is flipped in the first and the last frame of a clip,
    linear in between; later scales are labelled anew from the flipped ones, later frames see the flipped frame, and
    what is asked stays clean. p_hidden: chance that a frame does not see one of the frames before it; with
    probability 1/2 the frame right before it is exempt. balance: a label of scale k weighs (N_K / N_k)^balance
    (Infinity: 1/2). filters: of the logits in play, see vidar.sampling.filters; by_scale: one more tuple of them for
    each scale, which come after; empty: none.
    Choice: flips 0.05 to 0.3, p_hidden 0.1; sources give 0 to 0.1, 0.3 and 0.1 to 0.3.
    """

    flip_first: float = Field(default=0.05, ge=0, le=1)
    flip_last: float = Field(default=0.3, ge=0, le=1)
    p_hidden: float = Field(default=0.1, ge=0, lt=1)
    balance: float = Field(default=0.5, ge=0)
    filters: tuple[Config, ...] = ()
    by_scale: tuple[tuple[Config, ...], ...] = ()

    def build(self, pyramid: Pyramid, grid: Grid, dtype: torch.dtype = torch.float32) -> NextScale:
        """The objective over units of a grid as `vidar.orders.frame_scale` makes it, with the tokenizer's pyramid."""
        return NextScale(self, pyramid, grid, dtype)


class NextScale:
    """Objective: one pass a unit, which predicts and commits.

    Codes of a scale: labels long [n_k, G]; of a memory unit: F float [n_K, C]. Raw inputs: C channels and a one-hot of
    the scale (K of them) or memory, [n, C + K + 1]; scale 0 sees zeros. Outputs: logits of all label parts,
    [n, sum of classes].
    """

    passes: tuple[Pass, ...] = ((MEMORY, 0),)

    def __init__(self, config: NextScaleConfig, pyramid: Pyramid, grid: Grid, dtype: torch.dtype = torch.float32):
        self.config, self.pyramid, self.grid, self.dtype = config, pyramid, grid, dtype
        self.channels, self.classes = pyramid.quantiser.channels, pyramid.quantiser.classes
        self.scales = len(pyramid.sizes)
        self.period = self.scales + 1
        self.input_width, self.output_width = self.channels + self.period, sum(self.classes)
        if config.by_scale and len(config.by_scale) != self.scales:
            raise UsageError(
                f"by_scale has {len(config.by_scale)} entries; give one per scale, {self.scales}"
            )
        more = config.by_scale or ((),) * self.scales
        self.filters = [[f.build() for f in (*config.filters, *own)] for own in more]  # pyright: ignore
        self.given = Contents(self)
        self._columns, self._padding = _columns(self.classes)
        counts = [h * w for _, h, w in pyramid.sizes]
        self.weights = [(counts[-1] / count) ** config.balance for count in counts]

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The inputs of a unit, [n, I]: what the scales before it add up to, at its size."""
        first, k = unit // self.period * self.period, unit % self.period
        return self._inputs(self.pyramid.seen(self.total(past.codes, first, k), min(k, self.scales - 1)), k)[0]

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """As `start` gave them."""
        return x

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """Labels [n, G], drawn from the filtered logits [n, O] of each label part by itself."""
        logits = self.logits(out.to(x.device, self.dtype))
        for filter_ in self.filters[unit % self.period]:
            logits = filter_(logits, None)
        noise = rng.gumbel("token", unit, 0, tuple(logits.shape)).to(logits)
        return (logits + noise).argmax(dim=-1)

    def finish(self, x: Tensor) -> Tensor:
        """The labels."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What is committed: of a scale what it was predicted from; of a memory unit the frame."""
        if unit % self.period < self.scales:
            return self.start(unit, past, rng)
        return self._inputs(code.to(self.dtype).T.reshape(1, self.channels, *self.pyramid.sizes[-1]), self.scales)[0]

    def total(self, codes: Mapping[int, Tensor], first: int, count: int) -> Tensor:
        """F after `count` scales of the frame whose first unit is `first`, [1, C, 1, h, w]."""
        total = torch.zeros(1, self.channels, *self.pyramid.sizes[-1], dtype=self.dtype)
        for k in range(count):
            labels = codes[first + k].reshape(1, *self.pyramid.sizes[k], -1)
            total = self.pyramid.accumulate(total, labels, k)
        return total

    def frame_code(self, codes: Mapping[int, Tensor]) -> Tensor:
        """The frame of these units, of which only the scales of the last frame among them count, float [n_K, C]."""
        first = max(codes) // self.period * self.period
        return self.total(codes, first, self.scales)[0].flatten(1).T

    def frame_unit(self, frame: int) -> int:
        """The unit that holds a whole frame: what context is given as."""
        return frame * self.period + self.scales

    def frame_steps(self) -> list[Step]:
        """The calls of one frame: scale after scale; the memory unit of the frame before rides on the first."""
        rows = [(Row(k, MEMORY, 0),) for k in range(self.scales)]
        rows[0] = (Row(-1, MEMORY, None), *rows[0])
        return [Step(row, self.period if k == self.scales - 1 else 0) for k, row in enumerate(rows)]

    def logits(self, out: Tensor) -> Tensor:
        """[..., O] -> [..., G, V], -inf where a part has fewer classes than the largest."""
        return out[..., self._columns.to(out.device)].masked_fill(self._padding.to(out.device), -torch.inf)

    def prepare(
        self, codes: Tensor, layout: Layout, rngs: Sequence[Rng], play: bool = False
    ) -> tuple[Tensor, Target, Tensor | None]:
        """Training inputs of all rows of a layout of whole frames.

        codes: latents float [B, T n_K, C] before quantisation, frame by frame (an error can be corrected only where
        they are known) -> seen [B, S, I], labels long [B, S, G] with weight 0 on memory units, keep bool [B, U, U].
        `play`: nothing is flipped or hidden.
        """
        batch, (_, h, w) = len(codes), self.pyramid.sizes[-1]
        frames = codes.shape[1] // (h * w)
        latents = codes.to(self.dtype).reshape(batch * frames, h, w, self.channels).permute(0, 3, 1, 2)[:, :, None]
        made = self.pyramid.corrupt(latents, _unchanged if play else self._flips(rngs, frames))
        inputs = [self._inputs(x, k).unflatten(0, (batch, frames)) for k, x in enumerate((*made.inputs, made.total))]
        labels = [x.flatten(1, 3).unflatten(0, (batch, frames)) for x in made.labels]
        seen, asked, weight = [], [], []
        for unit, step in zip(layout.row_unit[0].tolist(), layout.row_step.tolist(), strict=True):
            frame, k = divmod(unit, self.period)
            seen.append(inputs[k][:, frame])
            asks = k < self.scales and step >= 0
            asked.append(labels[k][:, frame] if asks else labels[-1].new_zeros(*seen[-1].shape[:2], len(self.classes)))
            weight.append(seen[-1].new_full(seen[-1].shape[:2], self.weights[k] if asks else 0.0))
        target = Target(torch.cat(asked, 1), torch.cat(weight, 1))
        return torch.cat(seen, 1), target, None if play else self._hidden(rngs, frames)

    def loss(self, out: Tensor, target: Target) -> Loss:
        """Cross entropy in nats a label part, weighted mean over the asked slots; parts: share of parts guessed."""
        logits = self.logits(out.to(torch.promote_types(out.dtype, torch.float32)))
        flat, labels = logits.reshape(-1, logits.shape[-1]), target.value.reshape(-1)
        entropy = F.cross_entropy(flat, labels, reduction="none").reshape(target.value.shape).mean(-1)
        share = target.weight / target.weight.sum()
        right = (logits.argmax(-1) == target.value).to(entropy.dtype).mean(-1)
        total = (entropy * share).sum()
        return Loss(total, {"next_scale": total.detach(), "guessed": (right * share).sum().detach()})

    def _inputs(self, x: Tensor, kind: int) -> Tensor:
        """[R, C, 1, h, w] -> [R, n, I]. kind: the scale, or K."""
        channels = x.flatten(2).transpose(1, 2)
        mark = F.one_hot(torch.tensor(kind), self.period).to(channels).expand(*channels.shape[:2], -1)
        return torch.cat([channels, mark], -1)

    def _flips(self, rngs: Sequence[Rng], frames: int) -> Callable[[int, Tensor], Tensor]:
        """Flips of rows of [B T] frames; the largest share rises with the frame."""
        low, high = self.config.flip_first, self.config.flip_last
        most = [low + (high - low) * t / max(1, frames - 1) for t in range(frames)]
        rows = [rng for rng in rngs for _ in range(frames)]
        return random_flips(rows, self.classes, most * len(rngs), list(range(frames)) * len(rngs))

    def _hidden(self, rngs: Sequence[Rng], frames: int) -> Tensor | None:
        """bool [B, U, U] over cells, False where a frame does not see the memory unit of an earlier one."""
        if not self.config.p_hidden:
            return None
        keep = torch.ones(len(rngs), frames * self.period, frames * self.period, dtype=torch.bool)
        for b, rng in enumerate(rngs):
            for frame in range(1, frames):
                u = rng.uniform("keep", frame, 0, (frame + 1,))
                sees = u[:frame] >= self.config.p_hidden
                sees[-1] |= u[frame] < 0.5
                own = slice(frame * self.period, (frame + 1) * self.period)
                keep[b, own, self.scales : frame * self.period : self.period] = sees
        return keep


class Contents:
    """By memory unit, the function from the labels of its frame to its code: what decoding calls `given`."""

    def __init__(self, objective: NextScale) -> None:
        self.objective = objective

    def __contains__(self, unit: object) -> bool:
        return isinstance(unit, int) and unit % self.objective.period == self.objective.scales

    def __getitem__(self, unit: int) -> Content:
        if unit not in self:
            raise KeyError(unit)
        first = unit - self.objective.scales
        return lambda codes: self.objective.frame_code({u: codes[u] for u in range(first, unit)})


def _unchanged(scale: int, labels: Tensor) -> Tensor:
    return labels


def _columns(classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of label parts, [G, V] each: the column of every class among all logits; whether there is no such class."""
    most = max(classes)
    first = torch.tensor([0, *classes]).cumsum(0)[:-1, None]
    place = torch.arange(most)[None]
    missing = place >= torch.tensor(classes)[:, None]
    return torch.where(missing, 0, first + place), missing
