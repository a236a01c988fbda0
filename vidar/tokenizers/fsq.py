"""Finite scalar quantisation: every channel is rounded to its own few levels (Mentzer et al., 2023, section 3.1)."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from vidar.tokenizers.config import QuantiserConfig
from vidar.tokenizers.vq import check_labels, exact, straight_through, widen
from vidar.types import Loss, Quantised

SLACK = 1e-3  # eps: keeps tanh away from its limit, where the outermost level would be lost


class FSQConfig(QuantiserConfig):
    """levels: L_j of every channel."""

    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)

    @model_validator(mode="after")
    def _check(self) -> FSQConfig:
        if not self.levels or min(self.levels) < 2:
            raise ValueError("levels needs one entry per channel, each 2 or more")
        return self

    def build(self) -> FSQ:
        """The quantiser; it has no weights."""
        return FSQ(self)


class FSQ:
    """code = round(b) / floor(L / 2), b = tanh(u + shift) half - off; no auxiliary loss.

    half = (L - 1)(1 - eps) / 2, off = 1/2 for even L else 0, shift = atanh(off / half). Choice: for two levels, where
    that shift does not exist, b = tanh(u) and code = sign(u), -1 for 0, with the same spacing relative to the slope.
    """

    def __init__(self, config: FSQConfig) -> None:
        self.config = config
        self.classes: tuple[int, ...] = config.levels
        self.channels = len(config.levels)

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., C] -> code in [-1, 1] with the gradient of b / floor(L / 2), labels [..., C], loss 0."""
        x = widen(x, self.channels)
        with exact(x.device):
            two = x.new_tensor([level == 2 for level in self.classes], dtype=torch.bool)
            half = x.new_tensor([1.0 if n == 2 else (n - 1) * (1 - SLACK) / 2 for n in self.classes])
            off = x.new_tensor([0.5 if n % 2 == 0 and n > 2 else 0.0 for n in self.classes])
            middle = x.new_tensor([n // 2 for n in self.classes])
            bounded = torch.tanh(x + torch.atanh(off / half)) * half - off
            hard = torch.where(two, torch.where(bounded > 0, 1.0, -1.0).to(bounded), bounded.round()).detach()
            labels = ((hard + middle) / torch.where(two, 2, 1)).long()
            return Quantised(straight_through(bounded / middle, hard / middle), labels, Loss(x.new_zeros(())))

    def code(self, labels: Tensor) -> Tensor:
        """Labels [..., C] -> float32 [..., C]. Raises UsageError for a label out of range."""
        labels = check_labels(labels, self.classes)
        step = labels.new_tensor([2 if n == 2 else 1 for n in self.classes])
        middle = labels.new_tensor([n // 2 for n in self.classes])
        return (labels * step - middle).float() / middle.float()
