"""The one supervised method: its loss written out, and slots that take what a newcomer brings."""

import pytest
import torch
from made_up import made_up

from vidar.config import Config, from_dict, to_dict
from vidar.configs.catalog import find
from vidar.core.step import Row
from vidar.objectives.weights import WeightConfig
from vidar.rng import Rng
from vidar.train.methods import world
from vidar.train.methods.rows import RowsConfig
from vidar.train.methods.world import SingleConfig, TwinConfig
from vidar.types import MEMORY, QUERY, UsageError


class LastAskedConfig(RowsConfig):
    """The last unit is asked after all before it."""

    def rows(self, units: int) -> tuple[Row, ...]:
        return (*(Row(u, MEMORY, None) for u in range(units - 1)), Row(units - 1, QUERY, 0))


class LowLevelsConfig(WeightConfig):
    """Levels below a half count, the others do not."""

    def build(self):
        return lambda level: (level < 0.5).to(level)


def trained(name, folder, **changes):
    """A method with changes, its network with open gates, and a batch with its draws."""
    made = made_up(find(name), folder)
    method = made.method.replace(**changes).build()
    torch.manual_seed(0)
    net = method.build_model()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batch = made.data.replace(like=made.data.like.replace(batch=5)).build().batch(0)
    return method, net, batch, [Rng(0, number) for number in batch.number.tolist()]


@pytest.mark.parametrize("name", ["world_shapes", "videoar_shapes", "infinity_shapes", "var_shapes"])
def test_the_loss_is_what_the_objective_makes_of_the_answers(name, tmp_path):
    """Of a world of frames, one of scales, clips from texts and pictures from classes, half hidden."""
    share = "p_none" if hasattr(find(name)(preset="tiny").method, "p_none") else "p_unknown"
    method, net, batch, rngs = trained(name, tmp_path, **{share: 0.5})
    draw = "hidden_label" if share == "p_none" else "hidden_actions"
    hidden = [float(rng.uniform(draw)) < 0.5 for rng in rngs]
    assert hidden != hidden[::-1]
    codes = batch.codes.flatten(1, 2)
    seen, target, keep = method.objective.prepare(
        codes, method.layout, [r.kept("context", "context_level") for r in rngs]
    )
    out = net(seen, method.layout.with_keep(keep), method.config.told(batch, rngs))
    assert torch.equal(method.objective.loss(out, target).total, method.step(net, batch, rngs).total)


def test_rows_of_ones_own_are_those_that_are_asked(tmp_path):
    method, net, batch, rngs = trained("world_shapes", tmp_path, stream=LastAskedConfig())
    last = method.order.num_units - 1
    assert method.layout.row_unit[0].tolist() == list(range(last + 1))
    asked = method.objective.prepare(method.spread(batch.codes), method.layout, rngs)[1].weight > 0
    assert torch.equal(asked, (method.layout.slots.unit == last).expand(5, -1))
    assert method.step(net, batch, rngs).total.isfinite()


def test_a_weight_of_ones_own_counts(tmp_path):
    found = []
    for weight in (LowLevelsConfig(), world.EvenWeightConfig()):
        method, net, batch, rngs = trained("world_shapes", tmp_path, weight=weight)
        found.append(method.step(net, batch, rngs).total)
    assert 0 < found[0] < found[1]


def test_slots_take_their_own_kind_alone_and_come_back_as_they_were():
    method = find("world_shapes")(preset="tiny").method
    for stream in (TwinConfig(), SingleConfig()):
        kept = method.replace(stream=stream)
        assert from_dict(to_dict(kept)) == kept and to_dict(kept)["stream"]["type"].startswith(
            "vidar.train.methods.world."
        )
    for name, odd in (("stream", world.EvenWeightConfig()), ("weight", TwinConfig()), ("weight", Config())):
        with pytest.raises(UsageError, match=name):
            method.replace(**{name: odd})
