"""Perplexity over joint label parts against counting."""

import math
from collections import Counter

import pytest
import torch

from vidar.eval.codewords import perplexity


def test_words_are_all_parts_together():
    labels = torch.randint(0, 2, (3, 5, 7, 4), generator=torch.Generator().manual_seed(0))
    counts = Counter(map(tuple, labels.reshape(-1, 4).tolist()))
    entropy = -sum(n / 105 * math.log(n / 105) for n in counts.values())
    assert perplexity(labels) == pytest.approx(math.exp(entropy))


def test_one_word_and_even_words():
    assert perplexity(torch.zeros(9, 3, dtype=torch.long)) == 1
    assert perplexity(torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]] * 5)) == pytest.approx(4)
