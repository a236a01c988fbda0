"""Guidance that is learned: the answers without a loss are those that guidance would have made in play."""

from dataclasses import replace

import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.rng import Rng
from vidar.sampling.guidance import guide
from vidar.train.latents import LatentBatch

BATCH, FRAMES, WIDTH = 2, 5, 5


class Told(torch.nn.Module):
    """Answers `cond` where actions are known and `none` where all are hidden, [B, S, C]."""

    def __init__(self, cond, none):
        super().__init__()
        self.cond, self.none, self.calls = torch.nn.Parameter(cond), none, 0

    def forward(self, seen, layout, actions):
        self.calls += 1
        return self.none if bool(actions.unknown.all()) else self.cond


def clips(made):
    """Latent clips without hidden actions, and the targets [B, S, C] of their step."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(BATCH, FRAMES, made.grid.sites(0).shape[0], made.objective.channels, generator=generator)
    actions, unknown = torch.zeros(BATCH, FRAMES, WIDTH), torch.zeros(BATCH, FRAMES, dtype=torch.bool)
    rngs, names = [Rng(0, b) for b in range(BATCH)], [str(b) for b in range(BATCH)]
    target = made.objective.prepare(codes.flatten(1, 2), made.layout, rngs)[1]
    return LatentBatch(codes, actions, unknown, torch.arange(BATCH), names), rngs, target


def method(guidance):
    config = world_doom(preset="tiny").method
    return config.replace(own_context=None, p_unknown=0.0, guidance=guidance).build()


@pytest.mark.parametrize("guidance", [1.0, 1.5, 3.0])
def test_the_answer_without_a_loss_is_the_guided_one(guidance):
    """Targets stand for the answers of a plain model: the guided one is what `guide` makes of them and `none`."""
    made = method(guidance)
    batch, rngs, target = clips(made)
    none = torch.randn(target.value.shape, generator=torch.Generator().manual_seed(2))
    guided = guide(torch.cat([target.value, none]), torch.full((BATCH,), guidance))[:BATCH]
    model = Told(guided, none)
    assert float(made.step(model, batch, rngs).total.detach()) < 1e-10 and model.calls == 1 + (guidance > 1)
    off = Told(guided + 0.1, none)
    loss = made.step(off, batch, rngs).total
    assert (
        abs(float(loss.detach()) - (0.1 / guidance) ** 2) < 1e-5
    )  # the target moves along: 0.1 - (1 - 1 / w) 0.1 is left
    loss.backward()
    asked = (target.weight > 0)[..., None].expand_as(off.cond)
    assert bool((off.cond.grad[asked] > 0).all())


def test_where_actions_are_hidden_nothing_is_added():
    made = method(2.0)
    batch, rngs, target = clips(made)
    batch = replace(batch, unknown=torch.ones_like(batch.unknown))
    assert float(made.step(Told(target.value, target.value), batch, rngs).total.detach()) < 1e-10
