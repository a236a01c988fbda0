"""Hinge losses in closed form, the ramp, and the separation of the two gradients."""

import torch

from vidar.tokenizers.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
)


def test_hinge_losses_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    # relu(1 - real) = 0, 0.5, 2 ; relu(1 + fake) = 0, 1, 2
    assert torch.allclose(discriminator_hinge(real, fake), torch.tensor(0.5 * (2.5 / 3 + 1.0)))
    assert torch.allclose(generator_hinge(fake), torch.tensor(2.0 / 3))


def test_the_ramp_starts_late_and_ends_at_one():
    judge = DiscriminatorConfig(start=10, warmup=4).build()
    values = []
    for step in (0, 10, 11, 14, 100):
        judge.steps.fill_(step)
        values.append(judge.ramp().item())
    assert values == [0, 0, 0.25, 1, 1]


def test_scores_are_per_frame():
    judge = Discriminator(DiscriminatorConfig(width=4))
    video = torch.randn(2, 3, 3, 16, 24)
    scores = judge(video)
    assert scores.shape == (6, 1, 2, 3)
    assert torch.allclose(judge(video[1:, :, 2:])[0], scores[5], atol=1e-6)


def test_adaptive_weight_is_the_ratio_of_gradients():
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    ratio = adaptive_weight((6 * weight).sum(), (2 * weight).sum(), weight)
    assert torch.allclose(ratio, torch.tensor(3.0), rtol=1e-3) and not ratio.requires_grad


def test_with_detail_the_laplacian_stands_beside_the_frame():
    torch.manual_seed(0)
    judge, video = DiscriminatorConfig(detail=2.0, width=8).build(), torch.randn(1, 3, 1, 16, 16)
    seen = []
    judge.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    judge(video)
    x = video[0, :, 0]
    assert seen[0].shape == (1, 6, 16, 16) and torch.equal(seen[0][0, :3], x)
    slow = 2 * (x[:, 4, 9] + x[:, 6, 9] + x[:, 5, 8] + x[:, 5, 10] - 4 * x[:, 5, 9])
    assert torch.allclose(seen[0][0, 3:, 5, 9], slow, atol=1e-5)
