"""The method: it learns which way shapes move, also on worn pictures; its losses and its wear are what they say."""

import math

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.nn.inverse_dynamics import InverseDynamicsNet, InverseDynamicsNetConfig, KeyGroup, labels
from vidar.rng import Rng
from vidar.train.methods.inverse_dynamics import (
    InverseDynamicsConfig,
    WearConfig,
    balanced_cross_entropy,
    gaussian,
    wear,
)
from vidar.types import Segment, UsageError

SPEC = ActionSpec(actions=tuple(Action(name=name) for name in ("LEFT", "RIGHT", "LIGHT")))
GROUPS = {"way": KeyGroup(classes=(("LEFT",), ("RIGHT",))), "light": KeyGroup(classes=(("LIGHT",),))}
NET = InverseDynamicsNetConfig(
    spec=SPEC, groups=GROUPS, height=16, width=24, before=1, after=0, stem=(8, 16), widths=(16, 16)
)
SHARES = {"way": (0.34, 0.33, 0.33), "light": (0.5, 0.5)}
PLAIN = InverseDynamicsConfig(model=NET, shares=SHARES, wear=None)
HEAVY = WearConfig(intact=0.0)


def toy(seed: int, batch: int = 8, frames: int = 5) -> Segment:
    """A textured strip that LEFT and RIGHT move by two pixels, with a lamp in a corner that LIGHT turns on."""
    random = np.random.default_rng(seed)
    way = random.integers(-1, 2, (batch, frames))
    light = random.integers(0, 2, (batch, frames))
    actions = np.stack([way == -1, way == 1, light == 1], -1).astype(np.float32)
    texture = np.repeat(np.repeat(random.integers(60, 200, (batch, 4, 100, 3)), 4, 1), 3, 2)
    place = 130 + 2 * np.cumsum(way, 1)
    video = np.stack([[texture[b, :, p : p + 24] for p in place[b]] for b in range(batch)]).astype(np.uint8)
    video[:, :, :5, :5] = np.where(light == 1, 255, 0)[:, :, None, None, None]
    actions[:, 0] = 0
    unknown = torch.zeros(batch, frames, dtype=torch.bool)
    unknown[:, 0] = True
    number = torch.arange(batch) + seed * batch
    return Segment(torch.from_numpy(video), torch.from_numpy(actions), unknown, number, ["toy"] * batch)


def rngs(batch: Segment) -> list[Rng]:
    return [Rng(0, number) for number in batch.number.tolist()]


def right(net: InverseDynamicsNet, batch: Segment, video: torch.Tensor) -> list[float]:
    truth = labels(batch.actions[:, NET.steps(video.shape[1])], SPEC, GROUPS)
    return (net.predict(video) == truth).double().mean((0, 1)).tolist()


