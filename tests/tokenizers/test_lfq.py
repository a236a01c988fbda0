"""LFQ: signs, entropies by enumeration of every code, gradients by differences, the batch spread over ranks."""

import itertools
import math

import numpy as np
import pytest
import torch

from vidar.tokenizers.lfq import LFQConfig, batch_mean, entropy
from vidar.types import UsageError


def probabilities(u, codes, inverse_temperature):
    logit = [2 * inverse_temperature * sum(a * b for a, b in zip(u, c)) for c in codes]
    top = max(logit)
    weight = [math.exp(x - top) for x in logit]
    return [w / sum(weight) for w in weight]


def h(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def vectors(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_signs_and_labels_by_hand():
    lfq = LFQConfig(channels=3, scale=0.5).build()
    found = lfq.quantise(torch.tensor([[0.2, 0.0, -3.0]]))
    assert found.code.tolist() == [[0.5, -0.5, -0.5]] and found.labels.tolist() == [[1, 0, 0]]
    assert torch.equal(lfq.code(found.labels), found.code) and lfq.classes == (2, 2, 2)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_exact_entropies_by_enumeration(scale):
    x = vectors(6, 3)
    lfq = LFQConfig(channels=3, scale=scale, inverse_temperature=0.7, gamma=0.6).build()
    codes = [[scale * s for s in signs] for signs in itertools.product((-1, 1), repeat=3)]
    p = [probabilities(u, codes, 0.7) for u in x]
    each, mean = np.mean([h(q) for q in p]), np.mean(p, axis=0)
    loss = lfq.quantise(torch.tensor(x).reshape(2, 3, 3)).loss
    assert loss.parts["sample_entropy"].item() == pytest.approx(each)
    assert loss.parts["batch_entropy"].item() == pytest.approx(h(mean))
    commitment = np.mean((x - scale * np.where(x > 0, 1, -1)) ** 2)
    assert loss.total.item() == pytest.approx(0.1 * (each - 0.6 * h(mean)) + 0.25 * commitment)


def test_factorised_entropies_are_those_of_independent_bits():
    x = vectors(6, 3, seed=1)
    exact, split = (LFQConfig(channels=3, inverse_temperature=0.7, factorised=f).build() for f in (False, True))
    each, batch = split.entropies(torch.tensor(x))
    assert each.item() == pytest.approx(exact.entropies(torch.tensor(x))[0].item()), "bits of one position are free"
    codes = list(itertools.product((-1, 1), repeat=3))
    mean = np.mean([probabilities(u, codes, 0.7) for u in x], axis=0)
    set_bit = [sum(q for q, c in zip(mean, codes) if c[j] > 0) for j in range(3)]
    product = [math.prod(b if s > 0 else 1 - b for b, s in zip(set_bit, c)) for c in codes]
    assert batch.item() == pytest.approx(h(product)) and batch > h(mean) + 1e-4


@pytest.mark.parametrize("factorised", [False, True])
def test_gradients_by_differences(factorised):
    lfq = LFQConfig(channels=3, inverse_temperature=1.5, factorised=factorised).build()
    x = torch.tensor(vectors(4, 3, seed=2)).requires_grad_()
    weight = torch.arange(12.0).reshape(4, 3).double()
    assert torch.equal(torch.autograd.grad((lfq.quantise(x).code * weight).sum(), x)[0], weight)
    assert torch.autograd.gradcheck(lambda u: lfq.quantise(u).loss.total, x)


@pytest.mark.parametrize("factorised", [False, True])
def test_sure_positions_give_finite_gradients(factorised):
    x = torch.full((3, 4), 50.0, requires_grad=True)
    loss = LFQConfig(channels=4, factorised=factorised).build().quantise(x).loss
    loss.total.backward()
    assert loss.parts["batch_entropy"] == 0 and torch.allclose(x.grad, torch.tensor(0.25 * 2 * 49 / 12))
    p = torch.tensor([0.0, 1.0], requires_grad=True)
    entropy(p).backward()
    assert p.grad.isfinite().all()


def test_the_batch_mean_is_that_of_all_ranks(monkeypatch):
    x = torch.tensor(vectors(6, 2, seed=3)).requires_grad_()
    (batch_mean(x.exp()) ** 2).sum().backward()
    want, grads, values = x.grad.clone(), [], []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    halves = x.detach().split([2, 4])
    for mine, other in (halves, halves[::-1]):
        sums = torch.cat([other.exp().sum(0), torch.tensor([float(len(other))])])
        monkeypatch.setattr("torch.distributed.all_reduce", lambda t, sums=sums: t.add_(sums))
        mine = mine.clone().requires_grad_()
        values.append(batch_mean(mine.exp()))
        (values[-1] ** 2).sum().backward()
        grads.append(mine.grad / 2)  # data-parallel training averages over two ranks
    assert torch.allclose(torch.cat(grads), want)
    assert torch.allclose(values[0], x.exp().mean(0)) and torch.allclose(values[1], values[0])
    monkeypatch.setattr("torch.distributed.all_reduce", lambda t: pytest.fail("nobody trains: nobody waits"))
    batch_mean(halves[0])


def test_low_precision_is_widened_under_autocast():
    x = torch.tensor(vectors(9, 4, seed=4)).bfloat16()
    lfq = LFQConfig(channels=4, inverse_temperature=1.0).build()
    with torch.autocast("cpu", torch.bfloat16):
        low = lfq.quantise(x)
    assert low.code.dtype == torch.float32 and torch.equal(low.loss.total, lfq.quantise(x.float()).loss.total)


def test_nothing_has_no_loss():
    for factorised in (False, True):
        found = LFQConfig(channels=3, factorised=factorised).build().quantise(torch.zeros(0, 3))
        assert found.loss.total == 0 and found.labels.shape == (0, 3)


def test_errors_are_one_line():
    message = r"2\^17 codes are too many for the exact entropy, which supports at most 16 channels; set factorised=true"
    with pytest.raises(UsageError, match=message):
        LFQConfig(channels=17)
    assert LFQConfig(channels=17, factorised=True).build().channels == 17
    lfq = LFQConfig(channels=2).build()
    with pytest.raises(UsageError, match=r"^label 2 of part 1 lies outside 0 to 1$"):
        lfq.code(torch.tensor([[1, 2]]))
    with pytest.raises(UsageError, match="the last axis must be 2"):
        lfq.quantise(torch.zeros(2, 4))
