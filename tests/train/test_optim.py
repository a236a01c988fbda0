"""The schedule and the two parameter groups."""

import math

import pytest
import torch
from torch import nn

from vidar.train.optim import OptimConfig, param_groups
from vidar.types import UsageError


def test_learning_rate_closed_form():
    optim = OptimConfig(lr=2.0, steps=100, warmup_steps=10, min_lr_ratio=0.1)
    cosine = {0.0: 1.0, 0.25: 0.5 + 0.5 * math.sqrt(0.5), 0.5: 0.5, 0.75: 0.5 - 0.5 * math.sqrt(0.5), 1.0: 0.0}
    for progress, value in cosine.items():
        assert optim.lr_at(50, progress) == pytest.approx(2.0 * (0.1 + 0.9 * value))
    for step in range(10):
        assert optim.lr_at(step, 0.0) == pytest.approx(2.0 * (step + 1) / 10)
    assert optim.lr_at(9, 0.5) == optim.lr_at(10, 0.5)
    assert optim.lr_at(500, 1.7) == pytest.approx(0.2)  # past the end: not up again


def test_no_warm_up_starts_at_the_full_rate():
    assert OptimConfig(lr=3.0, steps=5, warmup_steps=0).lr_at(0, 0.0) == 3.0


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.embed = nn.Embedding(5, 8)
        self.head = nn.Linear(8, 5)
        self.head.weight = self.embed.weight
        self.conv = nn.Conv3d(2, 3, 3)
        self.norm = nn.LayerNorm((4, 8))
        self.mix = nn.Linear(8, 8)


def test_only_matrices_are_decayed():
    model = Odd()
    decayed, plain = param_groups(model, 0.3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[p] for p in decayed["params"]} == {"conv.weight", "mix.weight"} and decayed["weight_decay"] == 0.3
    assert {names[p] for p in plain["params"]} == {
        "token", "embed.weight", "head.bias", "conv.bias", "norm.weight", "norm.bias", "mix.bias",
    }  # fmt: skip
    assert plain["weight_decay"] == 0.0 and len(decayed["params"]) + len(plain["params"]) == 9


def test_a_step_is_algorithm_2_of_adamw():
    model = nn.Linear(2, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = OptimConfig(lr=0.1, steps=10, weight_decay=0.5).build(model)
    model(torch.tensor([[1.0, -2.0]])).sum().backward()
    optimizer.step()
    # the first step of Adam is the sign of the gradient; decay multiplies the matrix by 1 - lr * wd
    expected = before["weight"] * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    assert torch.allclose(model.weight, expected, atol=1e-6)
    assert torch.allclose(model.bias, before["bias"] - 0.1, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"steps": 0}, {"min_lr_ratio": 1.5}, {"clip": 0.0}, {"warmup": 3}])
def test_wrong_values_are_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        OptimConfig(**{"lr": 1.0, "steps": 1, **wrong})
