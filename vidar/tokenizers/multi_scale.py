"""Multi-scale residual quantisation: a latent is a sum of code maps on growing grids (VAR; Infinity, InfinityStar).

F_0 = 0;  label_k = quantise(Down(f - F_{k-1}, k));  F_k = F_{k-1} + phi_k(Up(code(label_k))), with k from 0 in the
code. Down is the area average, Up is bicubic or trilinear; the last grid is that of the latent and is not resampled.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.config import Config
from vidar.rng import Rng
from vidar.tokenizers.config import QuantiserConfig
from vidar.tokenizers.schedules import Size
from vidar.tokenizers.vq import exact, mean_square, straight_through
from vidar.types import PAD, Loss, Quantised, Quantiser, UsageError

Flip = Callable[[int, Tensor], Tensor]  # (scale, its labels) -> the labels that later scales are built from


@dataclass(frozen=True)
class PyramidCodes:
    """The result of quantising latents.

    total   F after the last scale [B, C, t, h, w]; its gradient is that of the latent
    labels  per scale long [B, t_k, h_k, w_k, G]; PAD where a scale was dropped
    kept    bool [B, K]; False: the scale was dropped and its code is 0
    loss    to be added to the tokenizer's loss

    For single frames (`per_frame`): labels [B, T, h_k, w_k, G], kept [B, T, K].
    """

    total: Tensor
    labels: tuple[Tensor, ...]
    kept: Tensor
    loss: Loss


@dataclass(frozen=True)
class CorruptPyramid:
    """labels: targets; flipped: what F was built from; inputs: what each scale sees [B, C, t_k, h_k, w_k]."""

    total: Tensor
    labels: tuple[Tensor, ...]
    flipped: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]


class MultiScaleConfig(Config):
    """sizes: (t, h, w) per scale, coarse to fine; the last is the latent's own size.

    num_phi: 3 x 3 convolutions phi_k(h) = (1 - rho) h + rho Conv(h), shared over the scales; 0: none. beta: None
    takes the mean over scales of the quantiser's loss (Infinity); a number gives VAR's loss on the running sum, mean
    over k of beta |sg(F_k) - f|^2 + |F_k - sg(f)|^2. p_drop: probability of dropping each scale but the first, in
    training. num_short: length of the short schedule that training uses with probability p_short; None: no short
    schedule. gains: factor of the code of each scale, by which its residual is divided first; None: 1.

    Choice: if the finest grid is visited several times, halving the gain at each visit turns n visits of one bit into
    a uniform quantiser of n bits; with equal gains they have only n + 1 different sums.
    """

    quantiser: QuantiserConfig
    sizes: tuple[Size, ...]
    up: Literal["bicubic", "trilinear"] = "trilinear"
    num_phi: int = Field(default=0, ge=0)
    rho: float = 0.5
    beta: float | None = None
    p_drop: float = Field(default=0.0, ge=0, lt=1)
    num_short: int | None = Field(default=None, ge=1)
    p_short: float = Field(default=0.5, ge=0, le=1)
    gains: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> MultiScaleConfig:
        if not self.sizes or min(min(size) for size in self.sizes) < 1:
            raise ValueError("sizes needs at least one (t, h, w), all 1 or more")
        for before, size in zip(self.sizes, self.sizes[1:]):
            if any(b < a for a, b in zip(before, size)):
                raise ValueError(f"sizes must go from coarse to fine, but {size} follows {before}")
        if self.up == "bicubic" and len({t for t, _, _ in self.sizes}) > 1:
            raise ValueError("bicubic acts on single frames, but sizes change t; use up=trilinear")
        if self.num_phi and self.beta is None:
            raise ValueError("phi convolutions learn only from the loss on the running sum; set beta")
        if self.num_short is not None and self.num_short > len(self.sizes):
            raise ValueError(f"num_short {self.num_short} is more than the {len(self.sizes)} scales")
        if self.gains is not None and (len(self.gains) != len(self.sizes) or min(self.gains) <= 0):
            raise ValueError(f"gains needs one positive number for each of the {len(self.sizes)} scales")
        return self

    def gain(self, k: int) -> float:
        """The gain of scale k."""
        return 1.0 if self.gains is None else self.gains[k]

    def build(self) -> MultiScale:
        """A new pyramid with a quantiser of its own."""
        return MultiScale(self, self.quantiser.build())


class MultiScale(nn.Module):
    """The residual loop over any quantiser. Computes in float32 or wider, also under autocast.

    Choice: the gradient of the whole sum goes straight through to the latent, as in VAR. Infinity's code adds one
    straight-through estimate per scale, which multiplies coarse gradients by the number of scales.
    """

    def __init__(self, config: MultiScaleConfig, quantiser: Quantiser) -> None:
        super().__init__()
        self.config = config
        self.quantiser = quantiser
        width = quantiser.channels
        self.phi = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.num_phi))
        self._frames_at_once: int | None = None  # a convolution's last bit depends on the number of frames

    @property
    def sizes(self) -> tuple[Size, ...]:
        """(t, h, w) of every scale."""
        return self.config.sizes

    def at(self, sizes: Sequence[Size]) -> MultiScale:
        """The same weights with other grids, for layouts of several pyramids. Raises UsageError as the config does."""
        view = copy.copy(self)  # modules are shared
        view.config = self.config.replace(sizes=tuple(sizes))
        return view

    def quantise(
        self,
        latent: Tensor,
        rngs: Sequence[Rng] | None = None,
        training: bool = False,
        units: Sequence[int] | None = None,
    ) -> PyramidCodes:
        """[B, C, t, h, w] -> codes. In training, rngs[b] drops scales at units[b] (0 unless given).

        Raises UsageError for a latent of another size, and for training with drops without one Rng per row.
        """
        latent = self._checked(latent)
        kept = torch.ones(len(latent), len(self.sizes), dtype=torch.bool)
        if training:
            kept = self._draw(len(latent), rngs, units)
        source = latent.detach() if self.config.beta is not None else latent
        total, labels, losses = torch.zeros_like(latent), [], []
        for k, rows in enumerate(kept.T):
            rows = rows.nonzero()[:, 0].to(latent.device)
            found = self._residual(source - total.detach(), k, rows)
            full = found.labels.new_full((len(latent), *found.labels.shape[1:]), PAD)
            labels.append(full.index_copy(0, rows, found.labels))
            total = self.accumulate(total, labels[-1], k, None if len(rows) == len(latent) else kept[:, k])
            losses.append(found.loss if self.config.beta is None else self._distance(latent[rows], total[rows]))
        loss = _weighted(losses, [int(n) for n in kept.sum(dim=0)])
        return PyramidCodes(straight_through(latent, total), tuple(labels), kept.to(latent.device), loss)

    def accumulate(self, total: Tensor, labels: Tensor, k: int, kept: Tensor | None = None) -> Tensor:
        """F before scale k [B, C, t, h, w], labels [B, t_k, h_k, w_k, G] -> F after it.

        kept: bool [B], see `quantise`.

        Raises UsageError for labels of another grid or out of range.
        """
        want = (len(total), *self.sizes[k], len(self.quantiser.classes))
        if labels.shape != want:
            raise UsageError(f"labels of scale {k} have shape {list(labels.shape)}; expected {list(want)}")
        if kept is not None:
            kept = kept.to(labels.device).reshape(-1, 1, 1, 1, 1)
            labels = torch.where(kept, labels, 0)
        with exact(total.device):
            code = (self.quantiser.code(labels).to(total.dtype) * self.config.gain(k)).movedim(-1, 1)
            h = self._phi(self._up(code.clone(memory_format=torch.contiguous_format)), k)
        return total + (h if kept is None else torch.where(kept, h, 0))

    def _residual(self, rest: Tensor, k: int, rows: Tensor | slice = slice(None)) -> Quantised:
        """Quantise the residual [B, C, t, h, w] at scale k. rows: the samples that it belongs to."""
        return self.quantiser.quantise(self.down(rest, k)[rows].movedim(1, -1) / self.config.gain(k))

    def seen(self, total: Tensor, k: int) -> Tensor:
        """F before scale k [B, C, t, h, w] -> the input of scale k [B, C, t_k, h_k, w_k]; zeros for k = 0."""
        return self.down(total, k) if k else total.new_zeros((*total.shape[:2], *self.sizes[0]))

    def features(self, labels: Sequence[Tensor], kept: Tensor | None = None) -> Tensor:
        """Labels of the first scales, however many are given -> F after them, float32 [B, C, t, h, w].

        Raises UsageError for more labels than scales, or for none.
        """
        if not 1 <= len(labels) <= len(self.sizes):
            raise UsageError(f"got labels of {len(labels)} scales, but this pyramid has {len(self.sizes)}")
        shape = (len(labels[0]), self.quantiser.channels, *self.sizes[-1])
        total = torch.zeros(shape, device=labels[0].device)
        for k, part in enumerate(labels):
            total = self.accumulate(total, part, k, None if kept is None else kept[:, k])
        return total

    def decode(self, labels: Sequence[Tensor], kept: Tensor | None = None) -> Tensor:
        """Labels of all scales, [B, t_k, h_k, w_k, G] each -> the total of `quantise`, bit for bit in float32.

        kept: as `quantise` returned it. Raises UsageError for another number of scales.
        """
        if len(labels) != len(self.sizes):
            raise UsageError(f"got labels of {len(labels)} scales, but decoding needs all {len(self.sizes)}")
        return self.features(labels, kept)

    @torch.no_grad()
    def corrupt(self, latent: Tensor, flip: Flip) -> CorruptPyramid:
        """Bitwise self-correction (Infinity): every scale sees, and repairs, flipped labels of earlier scales.

        latent: [B, C, t, h, w]. flip(k, labels) returns the labels that F is built from (vidar.objectives.flips);
        later labels are those of the corrupted F.
        """
        latent = self._checked(latent)
        total = torch.zeros_like(latent)
        labels, flipped, inputs = [], [], []
        for k in range(len(self.sizes)):
            inputs.append(self.seen(total, k))
            labels.append(self._residual(latent - total, k).labels)
            flipped.append(flip(k, labels[-1]))
            total = self.accumulate(total, flipped[-1], k)
        return CorruptPyramid(total, tuple(labels), tuple(flipped), tuple(inputs))

    def per_frame(
        self, latent: Tensor, rngs: Sequence[Rng] | None = None, training: bool = False, start: int = 0
    ) -> PyramidCodes:
        """Quantise every frame of [B, C, T, h, w] as its own pyramid (VideoAR): frames are folded into the batch.

        Frame by frame gives the same bits as the whole clip; `start` is the number of the first frame, for the draws.
        Raises UsageError if a scale has t other than 1, and as `quantise` does.
        """
        batch, frames = len(latent), latent.shape[2]
        rows = frame_rows(rngs, frames, start) if rngs is not None else (None, None)
        codes = self._single(batch).quantise(fold_frames(latent), rows[0], training, rows[1])
        labels = tuple(_labels_back(part, batch) for part in codes.labels)
        kept = codes.kept.unflatten(0, (frames, batch)).transpose(0, 1)
        return PyramidCodes(unfold_frames(codes.total, batch), labels, kept, codes.loss)

    def _checked(self, latent: Tensor) -> Tensor:
        channels = self.quantiser.channels
        if latent.ndim != 5 or latent.shape[1] != channels or tuple(latent.shape[2:]) != self.sizes[-1]:
            shape = f"[B, {channels}, {', '.join(map(str, self.sizes[-1]))}]"
            raise UsageError(f"got latents of shape {list(latent.shape)}, but the last scale needs {shape}")
        return latent.to(torch.promote_types(latent.dtype, torch.float32)).contiguous()

    def _draw(self, batch: int, rngs: Sequence[Rng] | None, units: Sequence[int] | None) -> Tensor:
        """The scales that each row keeps in training, bool [B, K]; the first is always kept."""
        kept = torch.ones(batch, len(self.sizes), dtype=torch.bool)
        short, p_drop = self.config.num_short, self.config.p_drop
        if short is None and not p_drop:
            return kept
        if rngs is None or len(rngs) != batch:
            raise UsageError(f"training that drops scales needs one Rng per row, {batch}, not {len(rngs or ())}")
        for row, rng in enumerate(rngs):
            u = rng.uniform("dropped_scales", units[row] if units else 0, 0, (len(self.sizes),))
            kept[row, 1:] = u[1:] >= p_drop
            if short is not None and u[0] < self.config.p_short:
                kept[row, short:] = False
        return kept

    def _distance(self, latent: Tensor, total: Tensor) -> Loss:
        """VAR's loss on the running sum after one scale."""
        commitment, codebook = mean_square(total.detach(), latent), mean_square(total, latent.detach())
        parts = {"commitment": commitment.detach(), "codebook": codebook.detach()}
        return Loss((self.config.beta or 0.0) * commitment + codebook, parts)

    def down(self, x: Tensor, k: int) -> Tensor:
        """[B, C, t, h, w] -> its area average on the grid of scale k."""
        return x if x.shape[2:] == self.sizes[k] else F.adaptive_avg_pool3d(x, self.sizes[k])

    def _up(self, x: Tensor) -> Tensor:
        t, h, w = self.sizes[-1]
        if x.shape[2:] == (t, h, w):
            return x
        if self.config.up == "trilinear":
            return F.interpolate(x, size=(t, h, w), mode="trilinear")
        frames = F.interpolate(x.transpose(1, 2).flatten(0, 1), size=(h, w), mode="bicubic")
        return frames.unflatten(0, (len(x), t)).transpose(1, 2)

    def _phi(self, h: Tensor, k: int) -> Tensor:
        """(1 - rho) h + rho Conv3x3(h), frame by frame, with the convolution of scale k."""
        if not len(self.phi):
            return h
        conv = self.phi[phi_index(k, len(self.sizes), len(self.phi))]
        weight, bias = (p.to(h.dtype) for p in conv.parameters())
        frames = h.transpose(1, 2).flatten(0, 1).clone(memory_format=torch.contiguous_format)  # (b t) c h w
        pieces = frames.split(self._frames_at_once or max(len(frames), 1))
        mixed = torch.cat([F.conv2d(piece, weight, bias, padding=1) for piece in pieces])
        mixed = mixed.unflatten(0, (len(h), h.shape[2])).transpose(1, 2)
        return (1 - self.config.rho) * h + self.config.rho * mixed

    def _single(self, batch: int) -> MultiScale:
        """A view whose rows are frames, `batch` of them at a time."""
        if any(t != 1 for t, _, _ in self.sizes):
            raise UsageError(
                f"pyramids of single frames need t = 1 at every scale, not {[t for t, _, _ in self.sizes]}"
            )
        view = copy.copy(self)
        view._frames_at_once = batch
        return view


