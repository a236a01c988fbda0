"""VQ against loops: nearest codes, both sides of the loss, running means, usage, revival, and ranks."""

import numpy as np
import pytest
import torch

from vidar.config import from_dict, to_dict
from vidar.rng import Rng
from vidar.tokenizers.vq import VQConfig, check_labels
from vidar.types import UsageError


def vq(codes, **options):
    codes = torch.tensor(codes, dtype=torch.float64)
    model = VQConfig(channels=codes.shape[1], size=len(codes), **options).build().double()
    model.codebook.data.copy_(codes)
    if options.get("decay") is not None:
        model.total.copy_(codes)
    return model


def test_nearest_by_distance_and_by_angle():
    rng = np.random.default_rng(0)
    codes, x = rng.normal(size=(7, 3)), rng.normal(size=(4, 5, 3))
    near, angle = np.zeros((4, 5, 1), int), np.zeros((4, 5, 1), int)
    for i in np.ndindex(4, 5):
        near[i] = min(range(7), key=lambda v: sum((codes[v][c] - x[i][c]) ** 2 for c in range(3)))
        angle[i] = max(range(7), key=lambda v: codes[v] @ x[i] / np.linalg.norm(codes[v]) / np.linalg.norm(x[i]))
    assert (near != angle).any()
    for cosine, want in ((False, near), (True, angle)):
        model = vq(codes.tolist(), cosine=cosine)
        found = model.quantise(torch.tensor(x))
        assert np.array_equal(found.labels, want)
        assert np.array_equal(found.code.detach(), codes[want[..., 0]])
        assert torch.equal(model.code(found.labels), found.code)
    assert torch.equal(vq([[1.0, 0.0], [1.0, 0.0]]).quantise(torch.ones(1, 2)).labels, torch.tensor([[0]]))