def trained(config: InverseDynamicsConfig, batches: list[Segment], steps: int) -> InverseDynamicsNet:
    torch.manual_seed(0)
    method = config.build()
    net = method.build_model()
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
    for step in range(steps):
        batch = batches[step % len(batches)]
        method.step(net, batch, rngs(batch)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def test_it_learns_what_moves_the_picture():
    net = trained(PLAIN, [toy(seed) for seed in range(60)], 60)
    fresh = toy(1000, batch=32)
    assert min(right(net, fresh, fresh.video)) > 0.95
    still = fresh.video[:, :1].expand(-1, 5, -1, -1, -1)
    assert (net.predict(still)[..., 0] == 0).double().mean() > 0.9  # a picture that stands: no way


def test_it_learns_one_clip_by_heart():
    """Labels without reason: the overfit self test."""
    batch = toy(0, batch=2)
    nonsense = torch.from_numpy(np.random.default_rng(5).integers(0, 2, batch.actions.shape).astype(np.float32))
    batch = Segment(batch.video, nonsense, batch.unknown, batch.number, batch.names)
    net = trained(PLAIN, [batch], 60)
    assert right(net, batch, batch.video) == [1.0, 1.0]


def test_wear_teaches_worn_pictures():
    batches = [toy(seed) for seed in range(60)]
    fresh = toy(1000, batch=32)
    worn = wear(fresh.video, WearConfig(intact=0.0, noise=0.6), rngs(fresh))
    plain = trained(PLAIN, batches, 60)
    hardened = trained(PLAIN.replace(wear=WearConfig(intact=0.2, noise=0.6)), batches, 60)
    assert right(hardened, fresh, worn)[0] > right(plain, fresh, worn)[0] + 0.05


def test_loss_by_hand():
    shares, wanted = (0.7, 0.2, 0.1), torch.tensor([0, 2])
    logits = torch.tensor([[1.0, 0, 2], [0, 0, 0]])
    first = -math.log(0.7 * math.e / (0.7 * math.e + 0.2 + 0.1 * math.e**2))
    assert math.isclose(balanced_cross_entropy(logits, wanted, shares), (first - math.log(0.1)) / 2, rel_tol=1e-6)


def test_the_best_logits_are_balanced():
    """Where nothing is to be seen, all classes come out alike, however rare."""
    wanted = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    logits = torch.zeros(3, requires_grad=True)
    balanced_cross_entropy(logits.expand(100, 3), wanted, (0.7, 0.2, 0.1)).backward()
    assert logits.grad.abs().max() < 1e-6
    plain = torch.zeros(3, requires_grad=True)
    balanced_cross_entropy(plain.expand(100, 3), wanted, (1 / 3, 1 / 3, 1 / 3)).backward()
    assert plain.grad.abs().max() > 0.1


def test_shares_fit_the_groups():
    with pytest.raises(UsageError, match="one number for each label of each group"):
        PLAIN.replace(shares={"way": (0.5, 0.5), "light": (0.5, 0.5)})


def test_unknown_steps_are_not_asked():
    torch.manual_seed(0)
    method = PLAIN.build()
    net, batch = method.build_model(), toy(3)
    changed = batch.actions.clone()
    changed[:, 2] = 1 - changed[:, 2]
    unknown = batch.unknown.clone()
    unknown[:, 2] = True
    other = Segment(batch.video, changed, unknown, batch.number, batch.names)
    same = Segment(batch.video, batch.actions, unknown, batch.number, batch.names)
    assert torch.equal(method.step(net, other, []).total, method.step(net, same, []).total)
    asked = Segment(batch.video, changed, batch.unknown, batch.number, batch.names)
    assert not torch.equal(method.step(net, asked, []).total, method.step(net, batch, []).total)


def test_wear_is_keyed_and_stays_in_range():
    batch = toy(2)
    worn = wear(batch.video, HEAVY, rngs(batch))
    assert worn.shape == batch.video.shape and worn.min() >= 0 and worn.max() <= 255
    assert torch.equal(worn, wear(batch.video, HEAVY, rngs(batch)))
    alone = wear(batch.video[3:4], HEAVY, rngs(batch)[3:4])
    assert torch.allclose(alone[0], worn[3], atol=1e-3)
    assert not torch.allclose(worn, wear(batch.video, HEAVY, [Rng(1, n) for n in range(8)]), atol=1)
    for nothing in (HEAVY.replace(intact=1.0), WearConfig(intact=0.0, blur=0, light=0, tint=0, contrast=0, noise=0)):
        assert torch.allclose(wear(batch.video, nothing, rngs(batch)), batch.video.float(), atol=1e-3)


def test_blur_is_a_gaussian():
    sigma = torch.tensor([0.0, 1.0, 3.0])
    matrix = gaussian(41, sigma)
    assert torch.allclose(matrix.sum(-1), torch.ones(3, 41)) and torch.allclose(matrix[0], torch.eye(41))
    row = matrix[1, 20]
    assert math.isclose(row[21] / row[20], math.exp(-0.5), rel_tol=1e-5)
    spread = (matrix[:, 20] * (torch.arange(41) - 20.0).square()).sum(-1).sqrt()
    assert torch.allclose(spread, sigma, atol=1e-3)


def test_export(tmp_path):
    method = PLAIN.build()
    net = method.build_model().eval()
    method.export(net, tmp_path)
    clip = toy(0).video
    rounded = net.bfloat16().to(torch.float32)
    assert torch.equal(InverseDynamicsNet.from_pretrained(tmp_path).float()(clip)["way"], rounded(clip)["way"])