def phi_index(k: int, num_scales: int, num_phi: int) -> int:
    """The convolution that scale k uses: the one whose tick is nearest to k / (K - 1), the first of equals (VAR).

    Ticks: linspace(1/12, 11/12, 4) for four, else linspace(1/(2 M), 1 - 1/(2 M), M).
    """
    edge = 1 / 3 / num_phi if num_phi == 4 else 1 / 2 / num_phi
    return int(np.argmin(np.abs(np.linspace(edge, 1 - edge, num_phi) - k / max(num_scales - 1, 1))))


def fold_frames(x: Tensor) -> Tensor:
    """[B, C, T, h, w] -> [T B, C, 1, h, w], frame by frame."""
    return x.movedim(2, 0).flatten(0, 1).unsqueeze(2)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """Inverse of `fold_frames`: [T B, C, 1, h, w] -> [B, C, T, h, w]."""
    return x.squeeze(2).unflatten(0, (-1, batch)).movedim(0, 2)


def frame_rows(rngs: Sequence[Rng], frames: int, start: int = 0) -> tuple[list[Rng], list[int]]:
    """The Rng and the unit (its frame number) of every row of folded frames.

    `start` is the number of the first frame.
    """
    return list(rngs) * frames, [start + frame for frame in range(frames) for _ in rngs]


def _labels_back(labels: Tensor, batch: int) -> Tensor:
    """[T B, 1, h, w, G] -> [B, T, h, w, G]."""
    return unfold_frames(labels.movedim(-1, 1), batch).movedim(1, -1)


def _weighted(losses: Sequence[Loss], counts: Sequence[int]) -> Loss:
    """Mean over scales, each weighted by the number of rows that kept it."""
    weights = [count / sum(counts) for count in counts]
    parts = {name: torch.stack([w * x.parts[name] for w, x in zip(weights, losses)]).sum() for name in losses[0].parts}
    return Loss(torch.stack([w * x.total for w, x in zip(weights, losses)]).sum(), parts)
