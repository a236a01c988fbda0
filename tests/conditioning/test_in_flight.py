"""What is committed is not told its action."""

import torch

from vidar.conditioning.action import Actions
from vidar.configs.acdit import acdit_doom
from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.types import MEMORY, QUERY


def net(told_both):
    """The network of a tiny ACDiT with gates open; told_both: with the conditioner inside, which tells every row."""
    world = acdit_doom(preset="tiny").method.world
    torch.manual_seed(0)
    config = world.net.replace(conditioner=world.net.conditioner.actions) if told_both else world.net
    made = config.build().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    system = world.system(4, torch.float64)
    order, grid, objective = system.order, system.grid, system.objective
    return made, compile_layout(twin(range(2)), order, [grid]), objective


def test_queries_are_told_as_by_the_embedder_inside():
    made, layout, _ = net(False)
    actions = Actions(torch.ones(2, 4, 5), torch.zeros(2, 4, dtype=torch.bool))
    rows, plain = made.conditioner(actions, layout).modulation, made.conditioner.actions(actions, layout).modulation
    assert torch.equal(rows[:, layout.row_role == QUERY], plain[:, layout.row_role == QUERY])
    assert not rows[:, layout.row_role == MEMORY].any()


def test_clean_copies_do_not_move_with_the_actions():
    """In a training call MEMORY rows read MEMORY rows alone. With the usual conditioner they move."""
    for told_both in (False, True):
        made, layout, objective = net(told_both)
        inputs = torch.randn(1, layout.num_slots, objective.input_width, dtype=torch.float64)
        unknown = torch.zeros(1, 4, dtype=torch.bool)
        outs = [made(inputs, layout, Actions(torch.full((1, 4, 5), v).double(), unknown)) for v in (0.0, 1.0)]
        same = (outs[0] == outs[1]).all(-1)[0]
        memory = layout.slots.role[0] == MEMORY
        assert not same[~memory].any() and (not same[memory].any() if told_both else same[memory].all())
