"""Streams played by random operations: every row shows, in bits, what it shows alone."""

from random import Random

import pytest
import torch
from random_streams import CAPACITY, Player, alone

from vidar.configs.doom import world_doom
from vidar.configs.videoar import videoar_shapes
from vidar.configs.xar import xar_cells_doom
from vidar.sampling.guidance import GuidanceConfig


def guided():
    return world_doom(preset="tiny").method.world.replace(guidance=GuidanceConfig(first=2.0, last=3.0))


WORLDS = {
    "flow": (lambda: world_doom(preset="tiny").method.world, (None, 1, 3)),
    "guided flow": (guided, (None, 1)),
    "scale by scale": (lambda: videoar_shapes(preset="tiny").method.world, (None,)),
    "cells": (lambda: xar_cells_doom(preset="tiny").method.world, (None, 1)),
}


def built(name):
    torch.manual_seed(0)
    made = WORLDS[name][0]().build()
    with torch.no_grad():
        for parameter in made.net.parameters():  # zero-initialised gates and heads would hide every fault
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def longest(histories):
    """Those that are the beginning of no other, so that each frame is made once, or once for each way from it."""
    return [one for one in histories if not any(other[: len(one)] == one and other != one for other in histories)]


def check(name, seed, frames):
    """Returns how many frames were compared."""
    world = built(name)
    player = Player(world, Random(seed), WORLDS[name][1])
    try:
        player.play(frames)
        for row in range(CAPACITY):
            shown = {history: code for (b, history), code in player.shown.items() if b == row}
            expected = alone(world, row, longest(list(shown)))
            for history, code in shown.items():
                same = torch.equal(code, expected[history])
                assert same, f"row {row} after {len(history)} operations of its own"
    except Exception as error:
        raise AssertionError(f"{error}\nworld {name!r}, seed {seed}: {'; '.join(player.log)}") from error
    return len(player.shown)


@pytest.mark.parametrize("name", WORLDS)
def test_a_row_is_what_it_is_alone(name):
    assert check(name, 10 + [*WORLDS].index(name), 10) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", range(4))
def test_many_operations(name, seed):
    check(name, seed, 60)
