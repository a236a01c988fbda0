"""The structure loss: zero for equals, sees lost texture, forgives brightness, against a slow oracle."""

import torch
import torch.nn.functional as F

from vidar.tokenizers.perceptual import STABILISER, WINDOW, contrast_structure, structure_loss


def texture() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    noise = torch.randn(64, 80, generator=torch.Generator().manual_seed(0)) * 0.15
    picture = 0.3 * torch.sin(x / 2) * torch.cos(y / 3) + noise
    return picture.clamp(-0.8, 0.8).expand(1, 3, 1, 64, 80).contiguous()


def blurred(video: torch.Tensor) -> torch.Tensor:
    frame = video[:, :, 0]
    return F.avg_pool2d(F.pad(frame, (1, 1, 1, 1), mode="reflect"), 3, stride=1).unsqueeze(2)


def test_equal_inputs_cost_nothing_and_the_loss_is_symmetric():
    a = texture()
    b = blurred(a)
    assert structure_loss(a, a).abs() < 1e-6
    assert torch.allclose(structure_loss(a, b), structure_loss(b, a), atol=1e-6)
    assert 1.5 < structure_loss(a, -a) <= 2


def test_blur_costs_far_more_than_a_brightness_shift_of_the_same_error():
    a = texture()
    soft = blurred(a)
    shift = F.mse_loss(soft, a).sqrt()
    bright = a + shift
    assert torch.allclose(F.mse_loss(bright, a), F.mse_loss(soft, a))
    assert structure_loss(soft, a) > 20 * structure_loss(bright, a)


def test_the_more_blur_the_more_cost():
    a = texture()
    once = blurred(a)
    twice = blurred(once)
    assert structure_loss(twice, a) > 1.1 * structure_loss(once, a)


def test_against_a_loop_over_windows():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 1, 9, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    fast = contrast_structure(x, y)
    for i in range(fast.shape[2]):
        for j in range(fast.shape[3]):
            p, q = (v[0, 0, i : i + WINDOW, j : j + WINDOW].flatten() for v in (x, y))
            cross = ((p - p.mean()) * (q - q.mean())).mean()
            spread = p.var(correction=0) + q.var(correction=0)
            assert abs(fast[0, 0, i, j] - (2 * cross + STABILISER) / (spread + STABILISER)) < 1e-12


def test_gradients_lead_back_to_the_target():
    a = texture()[..., :32, :32].double()
    b = blurred(a).requires_grad_()
    start = structure_loss(b, a)
    (gradient,) = torch.autograd.grad(start, b)
    assert gradient.abs().sum() > 0
    assert structure_loss(b - 0.1 * gradient / gradient.abs().max(), a) < start


def test_small_frames_use_the_scales_that_fit():
    tiny = torch.rand(1, 3, 1, 4, 4)
    assert structure_loss(tiny, -tiny) == 0
    assert structure_loss(texture()[..., :8, :8], -texture()[..., :8, :8]) > 1
