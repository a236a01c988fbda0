"""Hinge losses, R1 and LeCAM in closed form, the ramp, what a judge of frames and one of clips can see."""

import pytest
import torch
from torch import nn

from vidar.tokenizers.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    lecam_penalty,
    r1_penalty,
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


class Linear(nn.Module):
    """One score per video: <w, x> + b."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)).double())
        self.bias = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, video):
        return (video * self.weight).flatten(1).sum(dim=1) + self.bias


def test_r1_of_a_linear_judge_is_its_squared_length():
    judge, video = Linear((3, 2, 4, 4)), torch.rand(5, 3, 2, 4, 4).double()
    penalty = r1_penalty(judge, video)
    assert torch.allclose(penalty, judge.weight.square().sum())
    penalty.backward()
    assert torch.allclose(judge.weight.grad, 2 * judge.weight) and not video.requires_grad
    squared = r1_penalty(lambda x: judge(x).square() / 2, video)  # gradient D(x) w
    assert torch.allclose(squared, judge(video).square().mean() * judge.weight.square().sum())


def test_r1_does_not_depend_on_how_many_patches_there_are():
    conv = nn.Conv2d(3, 1, 4, stride=4).double()
    for side in (4, 16):
        penalty = r1_penalty(lambda x: conv(x[:, :, 0]), torch.rand(2, 3, 1, side, side).double())
        assert torch.allclose(penalty, conv.weight.square().sum())


def test_r1_is_computed_in_float32():
    judge, video = Discriminator(DiscriminatorConfig(width=4)), torch.randn(2, 3, 2, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert judge(video).dtype == torch.bfloat16
        low = r1_penalty(judge, video)
    assert torch.equal(low, r1_penalty(judge, video))


def test_lecam_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    # relu(real + 0.5) = 2.5, 1, 0 ; relu(0.25 - fake) = 3.25, 0.25, 0
    want = (6.25 + 1) / 3 + (3.25**2 + 0.25**2) / 3
    assert lecam_penalty(real, fake, torch.tensor(0.25), torch.tensor(-0.5)).item() == pytest.approx(want)


def test_anchors_are_running_means_of_the_steps_before():
    torch.manual_seed(0)
    judge = DiscriminatorConfig(width=4, lecam=0.5, lecam_decay=0.75).build()
    real, fake = torch.randn(4, 2, 3, 2, 16, 16), torch.randn(4, 2, 3, 2, 16, 16)
    a_real = a_fake = None
    for step, (x, y) in enumerate(zip(real, fake)):
        d_real, d_fake = judge(x), judge(y)
        loss = judge.loss(x, y)
        hinge = discriminator_hinge(d_real, d_fake)
        if a_real is None:
            assert loss.parts["lecam"] == 0 and torch.equal(loss.total, hinge)
            a_real, a_fake = d_real.mean(), d_fake.mean()
        else:
            want = ((d_real - a_fake).clamp_min(0) ** 2).mean() + ((a_real - d_fake).clamp_min(0) ** 2).mean()
            assert torch.allclose(loss.total, hinge + 0.5 * want) and torch.allclose(loss.parts["lecam"], want)
            a_real, a_fake = 0.75 * a_real + 0.25 * d_real.mean(), 0.75 * a_fake + 0.25 * d_fake.mean()
        judge.update()
        assert torch.allclose(judge.anchors, torch.stack([a_real, a_fake]), atol=1e-6)
        judge.update()
        assert int(judge.updates) == step + 1, "nothing seen, nothing moved"
    kept = judge.anchors.clone()
    judge.loss(real[0] + 9, fake[0])
    judge.forget()
    judge.update()
    judge.eval().loss(real[0] + 9, fake[0])
    judge.update()
    assert torch.equal(judge.anchors, kept) and int(judge.updates) == 4
    assert not {"anchors", "updates"} & DiscriminatorConfig().build().state_dict().keys()


def test_two_batches_of_one_step_move_the_anchors_once():
    torch.manual_seed(0)
    whole, halves = (DiscriminatorConfig(width=4, lecam=1.0).build() for _ in range(2))
    halves.load_state_dict(whole.state_dict())
    real, fake = torch.randn(4, 3, 1, 16, 16), torch.randn(4, 3, 1, 16, 16)
    whole.loss(real, fake)
    for part in (slice(0, 2), slice(2, 4)):
        halves.loss(real[part], fake[part])
    whole.update()
    halves.update()
    assert torch.allclose(whole.anchors, halves.anchors, atol=1e-6) and int(halves.updates) == 1


def test_r1_comes_every_n_steps_with_n_times_the_weight():
    torch.manual_seed(0)
    judge = DiscriminatorConfig(width=4, r1=0.5, r1_every=3).build().double()
    plain = DiscriminatorConfig(width=4).build().double()
    plain.load_state_dict(judge.state_dict())
    video, out = torch.randn(2, 2, 3, 2, 16, 16).double()
    out.requires_grad_()
    slow = 0.5 / 2 * r1_penalty(judge, video)
    extra = [(judge.loss(video, out).total - plain.loss(video, out).total).item() for _ in range(7)]
    assert extra == pytest.approx([3 * slow.item() if step % 3 == 0 else 0 for step in range(7)])
    assert sum(extra[:6]) / 6 == pytest.approx(slow.item()), "on average the weight is r1"
    judge.steps.fill_(3)
    judge.loss(video, out).total.backward()
    assert out.grad is None, "only real samples, and nothing reaches what made the others"
    assert "r1" not in judge.eval().loss(video, out).parts


def test_a_judge_of_clips_sees_the_order_of_frames():
    torch.manual_seed(0)
    config = DiscriminatorConfig(width=4, detail=1.0)
    frames, clips = Discriminator(config), Discriminator(config, time_kernel=3)
    video = torch.randn(2, 3, 5, 16, 24)
    assert clips(video).shape == (2, 1, 2, 2, 3)
    shuffled = video[:, :, [3, 1, 0, 4, 2]]
    assert torch.allclose(frames(shuffled).mean(), frames(video).mean(), atol=1e-6)
    assert not torch.allclose(clips(shuffled).mean(), clips(video).mean(), atol=1e-3)
    assert torch.allclose(clips(video[1:]), clips(video)[1:], atol=1e-6), "clips of a batch stay apart"
    pair = torch.randn(1, 3, 2, 16, 16)
    assert clips(pair).shape == (1, 1, 1, 2, 2)


def test_a_judge_of_clips_is_a_convolution_in_time():
    """One layer, its kernel tap by tap from 2D convolutions: frame t from frames t - 1, t and t + 1, zeros outside."""
    torch.manual_seed(0)
    judge = Discriminator(DiscriminatorConfig(width=4, num_layers=1), time_kernel=3)
    video, conv = torch.randn(1, 3, 4, 8, 8), judge.layers[0]
    padded = nn.functional.pad(video, (0, 0, 0, 0, 1, 1))
    slow = [
        sum(
            nn.functional.conv2d(padded[:, :, t + tap], conv.weight[:, :, tap], stride=2, padding=1) for tap in range(3)
        )
        for t in range(4)
    ]
    slow = torch.stack(slow, dim=2) + conv.bias.reshape(-1, 1, 1, 1)
    assert torch.allclose(conv(video), slow, atol=1e-5)
