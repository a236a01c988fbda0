"""A world's training reads the answers of asked rows alone."""

from dataclasses import replace

import torch
from made_up import MadeUp, MadeUpConfig

from vidar.configs.doom import world_doom
from vidar.nn.asked import reading
from vidar.rng import Rng


def test_training_of_a_world_asks_and_its_loss_is_the_same():
    config = world_doom(preset="tiny")
    method = config.method.replace(own_context=None).build()
    torch.manual_seed(0)
    net = method.build_model().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batch = MadeUp(MadeUpConfig(like=config.data, spec=config.method.world.actions, sites=20, channels=32)).batch(0)
    rngs, found = [Rng(0, number) for number in batch.number.tolist()], []
    assert reading(method.layout).read.layout.num_rows == method.layout.num_rows - 1
    for layout in (method.layout, replace(method.layout, memo={})):
        method.layout = layout
        loss = method.step(net, batch, rngs).total
        found.append([loss, *torch.autograd.grad(loss, net.parameters(), allow_unused=True)])
    for got, want in zip(*found, strict=True):
        assert (got is None) == (want is None) and (got is None or (got - want).abs().max() <= 1e-6)
