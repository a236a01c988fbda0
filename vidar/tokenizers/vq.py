"""Vector quantisation: the nearest of V learned vectors (van den Oord et al., 2017).

Also what all quantisers share: the checks of vectors and labels, and the straight-through gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vidar.rng import Rng
from vidar.tokenizers.config import QuantiserConfig
from vidar.types import Loss, Quantised, UsageError

NO_MASS = 1e-6  # a code with a smaller running count does not move, because its quotient would be noise


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast; for meta tensors nothing needs to be disabled."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def widen(x: Tensor, channels: int) -> Tensor:
    """Return x [..., C] in float32 or wider. Raises UsageError for another number of channels."""
    if not x.ndim or x.shape[-1] != channels:
        raise UsageError(f"vectors of shape {list(x.shape)} cannot be quantised; the last axis must be {channels}")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_labels(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return labels [..., G]. Raises UsageError for another G, for fractions, and for a part outside its range."""
    if not labels.ndim or labels.shape[-1] != len(classes):
        raise UsageError(
            f"labels of shape {list(labels.shape)} cannot be decoded; the last axis must be {len(classes)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UsageError(f"labels must be integers, not {str(labels.dtype).removeprefix('torch.')}")
    wrong = (labels < 0) | (labels >= torch.tensor(classes, device=labels.device))
    if not labels.is_meta and wrong.any():  # meta tensors have no values to check
        part = int(wrong.nonzero()[0, -1])
        raise UsageError(f"label {int(labels[wrong][0])} of part {part} lies outside 0 to {classes[part] - 1}")
    return labels


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """Exactly `hard`, bit for bit, with the gradient of `soft`; both have the same shape."""
    return hard.detach() + (soft - soft.detach())


def mean_square(x: Tensor, y: Tensor) -> Tensor:
    """Mean of (x - y)^2 over all elements; 0 if there are none."""
    return F.mse_loss(x, y, reduction="sum") / max(x.numel(), 1)


class VQConfig(QuantiserConfig):
    """size: V. beta: weight of the loss that pulls x to its code.

    decay: None trains the codebook by gradient; a number updates it by running means (2017, appendix A.1), and the
    loss then has no codebook term. revive_after: number of updates without a hit after which a code is replaced;
    None: never.
    """

    channels: int = Field(ge=1)
    size: int = Field(default=4096, ge=1)
    beta: float = Field(default=0.25, ge=0)
    cosine: bool = False  # nearest by angle instead of distance (VAR's `using_znorm`)
    decay: float | None = Field(default=None, ge=0, lt=1)
    revive_after: int | None = Field(default=None, ge=1)
    seed: int = 0

    def build(self) -> VQ:
        """A new codebook, uniform in +-1/V."""
        return VQ(self)


class VQ(nn.Module):
    """Codebook [V, C]; a label is the index of a row, one part with V classes.

    In training mode `quantise` counts what it sees, and `update`, called once per optimiser step, moves the usage,
    the running means and the dead codes. The codebook is constant within a step, so labels decode to the same codes.
    `forget` drops the counts of a step that was skipped.
    """

    codebook: Tensor
    hits: Tensor
    idle: Tensor
    updates: Tensor
    mass: Tensor
    total: Tensor

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = config.channels
        self.classes: tuple[int, ...] = (config.size,)
        shape = (config.size, config.channels)
        drawn = (2 * Rng(config.seed).uniform("codebook", shape=shape) - 1) / config.size
        start = torch.empty(shape).copy_(drawn)  # without storage on the meta device
        if config.decay is None:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("mass", torch.ones(config.size))  # Choice: starts as one vector per code
            self.register_buffer("total", start.clone())
        self.register_buffer("hits", torch.zeros(config.size))
        self.register_buffer("idle", torch.zeros(config.size, dtype=torch.long))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.forget()

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., C] -> code, labels [..., 1] and beta |sg(code) - x|^2 + |code - sg(x)|^2, mean squared."""
        x = widen(x, self.channels)
        with exact(x.device):
            flat = x.reshape(-1, self.channels)
            index = self.nearest(flat)
            if self.training and not x.is_meta:  # meta tensors cannot be counted
                self._count(flat.detach(), index)
            code = F.embedding(index, self.codebook).to(x.dtype).reshape(x.shape)
            commitment = mean_square(x, code.detach())
            codebook = mean_square(code, x.detach())  # a constant if running means move the codebook
            parts = {"commitment": commitment.detach(), "codebook": codebook.detach()}
            loss = self.config.beta * commitment
            if self.config.decay is None:
                loss = loss + codebook
        return Quantised(straight_through(x, code), index.reshape(*x.shape[:-1], 1), Loss(loss, parts))

    def code(self, labels: Tensor) -> Tensor:
        """Labels [..., 1] -> [..., C], differentiable in the codebook. Raises UsageError for a label out of range."""
        return F.embedding(check_labels(labels, self.classes)[..., 0], self.codebook)

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """[n, C] -> index [n] of the nearest code; the first of equals."""
        codebook = self.codebook.to(x.dtype)
        if self.config.cosine:
            return (x @ F.normalize(codebook, dim=1).T).argmax(dim=1)
        return (codebook.square().sum(dim=1) - 2 * x @ codebook.T).argmin(dim=1)  # |x - z|^2 - |x|^2

    def usage(self) -> Tensor:
        """Fraction of codes in use: codes with at least 0.08 of an even share of the running hits (VAR)."""
        return ((self.hits > 0) & (self.hits >= 0.08 * self.hits.sum() / self.config.size)).float().mean()

    @torch.no_grad()
    def update(self) -> None:
        """Called once per optimiser step on every rank: usage, running means, revival.

        Changes nothing if nothing was seen.

        Choice: hits are counted per step over all calls, where VAR keeps one count per scale.
        """
        counts, sums, pool = self._counts, self._sums, self._pool
        if counts is None or sums is None:
            return
        self.forget()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        done = int(self.updates)
        keep = 0.0 if done == 0 else 0.9 if done < 100 else 0.99  # VAR
        self.hits.mul_(keep).add_(counts, alpha=1 - keep)
        self.idle.copy_(torch.where(counts > 0, 0, self.idle + 1))
        if self.config.decay is not None:
            self.mass.lerp_(counts.to(self.mass), 1 - self.config.decay)
            self.total.lerp_(sums.to(self.total), 1 - self.config.decay)
            mean = self.total / self.mass.clamp_min(NO_MASS)[:, None]
            self.codebook.copy_(torch.where(self.mass[:, None] > NO_MASS, mean, self.codebook))
        if pool is not None:
            self._revive(pool)
        self.updates += 1

    def forget(self) -> None:
        """Drop the counts since the last `update`."""
        self._calls = 0
        self._counts: Tensor | None = None  # [V]
        self._sums: Tensor | None = None  # [V, C]
        self._keys: Tensor | None = None  # [n], sorted
        self._pool: Tensor | None = None  # [n, C], n at most V: a random sample of the vectors seen

    @torch.no_grad()
    def _count(self, x: Tensor, index: Tensor) -> None:
        counts = torch.bincount(index, minlength=self.config.size).to(x.dtype)
        sums = torch.zeros_like(self.codebook, dtype=x.dtype).index_add_(0, index, x)
        self._counts = counts if self._counts is None else self._counts + counts
        self._sums = sums if self._sums is None else self._sums + sums
        if self.config.revive_after is not None:
            rng = Rng(self.config.seed)
            keys = rng.uniform("revived_codes", int(self.updates), self._calls, (len(x),)).to(x.device)
            keys = keys if self._keys is None else torch.cat([self._keys, keys])
            pool = x if self._pool is None else torch.cat([self._pool, x])
            order = torch.argsort(keys, stable=True)[: self.config.size]
            self._keys, self._pool = keys[order], pool[order]
        self._calls += 1

    def _revive(self, pool: Tensor) -> None:
        """Replace codes that were idle for long by vectors of this step, each vector at most once."""
        dead = (self.idle >= (self.config.revive_after or 0)).nonzero()[:, 0]
        changed = [self.codebook.data, self.idle]
        if self.config.decay is not None:
            changed += [self.mass, self.total]
        if len(dead):
            dead = dead[: len(pool)]
            fresh = pool[: len(dead)].to(self.codebook)
            self.codebook.data[dead] = fresh
            self.idle[dead] = 0
            if self.config.decay is not None:
                self.mass[dead], self.total[dead] = 1.0, fresh
            if dist.is_available() and dist.is_initialized():
                for tensor in changed:  # the vectors of the first rank, on all ranks
                    dist.broadcast(tensor, 0)
