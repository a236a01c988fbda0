"""The backbone as functions of static shapes, which is what is compiled, equals the backbone: float64, no compiler."""

from dataclasses import replace

import pytest
import torch
from recipe_cases import case_of, played, subjects
from systems import AXES, CHANNELS, draw
from test_p1b import TOLERANCE, largest_difference

from vidar.cache.ring import RingState
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.mixers import SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.nn.static import StaticBackbone
from vidar.types import UsageError, VidarError


def as_it_is(module, example):
    """Not compiled: the function that would be."""
    return module


SUBJECTS = subjects()
FOLDED = [name for name, subject in SUBJECTS.items() if any(relation.fold for relation in subject.relations)]
CASES = [name for name in SUBJECTS if name not in FOLDED]


def static(net):
    """The model that `vidar.model.setting` makes, by functions that are not compiled."""
    backbone = StaticBackbone(net.backbone, as_it_is)
    return lambda inputs, layout, cond, state: backbone(inputs, layout, net.condition(cond, layout), state)


@pytest.mark.parametrize("name", CASES)
def test_functions_of_tensors_are_the_network(name):
    case, eager = case_of(name), played(name)
    assert largest_difference(case.run_ring(model=static(case.model)), (eager.codes, eager.recorder)) < TOLERANCE


@pytest.mark.parametrize("name", FOLDED)
def test_relations_that_fold_are_refused(name):
    case = case_of(name)
    with pytest.raises(UsageError, match="folds"):
        case.run_ring(model=static(case.model))


def network(case, seed):
    """A backbone for a random system: attention over each of its relations."""
    names = case.order.relations
    config = BackboneConfig(
        width=16, depth=2, heads=2, head_width=8, in_width=CHANNELS + 1, out_width=CHANNELS,
        level=LevelConfig(num_frequencies=4), mixers=tuple(SelfAttentionConfig(relation=name) for name in names),
        rope=AxialRopeConfig(axes=AXES), head=LinearHeadConfig(std=0.3), gate_std=0.3,
    )  # fmt: skip
    torch.manual_seed(seed)
    return config.build().double()


def random_case(seed):
    """A random system without folds, its network, and a state at the clocks of its rows."""
    system = draw(seed)
    relations = {name: replace(relation, fold=()) for name, relation in system.case.order.relations.items()}
    case = system.case.but(order=replace(system.case.order, relations=relations), cond=lambda layout: None)
    case = case.but(model=network(case, seed))

    def state():
        return system.ready(RingState.create(case.order, case.grids, case.model.ring_shapes(), torch.float64))

    return case, state, f"systems.draw({seed}): {system.about}"


def test_functions_of_tensors_are_the_network_of_random_systems():
    """Among them slots that see nothing, units of unequal length side by side, and rows with other padding."""
    blind = uneven = padded = 0
    for seed in range(10):
        case, state, told = random_case(seed)
        functions = StaticBackbone(case.model, as_it_is)
        try:
            eager = case.run(state())
            assert largest_difference(case.run(state(), functions), eager) < TOLERANCE
        except (AssertionError, VidarError) as error:
            raise AssertionError(f"{error}\n{told}") from error
        for layout, _, _ in eager[1].calls:
            occupied = layout.slots.cell >= 0
            blind += sum(int((view.blind & occupied).any()) for view in layout.views.values() if view.blind is not None)
            uneven += layout.row_length is None
            padded += not bool((occupied == occupied[:1]).all())
    assert blind and padded and uneven
