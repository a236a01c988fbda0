"""The structure loss: zero for equals, sees lost texture, forgives brightness, against a slow oracle."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from vidar.tokenizers.perceptual import (
    GRAIN,
    STABILISER,
    STRONG,
    WINDOW,
    contrast_structure,
    energy_loss,
    grain_loss,
    laplacian,
    structure_loss,
    texture_loss,
)


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


def test_laplacian_against_the_obvious_loop():
    frame = texture()[0, :, 0].mean(0)
    at = [(5, 7), (1, 1), (62, 78)]
    slow = [frame[y - 1, x] + frame[y + 1, x] + frame[y, x - 1] + frame[y, x + 1] - 4 * frame[y, x] for y, x in at]
    fast = laplacian(frame[None, None])[0, 0]
    assert all(torch.isclose(fast[y - 1, x - 1], value, atol=1e-6) for (y, x), value in zip(at, slow))


def test_texture_against_the_obvious_loop():
    a, b = texture(), blurred(texture())
    signs = [torch.tensor(s) / 2 for s in ([[-1.0, 1], [-1, 1]], [[-1.0, -1], [1, 1]], [[1.0, -1], [-1, 1]])]

    def detail(luma):
        """Deviation of each band in every window, [windows, 3]."""
        bands = torch.stack([F.conv2d(luma[None, None], sign[None, None])[0, 0] for sign in signs])
        sides = [side - WINDOW + 1 for side in bands.shape[1:]]
        windows = [bands[:, y : y + WINDOW, x : x + WINDOW] for y in range(sides[0]) for x in range(sides[1])]
        return torch.stack([(w.square().mean((1, 2)) + 1e-6).sqrt() for w in windows])

    def both(video):
        luma = video[0, :, 0].mean(0)
        return detail(luma), detail(F.avg_pool2d(luma[None], 2)[0])

    for power in (1.0, 2.0):
        wanted = sum((p - q).abs().pow(power).mean() for p, q in zip(both(a), both(b)))
        assert torch.isclose(texture_loss(a, b, power), wanted, rtol=1e-4)
    squares = [[(part / STRONG) ** 2 for part in both(x)] for x in (a, b)]
    assert torch.isclose(energy_loss(a, b), sum((p - q).square().mean() for p, q in zip(*squares)), rtol=1e-4)
    logs = [[torch.log(1 + part / GRAIN) for part in both(x)] for x in (a, b)]
    assert torch.isclose(grain_loss(a, b), sum((p - q).square().mean() for p, q in zip(*logs)), rtol=1e-4)


def test_the_loss_decides_between_median_mean_and_mean_square():
    """One code for three frames, two of them plain: best is no noise, 1/3 or sqrt(1/3) of the noise in the other."""
    noise = torch.randn(1, 1, 1, 32, 40, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1, -1) / 5
    frames = [noise, torch.zeros_like(noise), torch.zeros_like(noise)]
    amounts = torch.linspace(0, 1, 31)
    median, mean = partial(texture_loss, power=1.0), partial(texture_loss, power=2.0)
    for loss, best in ((median, 0.0), (mean, 1 / 3), (energy_loss, 3**-0.5)):
        losses = [sum(float(loss(a * noise, frame)) for frame in frames) for a in amounts.tolist()]
        assert abs(float(amounts[int(np.argmin(losses))]) - best) < 0.04


def test_a_checkerboard_is_no_texture():
    """Of the same energy in the Laplacian, noise of the right kind is nearer than a checkerboard."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 1, 1, 32, 40, generator=generator).expand(-1, 3, -1, -1, -1) for _ in range(2))
    y, x = torch.arange(32)[:, None], torch.arange(40)
    board = ((x + y) % 2 * 2.0 - 1).expand(1, 3, 1, -1, -1)
    board = board * laplacian(a[:, :, 0]).std() / laplacian(board[:, :, 0]).std()
    assert texture_loss(board, a) > 3 * texture_loss(b, a)


def test_texture_asks_how_much_detail_not_where():
    a = texture()
    elsewhere = a.flip(-1)
    assert texture_loss(a, a) == 0
    assert texture_loss(blurred(a), a) > 3 * texture_loss(elsewhere, a)


def test_a_lost_grain_counts_like_a_lost_pattern():
    """Half of the detail is gone, once of a strong pattern and once of one 10 times as faint."""
    strong = texture() / 0.8
    faint = strong / 10
    grain, plain = ([loss(x / 2, x) for x in (strong, faint)] for loss in (grain_loss, texture_loss))
    assert 1 < grain[0] / grain[1] < 4 and plain[0] / plain[1] > 8
