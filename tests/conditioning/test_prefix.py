"""What the slots of a chunk over a clean prefix are told."""

import math

import torch

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbedConfig, Actions
from vidar.conditioning.prefix import PrefixEmbedConfig, sinusoids
from vidar.core.layout import compile_layout
from vidar.core.step import Row
from vidar.orders.prefix import PrefixOrderConfig
from vidar.types import MEMORY, QUERY


def layout_of(offset=0):
    order, grid = PrefixOrderConfig(chunk=2, window=3, prefix=2).build(1, 2)
    rows = [Row(offset + u, MEMORY, None) for u in range(3)] + [Row(offset + u, QUERY, 0) for u in (3, 4)]
    return compile_layout(rows, order, [grid])


def test_sinusoids_closed_form():
    waves = sinusoids(torch.tensor([0.0, 3.0]), 4, 100.0)
    expected = [math.sin(3), math.sin(3 / 10), math.cos(3), math.cos(3 / 10)]
    torch.testing.assert_close(waves, torch.tensor([[0.0, 0, 1, 1], expected], dtype=torch.float64))


def test_clean_slots_carry_the_flag_and_positions_go_round():
    torch.manual_seed(0)
    embed = PrefixEmbedConfig(width=8).build()
    plain = embed(None, layout_of()).add
    assert plain.shape == (1, 10, 8) and torch.equal(embed(None, layout_of(5)).add, plain)  # 5 positions in all
    with torch.no_grad():
        embed.clean.copy_(torch.arange(8.0))
    flagged = embed(None, layout_of()).add - plain
    torch.testing.assert_close(flagged[0, :6], torch.arange(8.0).expand(6, -1))
    assert not flagged[0, 6:].any()


def test_actions_pass_through():
    spec = ActionSpec(actions=(Action(name="push"),))
    inner = ActionEmbedConfig(spec=spec, width=8)
    config = PrefixEmbedConfig(width=8, inner=inner)
    embed, told = config.build(), Actions(torch.ones(2, 5, 1), torch.zeros(2, 5, dtype=torch.bool))
    assert config.action_spec() == spec
    cond = embed(told, layout_of())
    assert torch.equal(cond.modulation, embed.inner(told, layout_of()).modulation) and cond.add is not None
    assert PrefixEmbedConfig(width=8).action_spec() is None
