"""Binary spherical quantisation: the signs of a unit vector (Zhao et al., 2024; entropies as in Infinity)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.tokenizers.config import QuantiserConfig
from vidar.tokenizers.lfq import bit_entropies
from vidar.tokenizers.vq import check_labels, exact, mean_square, straight_through, widen
from vidar.types import Loss, Quantised

SHORTEST = 1e-6  # smallest norm to divide by, which keeps the gradient of a zero vector finite


class BSQConfig(QuantiserConfig):
    """channels: d bits. The auxiliary loss is zeta / invT w_e (gamma_0 H_s - gamma H_b) + w_c |v - sg(code)|^2."""

    channels: int = Field(ge=1)
    inverse_temperature: float = Field(default=100.0, gt=0)
    zeta: float = 1.0
    gamma_0: float = 1.0  # weight of H_s, which is small if every position is sure of its bits
    gamma: float = 1.0  # weight of H_b, which is large if every bit is used evenly over the batch
    entropy_weight: float = 0.1
    commitment_weight: float = 0.25

    def build(self) -> BSQ:
        """The quantiser; it has no weights."""
        return BSQ(self)


class BSQ:
    """v = u / |u|, code = sign(v) / sqrt(d) on the unit sphere, sign(0) = -1; label parts are bits [v_j > 0].

    P(bit j clear) = sigmoid(-4 invT v_j / sqrt(d)): the exact softmax over the 2^d codes, whose bits are independent.
    """

    def __init__(self, config: BSQConfig) -> None:
        self.config = config
        self.channels = config.channels
        self.classes: tuple[int, ...] = (2,) * config.channels
        self.level = config.channels**-0.5  # magnitude of every channel of a code

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., d] -> code with the gradient of v, bits [..., d], loss."""
        x = widen(x, self.channels)
        with exact(x.device):
            v = F.normalize(x, dim=-1, eps=SHORTEST)
            bits = v > 0
            level = v.new_tensor(self.level)
            code = torch.where(bits, level, -level)
            sharp = 4 * self.config.inverse_temperature * self.level
            each, batch = bit_entropies(sharp * v.reshape(-1, self.channels))
            commitment = mean_square(v, code)
            weight = self.config.zeta / self.config.inverse_temperature * self.config.entropy_weight
            loss = weight * (self.config.gamma_0 * each - self.config.gamma * batch)
            loss = loss + self.config.commitment_weight * commitment
        parts = {"sample_entropy": each, "batch_entropy": batch, "commitment": commitment}
        record = Loss(loss, {name: value.detach() for name, value in parts.items()})
        return Quantised(straight_through(v, code), bits.long(), record)

    def code(self, labels: Tensor) -> Tensor:
        """Bits [..., d] -> float32 [..., d] of norm 1. Raises UsageError for a label out of range."""
        on = check_labels(labels, self.classes) > 0
        return torch.where(on, self.level, -self.level).float()
