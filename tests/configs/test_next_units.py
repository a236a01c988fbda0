"""ACDiT and xAR before training: sizes as published, on the meta device."""

import pytest

from vidar.configs.catalog import find, find_world, parameters


@pytest.mark.parametrize("preset, millions", [("b", 132), ("l", 460), ("xl", 677), ("h", 954)])
def test_acdit_has_the_published_sizes(preset, millions):
    """Within 1.5 %."""
    config = find("acdit")(preset=preset)
    assert abs(parameters(config)["net"] / (millions * 1e6) - 1) < 0.015
    system = find_world(config).system()
    order, grid, objective = system.order, system.grid, system.objective
    assert len(grid.sites(0)) == 4 * 256 and len(objective.calls) == 25 and order.unit_cells == 4


@pytest.mark.parametrize("preset, millions, within", [("b", 172, 0.015), ("h", 1100, 0.085)])
def test_xar_has_the_published_sizes(preset, millions, within):
    """H is given as 1.1 B."""
    config = find("xar")(preset=preset)
    assert abs(parameters(config)["net"] / (millions * 1e6) - 1) < within
    world = find_world(config)
    system = world.system()
    order, grid, objective = system.order, system.grid, system.objective
    assert [len(grid.sites(unit)) for unit in range(4)] == [64] * 4 and len(system.frames.units(0)) == 4
    assert [order.need(4, unit) for unit in range(4)] == [False] * 4  # an image sees no other
    assert objective.calls[0] == 1.0 and objective.calls[-1] == pytest.approx(0.04)
    assert len(objective.calls) == {"b": 40, "h": 50}[preset]
