"""Frame maps: which units hold which frames, by hand; and back, in bits."""

import pytest
import torch

from vidar.core.frames import EvenFrames
from vidar.objectives.flow import FlowConfig
from vidar.orders.block import BlockOrderConfig
from vidar.orders.cell import CellOrderConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.orders.frame_scale import FrameScaleOrderConfig
from vidar.orders.plan import PlanOrderConfig, StepMap
from vidar.orders.prefix import PrefixOrderConfig
from vidar.orders.pyramid import PyramidOrderConfig
from vidar.orders.scale import PyramidFrames

PLAN = StepMap(steps=(0, 2, 1, 3, 1))
MAPS = {  # order, rows and columns of sites, frames of a clip; units and frames of group 1, whole frames of 0 .. 6
    "frames": (FrameOrderConfig(window=2), (1, 2), None, [1], [1], [0, 1, 2, 3, 4, 5, 6]),
    "blocks": (BlockOrderConfig(frames=3), (1, 2), None, [1], [3, 4, 5], [0, 0, 0, 3, 3, 3, 6]),
    "cells": (CellOrderConfig(rows=1, columns=2), (2, 4), None, [2, 3], [1], [0, 1, 2, 3, 4, 5, 6]),
    "scales": (PyramidOrderConfig(sides=((1, 2), (2, 4))), (2, 4), None, [2, 3], [1], [0, 1, 2, 3, 4, 5, 6]),
    "chunks": (PrefixOrderConfig(chunk=2, window=3), (1, 2), None, [1], [1], [0, 1, 1, 3, 3, 5, 5]),
    "a plan": (PlanOrderConfig(map=PLAN), (1, 2), 10, [4, 5, 6, 7], [5, 6, 7, 8, 9], [0, 1, 1, 1, 1, 1, 1]),
}


def made(config, size, clip):
    _, grid = config.build(*size, clip)
    return config.frame_map(grid, 1, FlowConfig().build(3, grid)), size[0] * size[1]


@pytest.mark.parametrize("name", MAPS)
def test_groups_by_hand(name):
    config, size, clip, units, frames, whole = MAPS[name]
    where, _ = made(config, size, clip)
    assert [*where.units(1)] == units and [*where.frames(1)] == frames
    assert [where.whole(count) for count in range(7)] == whole
    assert {where.group(unit) for unit in units} == {1} and where.group(units[0] - 1) == 0


@pytest.mark.parametrize("name", MAPS)
def test_frames_go_to_their_units_and_back(name):
    config, size, clip, units, frames, _ = MAPS[name]
    where, sites = made(config, size, clip)
    codes = torch.randn(2, len(frames), sites, 3)
    parts = where.split(1, codes)
    assert sorted(parts) == units
    for row, back in enumerate(codes):
        assert torch.equal(where.join(1, {unit: part[row] for unit, part in parts.items()}), back)


def test_the_cells_of_a_frame_by_hand():
    """Sites of the two cells lie apart: columns 0, 1 and 2, 3."""
    where, _ = made(*MAPS["cells"][:3])
    codes = torch.arange(24.0).reshape(1, 8, 3)
    parts = where.split(5, codes)
    assert torch.equal(parts[10], codes[0, [0, 1, 4, 5]]) and torch.equal(parts[11], codes[0, [2, 3, 6, 7]])


def test_a_frame_of_scales_is_averaged_and_its_finest_taken():
    """2 x 4 sites to 1 x 2 means of four; what is emitted is the finest scale, whatever the coarse one holds."""
    where, _ = made(*MAPS["scales"][:3])
    codes = torch.arange(24.0).reshape(1, 8, 3)
    parts = where.split(5, codes)
    means = [codes[0, columns].mean(0) for columns in ([0, 1, 4, 5], [2, 3, 6, 7])]
    assert torch.equal(parts[11], codes[0]) and torch.equal(parts[10], torch.stack(means))
    assert torch.equal(where.join(5, {11: codes[0], 10: torch.randn(2, 3)}), codes)
    assert torch.equal(where.spread(codes)[0], torch.cat([parts[10], parts[11]]))


def test_the_frames_of_a_block_lie_one_after_another():
    where = EvenFrames(BlockOrderConfig(frames=2).build(1, 2)[1], 2)
    codes = torch.arange(12.0).reshape(2, 2, 3)
    assert torch.equal(where.split(3, codes)[3], codes.flatten(0, 1))


def test_a_memory_unit_holds_the_frame_and_the_scales_make_it():
    config = FrameScaleOrderConfig(sides=((1, 1), (1, 2)))

    class Summed:
        def latents(self, codes):
            return sum(codes.values())

    where = config.frame_map(None, 1, Summed())
    assert [*where.units(2)] == [6, 7, 8] and where.group(5) == 1 and where.whole(4) == 4
    assert list(where.split(2, torch.ones(1, 2, 3))) == [8]
    joined = where.join(2, {6: torch.ones(1, 1), 7: torch.full((2, 1), 2.0), 8: torch.zeros(2, 1)})
    assert torch.equal(joined, torch.full((1, 2, 1), 3.0))


def test_pyramids_of_unequal_length():
    where = PyramidFrames([1, 2, 2], 3, lambda codes: torch.zeros(4, 1), lambda number, latents: [number] * 3)
    assert [*where.units(1)] == [3, 4, 5] and [*where.frames(1)] == [1, 2] and [*where.frames(2)] == [3, 4]
    assert [where.whole(count) for count in range(6)] == [0, 1, 1, 3, 3, 5]
    assert where.split(1, torch.zeros(2, 2, 1)) == {3: 1, 4: 1, 5: 1}
    assert where.join(1, {3: 0, 4: 0, 5: 0}).shape == (2, 2, 1)
