"""Training of a planned world: which rows there are, and that a level weighs what its weight says."""

import pytest
import torch

from vidar.configs.mmpl import mmpl_shapes
from vidar.core.step import Row
from vidar.objectives.weights import BellWeightConfig
from vidar.orders.plan import I2V
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.plan_rows import PlanTwinConfig
from vidar.types import MEMORY, QUERY

METHOD = mmpl_shapes(preset="tiny").method


def batch_of(clips):
    torch.manual_seed(0)
    frames = METHOD.clip_frames
    unknown = torch.zeros(clips, frames, dtype=torch.bool)
    return LatentBatch(
        torch.randn(clips, frames, 16, 8), torch.zeros(clips, frames, 1), unknown, torch.arange(clips), []
    )


def test_rows_are_twin_without_what_nobody_asks_or_reads():
    """All others read the first units; the last fill is read by nobody."""
    assert PlanTwinConfig(first=I2V.plan).rows(I2V.units) == (
        *(Row(u, MEMORY, None) for u in (0, 1, 2, 3)),
        *(Row(u, QUERY, 0) for u in (2, 3, 4)),
    )


def test_answers_are_those_of_twin_with_all_rows():
    """Leaving rows out changes no answer to the others."""
    torch.manual_seed(0)
    plain = METHOD.replace(stream=type(METHOD).model_fields["stream"].default).build()
    short, net = METHOD.build(), METHOD.build().build_model()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batch, outs = batch_of(2), []
    for method in (plain, short):
        seen, target, _ = method.objective.prepare(batch.codes.flatten(1, 2), method.layout, [Rng(0), Rng(1)])
        asked = (method.layout.slots.role[0] == QUERY) & (method.layout.slots.unit[0] >= METHOD.stream.first)
        outs.append(net(seen, method.layout)[:, asked])
    torch.testing.assert_close(*outs, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_weighted_by_the_level_of_each_answer():
    """Bell against a mean over slots written out; every asked step has a level of its own."""
    weighted, even = METHOD.replace(weight=BellWeightConfig()).build(), METHOD.build()
    net, batch, rngs = even.build_model(), batch_of(3), [Rng(0, v) for v in range(3)]
    seen, target, _ = even.objective.prepare(batch.codes.flatten(1, 2), even.layout, rngs)
    asked = (even.layout.row_step >= 0)[even.layout.row]
    error = (-target.value).square().mean(-1)[:, asked]  # a fresh network answers zero
    level = seen[:, asked, -1].double()
    weight = BellWeightConfig().build()(level)
    expected = (error * weight).mean()
    torch.testing.assert_close(weighted.step(net, batch, rngs).total.double(), expected.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(even.step(net, batch, rngs).total, error.mean())
    assert len(level.unique()) == 3 * 3


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 1.0])
def test_a_clip_at_one_level_counts_as_much_as_that_level(level):
    """Its mean error times the weight, which is 0 at pure noise; weights are not divided out again."""
    method = METHOD.replace(weight=BellWeightConfig()).build()
    batch, rngs = batch_of(1), [Rng(0)]
    codes, levels = batch.codes.flatten(1, 2), torch.full((1, method.layout.num_rows), level)
    prepare = method.objective.prepare
    _, target, _ = prepare(codes, method.layout, rngs, levels=levels)
    method.objective.prepare = lambda *given, **options: prepare(*given, **options, levels=levels)
    error = target.value[:, target.weight[0] > 0].square().mean()  # a fresh network answers zero
    weight = float(BellWeightConfig().build()(torch.tensor(level, dtype=torch.float64)))
    loss = float(method.step(method.build_model(), batch, rngs).total.detach())
    assert loss == pytest.approx(weight * float(error), rel=1e-4, abs=1e-6)
    assert (weight == 0) == (level == 1) and (weight > 1) == (level == 0.5)
