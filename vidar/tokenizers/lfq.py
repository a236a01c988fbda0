"""Lookup-free quantisation: the signs of the channels (Yu et al., "Language model beats diffusion", MAGVIT-v2, 2023).

Also the entropies of binary codes, and means over a batch that is distributed over ranks.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from vidar.tokenizers.config import QuantiserConfig
from vidar.tokenizers.vq import check_labels, exact, mean_square, straight_through, widen
from vidar.types import Loss, Quantised

MOST_EXACT = 16  # channels. Choice: more than 2^16 probabilities per position do not fit in memory beside a model


def batch_mean(p: Tensor) -> Tensor:
    """Mean over the first axis [n, ...] -> [...], over all ranks if p is trained; 0 if it is empty.

    The gradient is multiplied by the number of ranks, because data-parallel training averages gradients afterwards.
    The result is the gradient of one process with the whole batch. Without a gradient no rank waits for another.
    """
    total, count = p.sum(dim=0), p.new_tensor(float(len(p)))
    if p.requires_grad and dist.is_available() and dist.is_initialized():
        sums = torch.cat([total.detach().flatten(), count[None]])
        dist.all_reduce(sums)
        total = sums[:-1].reshape(total.shape) + dist.get_world_size() * (total - total.detach())
        count = sums[-1]
    return total / count.clamp_min(1)


def entropy(p: Tensor) -> Tensor:
    """- sum p ln p over all elements, in nats; value and gradient stay finite at p = 0."""
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()


def bit_entropies(logit: Tensor) -> tuple[Tensor, Tensor]:
    """Independent bits with logits [n, d] of being set: (mean over n of sum_j h(p_j), sum_j h(mean over n of p_j)),
    in nats.
    """
    off, on = torch.sigmoid(-logit), torch.sigmoid(logit)
    each = (on * F.softplus(-logit) + off * F.softplus(logit)).sum() / max(len(logit), 1)
    return each, entropy(batch_mean(torch.stack([off, on], dim=-1)))


def code_entropies(logit: Tensor) -> tuple[Tensor, Tensor]:
    """One choice among codes with logits [n, V]: (mean over n of H(p), H(mean over n of p)), in nats."""
    log_p = F.log_softmax(logit, dim=-1)
    each = -(log_p.exp() * log_p).sum() / max(len(logit), 1)
    return each, entropy(batch_mean(log_p.exp()))


class LFQConfig(QuantiserConfig):
    """channels: d bits. scale: magnitude s of a code's channels.

    inverse_temperature: of the softmax in the entropies.

    factorised: entropies of independent bits instead of a softmax over all 2^d codes. The mean entropy is the same;
    the entropy of the mean becomes that of its bits, which is an upper bound.
    """

    channels: int = Field(ge=1)
    scale: float = Field(default=1.0, gt=0)
    inverse_temperature: float = Field(default=100.0, gt=0)
    entropy_weight: float = 0.1
    commitment_weight: float = 0.25
    gamma: float = 1.0  # weight of the entropy of the mean
    factorised: bool = False

    @model_validator(mode="after")
    def _check(self) -> LFQConfig:
        if self.channels > MOST_EXACT and not self.factorised:
            raise ValueError(
                f"2^{self.channels} codes are too many for the exact entropy, which supports at most "
                f"{MOST_EXACT} channels; set factorised=true"
            )
        return self

    def build(self) -> LFQ:
        """The quantiser; it has no weights."""
        return LFQ(self)


class LFQ:
    """code = s sign(u), sign(0) = -1; label parts are bits [u_j > 0].

    L = w_e (E H(p(c|u)) - gamma H(E p(c|u))) + w_c |u - sg(code)|^2, p = softmax over c of 2 / temperature <u, c>.
    """

    def __init__(self, config: LFQConfig) -> None:
        self.config = config
        self.channels = config.channels
        self.classes: tuple[int, ...] = (2,) * config.channels

    def quantise(self, x: Tensor) -> Quantised:
        """float [..., d] -> code with identity gradient, bits [..., d], loss."""
        x = widen(x, self.channels)
        with exact(x.device):
            bits = x > 0
            level = x.new_tensor(self.config.scale)
            code = torch.where(bits, level, -level)
            each, both = self.entropies(x.reshape(-1, self.channels))
            commitment = mean_square(x, code)
            loss = self.config.entropy_weight * (each - self.config.gamma * both)
            loss = loss + self.config.commitment_weight * commitment
        parts = {"sample_entropy": each, "batch_entropy": both, "commitment": commitment}
        record = Loss(loss, {name: value.detach() for name, value in parts.items()})
        return Quantised(straight_through(x, code), bits.long(), record)

    def code(self, labels: Tensor) -> Tensor:
        """Bits [..., d] -> float32 [..., d]. Raises UsageError for a label out of range."""
        on = check_labels(labels, self.classes) > 0
        return torch.where(on, self.config.scale, -self.config.scale).float()

    def entropies(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, d] -> (mean entropy of a position, entropy of the batch), nats."""
        sharp = 2 * self.config.inverse_temperature * self.config.scale
        if self.config.factorised:
            return bit_entropies(2 * sharp * x)  # <u, c> of the two values of a bit differ by 2 s u_j
        every = torch.arange(2**self.channels, device=x.device)
        places = torch.arange(self.channels - 1, -1, -1, device=x.device)
        codes = (2 * (every[:, None] >> places & 1) - 1).to(x)  # 2^d d
        return code_entropies(sharp * x @ codes.T)
