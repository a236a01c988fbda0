"""Re-encoding: the obvious way by hand, and refusals."""

import numpy as np
import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.configs.videoar import videoar_shapes
from vidar.rng import Rng
from vidar.rollout.hooks import APART
from vidar.types import UsageError

EVERY, BATCH = 3, 2


def built(recipe):
    torch.manual_seed(0)
    world = recipe(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return world


@pytest.mark.parametrize("recipe", [world_shapes, videoar_shapes])
def test_a_renewed_dream_is_a_new_one_after_its_own_pictures(recipe):
    world = built(recipe)
    frames = np.random.default_rng(0).integers(0, 256, (BATCH, 4, 32, 32, 3), dtype=np.uint8)
    context = world.encode(torch.from_numpy(frames))
    actions = torch.randint(0, 5, (2 * EVERY + 1, BATCH, 1), generator=torch.Generator().manual_seed(1)).float()
    rngs = [Rng(5, b) for b in range(BATCH)]
    made = list(world.codes(context, iter(actions), None, rngs, renew=EVERY))
    plain = list(world.codes(context, iter(actions), None, rngs))
    assert all(torch.equal(a, b) for a, b in zip(made[:EVERY], plain)) and not torch.equal(made[EVERY], plain[EVERY])
    for start in (EVERY, 2 * EVERY):
        pictures = world.decode(torch.stack(made[start - EVERY : start], 1))[0]
        known = torch.stack(list(actions[start - EVERY : start]), 1)
        fresh = [Rng(5, b + start // EVERY * APART) for b in range(BATCH)]
        again = list(world.codes(world.encode(pictures), iter(actions[start : start + EVERY]), known, fresh))
        assert all(torch.equal(a, b) for a, b in zip(again, made[start:]))


def test_a_renewal_needs_frames():
    world = built(world_shapes)
    with pytest.raises(UsageError, match="renew is 0; give a number of frames, 1 or more"):
        next(world.stream(np.zeros((2, 32, 32, 3), np.uint8), renew=0))