def test_by_hand():
    model = vq([[0.0, 0.0], [2.0, 4.0]])
    x = torch.tensor([[1.0, 0.0], [2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    found = model.quantise(x)
    assert found.labels.tolist() == [[0], [1]]
    # squares 1 + 0 and 0 + 1 over four elements: 1/2, once with weight 1/4 and once with 1
    assert found.loss.total.item() == pytest.approx(0.25 * 0.5 + 0.5)
    assert found.loss.parts["commitment"].item() == found.loss.parts["codebook"].item() == 0.5
    found.loss.total.backward()
    assert torch.allclose(x.grad, 0.25 * 2 / 4 * torch.tensor([[1.0, 0], [0, -1]]).double())
    assert torch.allclose(model.codebook.grad, 2 / 4 * torch.tensor([[-1.0, 0], [0, 1]]).double())


def test_gradients_go_straight_through_and_match_differences():
    model, x = vq([[0.0, 0.3], [2.0, 4.0], [-1.0, 1.0]]), torch.tensor([[0.9, 0.1], [-2.0, 3.0]]).double()
    x.requires_grad_()
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    assert torch.equal(torch.autograd.grad((model.quantise(x).code * weight).sum(), x)[0], weight)
    # the stopped sides hold still: only x moves in the first term, only the codes in the second
    code = model.quantise(x).code.detach()
    slow = torch.zeros_like(x)
    for i in np.ndindex(2, 2):
        for sign in (1, -1):
            moved = x.detach().clone()
            moved[i] += sign * 1e-6
            slow[i] += sign * 0.25 * ((code - moved) ** 2).mean() / 2e-6
    fast = torch.autograd.grad(model.quantise(x).loss.total, x)[0]
    assert torch.allclose(fast, slow, atol=1e-8)


def test_running_means_are_k_means_steps():
    codes = [[0.0, 0.0], [4.0, 4.0], [50.0, 50.0]]
    model = vq(codes, decay=0.75)
    mass, total = np.ones(3), np.array(codes)
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = rng.normal(size=(9, 2)) * 3 + 2
        before = model.codebook.clone()
        loss = model.quantise(torch.tensor(x[:4])).loss
        model.quantise(torch.tensor(x[4:]))
        assert torch.equal(model.codebook, before), "codes stand still within a step"
        nearest = ((x[:, None] - before.numpy()) ** 2).sum(-1).argmin(1)
        for v in range(3):
            mine = x[nearest == v]
            mass[v] = 0.75 * mass[v] + 0.25 * len(mine)
            total[v] = 0.75 * total[v] + 0.25 * mine.sum(0)
        model.update()
        assert np.allclose(model.codebook, total / mass[:, None])
        assert loss.total.item() == pytest.approx(0.25 * loss.parts["commitment"].item()), "no codebook term"
    assert torch.allclose(model.codebook[2], torch.tensor([50.0, 50.0]).double()), "nobody's code stays"
    assert not model.codebook.requires_grad
    sharp = vq([[0.0, 0.0], [10.0, 10.0]], decay=0.0)
    sharp.quantise(torch.tensor([[1.0, 0.0], [3.0, 2.0]]).double())
    sharp.update()
    assert sharp.codebook.tolist() == [[2, 1], [10, 10]]


def test_only_training_counts_and_update_forgets():
    model = vq([[0.0, 0.0], [4.0, 4.0]], decay=0.5)
    model.eval().quantise(torch.ones(5, 2))
    model.update()
    assert int(model.updates) == 0 and not model.hits.any()
    model.train().quantise(torch.ones(5, 2))
    model.update()
    once = model.codebook.clone()
    model.update()
    assert int(model.updates) == 1 and torch.equal(once, model.codebook)


def test_usage_follows_the_running_hits():
    model = vq([[0.0], [10.0], [20.0], [30.0]])
    assert model.usage() == 0
    hits = np.zeros(4)
    for n in range(104):
        x = torch.zeros(10, 1)
        x[0] = 10.0 if n < 102 else 20.0
        x[1] = 30.0 if n == 0 else 0.0
        model.quantise(x)
        model.update()
        counts = np.array([[10 * v == c for v in range(4)] for c in x[:, 0].tolist()]).sum(0)
        keep = 0 if n == 0 else 0.9 if n < 100 else 0.99
        hits = keep * hits + (1 - keep) * counts
        assert np.allclose(model.hits, hits)
        assert model.usage().item() == (hits >= 0.08 * 10 / 4).mean()  # 10 vectors over 4 codes
    assert model.usage() == 0.5


def test_dead_codes_become_vectors_of_the_step():
    def run(calls):
        model = vq([[0.0, 0.0], [90.0, 90.0], [80.0, 80.0]], decay=0.9, revive_after=2, seed=3)
        for step in range(2):
            x = torch.arange(12.0).reshape(6, 2).double() / 8 + step
            for piece in x.chunk(calls):
                model.quantise(piece)
            assert torch.equal(model.codebook[1:], torch.tensor([[90.0] * 2, [80.0] * 2]).double())
            model.update()
        return model, x

    for calls in (1, 2):
        model, x = run(calls)
        keys = [Rng(3).uniform("revived_codes", 1, call, (len(piece),)) for call, piece in enumerate(x.chunk(calls))]
        order = torch.argsort(torch.cat(keys))
        assert torch.equal(model.codebook[1:], x[order[:2]]), "two different vectors of the last step"
        assert model.idle.tolist() == [0, 0, 0] and model.mass[1:].tolist() == [1, 1]
        assert torch.equal(model.total[1:], model.codebook[1:])
        assert torch.equal(run(calls)[0].codebook, model.codebook)
    few = vq([[0.0, 0.0], [90.0, 90.0], [80.0, 80.0]], revive_after=1)
    few.quantise(torch.ones(1, 2).double())
    few.update()
    assert few.codebook.tolist() == [[0, 0], [1, 1], [80, 80]] and few.idle.tolist() == [0, 0, 1]


def test_ranks_share_their_counts(monkeypatch):
    whole, rank = (vq([[0.0], [3.0]], decay=0.5) for _ in range(2))
    x = torch.tensor([[1.0], [2.0], [0.5], [0.0]]).double()
    whole.quantise(x)
    whole.update()
    other = iter([torch.tensor([2.0, 0.0]), torch.tensor([[0.5], [0.0]])])  # counts and sums of the last two
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda t: t.add_(next(other)))
    rank.quantise(x[:2])
    rank.update()
    assert torch.equal(rank.codebook, whole.codebook) and torch.equal(rank.hits, whole.hits)


def test_low_precision_is_widened_and_the_start_follows_the_seed():
    model = VQConfig(channels=4, size=16, seed=5).build()
    assert torch.equal(model.codebook, VQConfig(channels=4, size=16, seed=5).build().codebook)
    assert not torch.equal(model.codebook, VQConfig(channels=4, size=16).build().codebook)
    assert model.codebook.abs().max() <= 1 / 16 and model.codebook.abs().max() > 0.8 / 16
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.quantise(x)
    assert found.code.dtype == torch.float32
    assert torch.equal(found.labels, model.quantise(x.float()).labels)
    config = VQConfig(channels=4, decay=0.9)
    assert from_dict(to_dict(config)) == config


def test_errors_are_one_line():
    model = vq([[0.0, 0.0], [4.0, 4.0]])
    with pytest.raises(UsageError, match=r"^vectors of shape \[3, 5\] cannot be quantised; the last axis must be 2$"):
        model.quantise(torch.zeros(3, 5))
    with pytest.raises(UsageError, match=r"^label 2 of part 0 lies outside 0 to 1$"):
        model.code(torch.tensor([[0], [2]]))
    with pytest.raises(UsageError, match=r"^label -1 of part 1 lies outside 0 to 2$"):
        check_labels(torch.tensor([[1, -1]]), (2, 3))
    with pytest.raises(UsageError, match=r"^labels of shape \[4, 2\] cannot be decoded; the last axis must be 1$"):
        model.code(torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(UsageError, match=r"^labels must be integers, not float32$"):
        model.code(torch.zeros(4, 1))
