"""How many codewords a quantiser uses."""

from __future__ import annotations

import torch
from torch import Tensor


def perplexity(labels: Tensor) -> float:
    """exp of the entropy of the codewords in labels [..., G], where all G parts of a site are one codeword.

    It is at most the number of codewords.
    """
    words = labels.reshape(-1, labels.shape[-1])
    counts = torch.unique(words, dim=0, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(torch.exp(-(share * share.log()).sum()))
