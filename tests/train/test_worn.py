"""Wear of the context: what it adds, in closed form, and that the targets stay true."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from vidar.configs.doom import world_doom
from vidar.objectives.rows import slot_tables
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.world import TrainWorld
from vidar.train.methods.worn import WornContextConfig, worn

PATCH, SHAPE = 2, (5, 6, 12)  # frames, sites, three channels of 2 x 2 latents
ALWAYS = WornContextConfig(share=1.0)


def clips(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Chosen(Rng):
    """Draws as ever, but of one kind of wear, and of a given amount: `worn_amount`."""

    kind: int = 0
    amount: tuple[float, float, float, float] = field(default=(0.0, 0.8, 0.3, 0.9))

    def uniform(self, name, unit=0, step=0, shape=()):
        """See `Rng`."""
        if name == "worn_kinds":
            return torch.eye(4, dtype=torch.float64)[self.kind]
        return torch.tensor(self.amount, dtype=torch.float64) if name == "worn_amount" else super().uniform(name)


def of_kind(kind: int) -> Tensor:
    """What one kind adds to a clip of zeros."""
    return worn(torch.zeros(1, *SHAPE), ALWAYS, PATCH, [Chosen(3, 4, kind=kind)])[0]


@pytest.mark.parametrize("config", [WornContextConfig(share=0.0), WornContextConfig(share=1.0, most=0.0)])
def test_no_share_or_no_amount_changes_no_bit(config: WornContextConfig) -> None:
    codes = clips(8)
    assert torch.equal(worn(codes, config, PATCH, [Rng(0, number) for number in range(8)]), codes)
    assert not torch.equal(worn(codes, ALWAYS, PATCH, [Rng(0, number) for number in range(8)]), codes)


def test_a_share_of_the_clips_is_worn_each_with_its_own_draws() -> None:
    """Four deviations of a binomial share; a clip does not depend on the others."""
    codes, rngs = clips(1).expand(400, -1, -1, -1), [Rng(0, number) for number in range(400)]
    made = worn(codes, WornContextConfig(share=0.6), PATCH, rngs)
    changed = (made != codes).flatten(1).any(1)
    assert abs(float(changed.float().mean()) - 0.6) < 4 * (0.6 * 0.4 / 400) ** 0.5
    for number in (0, 7, 399):
        assert torch.equal(
            worn(codes[:1], WornContextConfig(share=0.6), PATCH, rngs[number : number + 1])[0], made[number]
        )


def test_the_noise_has_no_mean_and_the_variance_of_its_formula() -> None:
    """With m, a, b uniform in (0, 1) and squared weights that sum to 1: most^2 E m^2 (1/4 + 3/4 E (a + b s)^2).

    At s = t / (T - 1): most^2 (1/4 + 3/4 (1/3 + s/2 + s^2/3)) / 3. Clips are independent, values within one are not:
    the tolerance is five standard errors over 1000 clips.
    """
    count, most = 1000, 1.5
    config = WornContextConfig(share=1.0, most=most)
    noise = worn(torch.zeros(count, *SHAPE), config, PATCH, [Rng(1, number) for number in range(count)]).double()
    s = torch.linspace(0, 1, SHAPE[0], dtype=torch.float64)
    want = most**2 * (1 / 4 + 3 / 4 * (1 / 3 + s / 2 + s.square() / 3)) / 3
    for found, true in ((noise.mean((2, 3)), torch.zeros(SHAPE[0])), (noise.square().mean((2, 3)), want)):
        off = (found.mean(0) - true).abs() / (found.std(0) / count**0.5)
        assert off.max() < 5, off


def test_noise_of_each_frame_differs_and_does_not_grow() -> None:
    noise = of_kind(0)
    assert noise[0].ne(noise[-1]).all()
    assert abs(float(noise[-1].std() / noise[0].std()) - 1) < 4 / (2 * 72) ** 0.5 * 2**0.5  # of two estimates of 72


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_what_is_constant_only_grows_from_frame_to_frame(kind: int) -> None:
    """By first + growth s: 0.3 to 1.2."""
    noise, grown = of_kind(kind), 0.3 + 0.9 * torch.linspace(0, 1, SHAPE[0])
    assert noise[0].any()
    torch.testing.assert_close(noise, noise[:1] / 0.3 * grown[:, None, None], rtol=1e-5, atol=1e-6)


def test_each_constant_kind_has_values_of_its_own_extent() -> None:
    """For each latent; for each site and channel, so that the latents of a patch agree; for each channel."""
    latent, site, channel = (of_kind(kind)[0].unflatten(-1, (3, PATCH**2)) for kind in (1, 2, 3))
    assert latent.unique().numel() == 6 * 12
    assert site.unique().numel() == 6 * 3 and (site == site[..., :1]).all()
    assert channel.unique().numel() == 3 and (channel == channel[:1, :, :1]).all()


def test_later_frames_see_worn_ones_and_the_targets_stay_true() -> None:
    """What the targets imply of the noisy frames is the true codes; the noisy frames themselves are as without."""
    config = world_doom(preset="tiny").method.replace(own_context=None)
    height, width = config.world.sites
    shape = (2, config.clip_frames, height * width, config.world.channels)
    codes = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    actions = torch.zeros(2, config.clip_frames, config.world.spec.width)
    unknown = torch.zeros(2, config.clip_frames, dtype=torch.bool)
    batch = LatentBatch(codes, actions, unknown, torch.arange(2), ["a", "b"])
    plain, worn_out = (prepared(config.replace(worn=wear), batch) for wear in (None, ALWAYS))
    layout = TrainWorld(config).layout
    slots = slot_tables(layout, codes.device)
    asked = torch.zeros(layout.num_slots, dtype=torch.bool)
    asked[slots.asked] = True
    channels = config.world.channels
    (seen, target), (other, same) = plain, worn_out
    assert torch.equal(seen[:, asked, :channels], other[:, asked, :channels])
    rngs = [Rng(2, number) for number in range(2)]
    wear = (worn(codes, ALWAYS, config.world.patch, rngs) - codes).flatten(1, 2)[:, slots.site[~asked]]
    off = (other - seen)[:, ~asked, :channels]  # the wear, times what the noise of the context leaves of it
    left = (off * wear).sum(-1, keepdim=True) / wear.square().sum(-1, keepdim=True)
    assert left.min() > 0.1
    torch.testing.assert_close(off, left * wear, rtol=1e-3, atol=1e-4)
    flow = TrainWorld(config).flow
    true = codes.flatten(1, 2)[:, slots.site[slots.asked]]
    for inputs, value in ((seen, target), (other, same)):
        found = flow.estimate(inputs[:, slots.asked], value.value[:, slots.asked])
        torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-3)


def prepared(config, batch: LatentBatch):
    """What `prepare` gives in a step: inputs and target."""
    method, found = TrainWorld(config), []
    prepare = method.objective.prepare

    def noted(*args, **named):
        found.append(prepare(*args, **named))
        return found[-1]

    method.objective.prepare = noted
    torch.manual_seed(0)
    method.step(method.build_model(), batch, [Rng(2, number) for number in range(2)])
    return found[0][:2]
