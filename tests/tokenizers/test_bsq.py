"""BSQ: unit codes, 64 bits, entropies by enumeration, gradients by differences."""

import itertools
import math

import numpy as np
import pytest
import torch

from vidar.tokenizers.bsq import BSQConfig
from vidar.types import UsageError


def h(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def vectors(n, d, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, d)))


def test_by_hand():
    found = BSQConfig(channels=4).build().quantise(torch.tensor([[3.0, 0.0, -4.0, 0.0]]))
    assert found.code.tolist() == [[0.5, -0.5, -0.5, -0.5]] and found.labels.tolist() == [[1, 0, 0, 0]]
    # v = 0.6, 0, -0.8, 0; squares 0.01 + 0.25 + 0.09 + 0.25 over four
    assert found.loss.parts["commitment"].item() == pytest.approx(0.15)


def test_labels_of_64_bits_round_trip():
    bsq = BSQConfig(channels=64).build()
    found = bsq.quantise(vectors(100, 64).float().reshape(4, 25, 64))
    assert found.labels.shape == (4, 25, 64) and bsq.classes == (2,) * 64
    assert torch.equal(bsq.code(found.labels), found.code)
    assert torch.allclose(found.code.norm(dim=-1), torch.ones(4, 25))
    assert torch.equal(bsq.quantise(found.code).labels, found.labels)


def test_entropies_by_enumeration_of_every_code():
    x, d, sharp = vectors(5, 3), 3, 0.9
    bsq = BSQConfig(channels=d, inverse_temperature=sharp, zeta=2.0, gamma_0=0.7, gamma=0.4).build()
    codes = [[s / math.sqrt(d) for s in signs] for signs in itertools.product((-1, 1), repeat=d)]
    joint = []
    for u in x.numpy():
        v = u / np.linalg.norm(u)
        weight = [math.exp(2 * sharp * sum(a * b for a, b in zip(v, c))) for c in codes]
        joint.append([w / sum(weight) for w in weight])
    each, mean = np.mean([h(p) for p in joint]), np.mean(joint, axis=0)
    set_bit = [sum(q for q, c in zip(mean, codes) if c[j] > 0) for j in range(d)]
    product = [math.prod(b if s > 0 else 1 - b for b, s in zip(set_bit, c)) for c in codes]
    found = bsq.quantise(x)
    parts = {name: value.item() for name, value in found.loss.parts.items()}
    assert parts["sample_entropy"] == pytest.approx(each)
    assert parts["batch_entropy"] == pytest.approx(h(product))
    v = (x / x.norm(dim=1, keepdim=True)).numpy()
    commitment = np.mean((v - np.where(v > 0, 1, -1) / math.sqrt(d)) ** 2)
    want = 2.0 / sharp * 0.1 * (0.7 * each - 0.4 * h(product)) + 0.25 * commitment
    assert found.loss.total.item() == pytest.approx(want)


def test_gradients():
    bsq, x = BSQConfig(channels=3, inverse_temperature=1.5).build(), vectors(4, 3, seed=1).requires_grad_()
    weight = torch.arange(12.0).reshape(4, 3).double()
    through = torch.autograd.grad((bsq.quantise(x).code * weight).sum(), x)[0]
    direct = torch.autograd.grad((x / x.norm(dim=1, keepdim=True) * weight).sum(), x)[0]
    assert torch.allclose(through, direct)
    assert torch.autograd.gradcheck(lambda u: bsq.quantise(u).loss.total, x)
    zero = torch.zeros(2, 3, requires_grad=True)
    bsq.quantise(zero).loss.total.backward()
    assert zero.grad.isfinite().all()


def test_low_precision_is_widened_under_autocast():
    bsq, x = BSQConfig(channels=16).build(), vectors(9, 16, seed=2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        low = bsq.quantise(x)
    assert low.code.dtype == low.loss.total.dtype == torch.float32
    assert torch.equal(low.loss.total, bsq.quantise(x.float()).loss.total)
    assert bsq.quantise(x.double()).code.dtype == torch.float64
    assert bsq.quantise(x.double()).loss.total.item() == pytest.approx(low.loss.total.item(), rel=1e-4)


def test_errors_are_one_line():
    bsq = BSQConfig(channels=4).build()
    with pytest.raises(UsageError, match=r"^label 3 of part 2 lies outside 0 to 1$"):
        bsq.code(torch.tensor([[0, 1, 3, 0]]))
    with pytest.raises(UsageError, match=r"the last axis must be 4$"):
        bsq.code(torch.zeros(2, 64, dtype=torch.long))
    with pytest.raises(UsageError, match="the last axis must be 4"):
        bsq.quantise(torch.zeros(2, 3))
