"""Own context: what later frames see is what the model has answered, generation after generation."""

import pytest
import torch

from vidar.conditioning.action import Actions
from vidar.configs.doom import world_doom
from vidar.configs.xar import xar_scales_doom
from vidar.objectives.context import ContextNoiseConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.noised import noised
from vidar.train.methods.world import OwnContextConfig

BATCH, FRAMES = 3, 5


class Halving:
    """A model that answers half of the frame before: with DataConfig, its output is the difference from the hint."""

    def __init__(self, channels):
        self.channels, self.calls = channels, 0

    def __call__(self, seen, layout, actions):
        self.calls += 1
        return -0.5 * seen[..., self.channels : 2 * self.channels]


def method(**own):
    config = world_doom(preset="tiny").method
    objective = config.world.objective.replace(context=ContextNoiseConfig(most=0.0, level=0.0))
    world = config.world.replace(objective=objective)
    return config.replace(world=world, own_context=OwnContextConfig(share=1.0, **own)).build()


def own_context(made, seed=0, given=None):
    """Codes [B, T, n, C], the context made of them, and the number of calls. given: what is seen without it."""
    channels, sites = made.objective.channels, made.grid.sites(0).shape[0]
    codes = torch.randn(BATCH, FRAMES, sites, channels, generator=torch.Generator().manual_seed(1))
    width = made.config.world.actions.width
    actions = Actions(torch.zeros(BATCH, FRAMES, width), torch.zeros(BATCH, FRAMES, dtype=torch.bool))
    model = Halving(channels)
    context = None if given is None else (given + codes).flatten(1, 2)
    rngs = [Rng(seed, b) for b in range(BATCH)]
    context = made.own_context(model, codes.flatten(1, 2), actions, rngs, context=context)
    return codes, context.view_as(codes), model.calls


@pytest.mark.parametrize("seed", range(8))
def test_the_answers_of_a_generation_are_those_of_a_rollout(seed):
    """Frame t of generation k is the true frame max(t - k, 0) halved min(k, t) times, moved there by one factor."""
    codes, context, generation = own_context(method(generations=3, most=1.0), seed)
    factors = torch.stack([Rng(seed, b).uniform("own_factor") for b in range(BATCH)]).reshape(BATCH, 1, 1)
    for t in range(FRAMES):
        back = min(generation, t)
        want = 0.5**back * codes[:, t - back]
        torch.testing.assert_close(context[:, t], codes[:, t] + factors.float() * (want - codes[:, t]))


def test_answers_begin_with_what_is_seen_without_them():
    """Of a clip that is seen as a dream, the dream is what is answered; without own context it is all that is seen."""
    codes, context, generation = own_context(method(generations=3, most=1.0), 1, given=2.0)
    dream, factors = codes + 2.0, torch.stack([Rng(1, b).uniform("own_factor") for b in range(BATCH)])
    for t in range(FRAMES):
        back = min(generation, t)
        want = 0.5**back * dream[:, t - back]
        moved = dream[:, t] + factors.reshape(BATCH, 1, 1).float() * (want - dream[:, t])
        torch.testing.assert_close(context[:, t], moved)
    never = method()
    never.config = never.config.replace(own_context=None)
    codes, context, calls = own_context(never, 1, given=2.0)
    assert calls == 0 and torch.equal(context, codes + 2.0)


def test_all_numbers_of_generations_come_up_and_one_is_the_default():
    assert {own_context(method(generations=3), seed)[2] for seed in range(40)} == {1, 2, 3}
    assert {own_context(method(), seed)[2] for seed in range(10)} == {1}


def test_the_share_of_batches_is_kept():
    made = method()
    made.config = made.config.replace(own_context=OwnContextConfig(share=0.25))
    width, count = made.config.world.actions.width, 400
    codes = torch.zeros(1, FRAMES * made.grid.sites(0).shape[0], made.objective.channels)
    actions = Actions(torch.zeros(1, FRAMES, width), torch.zeros(1, FRAMES, dtype=torch.bool))
    model = Halving(made.objective.channels)
    used = sum(made.own_context(model, codes, actions, [Rng(0, n)]) is not None for n in range(count))
    assert abs(used / count - 0.25) < 4 * (0.25 * 0.75 / count) ** 0.5  # four deviations of a binomial share


def test_a_student_is_asked_as_ever_beside_its_own_answers():
    """What is asked and its noise stay; what later frames see is moved, and nothing else."""
    made = method(most=1.0)
    width, sites = made.config.world.actions.width, made.grid.sites(0).shape[0]
    codes = torch.randn(BATCH, FRAMES, sites, made.objective.channels, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros(BATCH, FRAMES, width), torch.zeros(BATCH, FRAMES, dtype=torch.bool)
    batch = LatentBatch(codes, *nothing, torch.arange(BATCH), [""] * BATCH)
    rngs, levels = [Rng(0, b) for b in range(BATCH)], torch.full((BATCH, made.layout.num_rows), 0.5)
    plain, own = (noised(made, batch, rngs, levels, net) for net in (None, Halving(made.objective.channels)))
    assert torch.equal(own.clean, plain.clean) and torch.equal(own.asked, plain.asked)
    asked = plain.asked[..., 0]
    assert torch.equal(own.x[asked], plain.x[asked])
    moved = (own.x != plain.x).any(-1)
    shown = ~asked & (made.layout.slots.unit > 0)
    assert torch.equal(moved, shown)


def test_clips_of_scales_are_noised_scale_by_scale():
    """The clean content of every asked site is the frame scaled down to it."""
    made = xar_scales_doom(preset="tiny").method.build()
    world = made.config.world
    codes = torch.randn(BATCH, FRAMES, 20, made.objective.channels, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros(BATCH, FRAMES, world.actions.width), torch.zeros(BATCH, FRAMES, dtype=torch.bool)
    batch = LatentBatch(codes, *nothing, torch.arange(BATCH), [""] * BATCH)
    levels = torch.full((BATCH, made.layout.num_rows), 0.5)
    clips = noised(made, batch, [Rng(0, b) for b in range(BATCH)], levels)
    coarse = clips.clean[:, made.layout.slots.unit[0] == 2][:, :6]
    torch.testing.assert_close(coarse, world.order.frame_sites(world.patch).spread(codes)[:, 1, :6])
    finest = clips.clean[:, made.layout.slots.unit[0] == 3]
    assert torch.equal(finest, codes[:, 1]) and clips.clean.shape[1] == FRAMES * 26
