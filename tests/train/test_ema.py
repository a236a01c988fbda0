"""The average against its closed form."""

import torch
from torch import nn

from vidar.train.ema import Ema


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))


def test_constant_decay_closed_form():
    """Late in a run d is constant: weights 1 after a start at 0 average to 1 - d^n."""
    model = Counter()
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for n in range(20):
        ema.update(1000 + n)
    assert torch.allclose(ema.model.weight, torch.full((3,), 1 - 0.9**20, dtype=torch.float64))


def test_warm_up_closed_form():
    """With d_n = (1 + n) / (10 + n) the start weighs prod d_n = N! 9! / (N + 9)! after N updates."""
    model = Counter()
    ema = Ema(model, 0.9999)
    with torch.no_grad():
        model.weight.fill_(1.0)
    product = 1.0
    for n in range(12):
        ema.update(n)
        product *= (n + 1) / (n + 10)
    assert torch.allclose(ema.model.weight, torch.full((3,), 1 - product, dtype=torch.float64))


def test_follows_a_moving_weight_as_the_sum_says():
    model = Counter()
    ema = Ema(model, 0.5)
    expected = 0.0
    for n in range(10):
        with torch.no_grad():
            model.weight.fill_(float(n * n))
        ema.update(n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n * n
    assert torch.allclose(ema.model.weight, torch.full((3,), expected, dtype=torch.float64))


def test_buffers_are_copied_and_the_copy_is_its_own():
    model = Counter().train()
    ema = Ema(model, 0.9)
    model.seen.add_(7)
    assert ema.model.seen == 0
    ema.update(0)
    assert ema.model.seen == 7 and not ema.model.training and not ema.model.weight.requires_grad
    assert model.training and model.weight.requires_grad


def test_tied_weights_stay_tied_and_are_averaged_once():
    model = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 4, bias=False))
    model[1].weight = model[0].weight
    ema = Ema(model, 0.5)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    ema.update(1000)
    assert ema.model[1].weight is ema.model[0].weight
    assert torch.allclose(ema.model[0].weight, start + 0.5)
