"""The parts of the pose network against loops and planted motion; it reads two frames, and a mirror changes signs."""

import math

import numpy as np
import pytest
import torch

from vidar.configs.idm import idm
from vidar.nn.pose import MIRRORED, PoseNet, PoseNetConfig, best_turn, motion, residual, turned
from vidar.types import UsageError

VIEW = 86.3
TINY = PoseNetConfig(height=16, width=24, view=VIEW, turn=4, shift=2, stem=(4, 4), widths=(8, 8), head=4, hidden=16)


def smooth(count, height, width, seed=0):
    """Pictures without detail below some pixels, so that half a pixel is something to read."""
    noise = torch.rand(count, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", align_corners=True) * 2 - 1


def test_motion_by_hand():
    root = math.sqrt(0.5)
    pose = torch.tensor([[0, 0, 0, 350], [0, 0, 9, 10], [0, 3, 9, 90], [-2, 3, 0, 90], [-2 + root, 3 + root, 0, 45]])
    wanted = torch.tensor([[20.0, 0, 0], [80, 3, 0], [0, 0, 2], [-45, 1, 0]]).double()
    assert torch.allclose(motion(pose), wanted, atol=1e-5)
    assert torch.equal(motion(torch.stack([pose, pose.flip(0)]))[0], motion(pose))
    assert motion(torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 180]]))[0, 0] == -180


def test_turned_against_rays():
    """Each pixel is a ray; the ray is turned in space, and the pixel that it came from is read."""
    height, width, degrees = 6, 8, 11.0
    picture = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    moved, seen = turned(picture, torch.tensor([degrees]), VIEW)
    focal, angle = width / 2 / math.tan(math.radians(VIEW) / 2), math.radians(degrees)
    for i in range(height):
        for j in range(width):
            right, down, far = j + 0.5 - width / 2, i + 0.5 - height / 2, focal
            before = (
                right * math.cos(angle) - far * math.sin(angle),
                down,
                right * math.sin(angle) + far * math.cos(angle),
            )
            x, y = focal * before[0] / before[2] + width / 2 - 0.5, focal * before[1] / before[2] + height / 2 - 0.5
            assert seen[0, i, j] == (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5)
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            a, b, p = x - left, y - top, picture[0, 0].double()
            wanted = (1 - b) * ((1 - a) * p[top, left] + a * p[top, left + 1])
            wanted += b * ((1 - a) * p[top + 1, left] + a * p[top + 1, left + 1])
            assert math.isclose(moved[0, 0, i, j], wanted, abs_tol=1e-5)


def test_a_turn_to_the_left_moves_the_picture_to_the_right():
    picture = torch.zeros(1, 1, 16, 24)
    picture[..., 12] = 1
    assert turned(picture, torch.tensor([8.0]), VIEW)[0][0, 0, 8].argmax() > 12
    assert torch.allclose(turned(picture, torch.tensor([0.0]), VIEW)[0], picture, atol=1e-5)


@pytest.mark.parametrize("degrees", [-6.3, -1.76, -0.4, 0.0, 0.5, 2.2, 5.27, 7.03])
def test_the_turn_is_found_between_those_that_are_tried(degrees):
    config = TINY.replace(height=64, width=80, turn=9)
    before = smooth(4, 64, 80)
    now = turned(before, torch.full((4,), degrees), VIEW)[0]
    found, cost = best_turn(now[:, 0], before[:, 0], config)
    assert (found - degrees).abs().max() < 0.15
    assert cost.shape == (4, 19) and (cost.argmin(1) - (9 + degrees)).abs().max() < 1


def test_the_search_is_even_handed():
    """Mirrored pictures have the opposite turn."""
    config, pictures = TINY.replace(height=32, width=40), smooth(6, 32, 40, 3)[:, 0]
    found, cost = best_turn(pictures[3:], pictures[:3], config)
    other, back = best_turn(pictures[3:].flip(-1), pictures[:3].flip(-1), config)
    assert torch.allclose(found, -other, atol=1e-3) and torch.allclose(cost, back.flip(1), atol=1e-5)


def test_what_is_left_is_found_by_shift():
    config = TINY.replace(height=32, width=48, turn=1, shift=2)
    assert len(config.shifts) == len(set(config.shifts)) == 25
    ground = (
        torch.rand(24, 32, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 0).repeat_interleave(2, 1)
    )
    for number, (row, column) in enumerate(config.shifts):
        # now[i, j] = before[i + 2 row, j + 2 column]
        before = ground[8:40, 8:56]
        now = ground[8 + 2 * row : 40 + 2 * row, 8 + 2 * column : 56 + 2 * column]
        fits = residual(now[None], before[None], config)[0, :, 2:-2, 2:-2]
        assert fits.shape == (25, 4, 8) and (fits.argmin(0) == number).all() and (fits.amin(0) == -1).all()


def net(seed=0):
    torch.manual_seed(seed)
    return TINY.build().eval()


def test_a_step_depends_on_its_two_frames():
    clip = torch.randint(0, 256, (2, 6, 16, 24, 3), dtype=torch.uint8)
    own = net()
    before = torch.cat(own(clip), -1)
    assert before.shape == (2, 5, 6) and (before[..., 3:] > 0).all()
    for frame in range(6):
        other = clip.clone()
        other[0, frame] = 255 - other[0, frame]
        changed = (torch.cat(own(other), -1) != before).any(-1)
        assert changed[0].tolist() == [frame in (t - 1, t) for t in range(1, 6)] and not changed[1].any()


def test_read_in_chunks_is_one_pass_and_the_mean_of_both_sides():
    own, clip = net(), torch.randint(0, 256, (3, 7, 16, 24, 3), dtype=torch.uint8)
    signs = torch.tensor(MIRRORED)
    with torch.inference_mode():
        (moved, off), (mirrored, other) = own(clip), own(clip.flip(3))
    for chunk in (1, 7, 1000):
        read = own.read(clip, chunk)
        assert torch.allclose(read[0], (moved + signs * mirrored) / 2, atol=1e-4)
        assert torch.allclose(read[1], (off + other) / 2, atol=1e-4)
    (moved, off), (mirrored, other) = own.read(clip), own.read(clip.flip(3))
    assert torch.equal(mirrored, signs * moved) and torch.equal(other, off)


def test_saved_and_read(tmp_path):
    own, clip = net(), torch.randint(0, 256, (1, 3, 16, 24, 3), dtype=torch.uint8)
    own.save_pretrained(tmp_path / "model")
    again = PoseNet.from_pretrained(tmp_path / "model")
    assert again.config == TINY and all(map(torch.equal, again(clip), own(clip)))
    idm(preset="tiny").method.build().build_model().save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match="not a PoseNet"):
        PoseNet.from_pretrained(tmp_path / "other")


def test_wrong_input_is_named():
    own = net()
    for shape in ((1, 3, 16, 20, 3), (1, 1, 16, 24, 3)):
        with pytest.raises(UsageError, match="the pose network reads 2 or more frames of 16 x 24 x 3"):
            own(torch.zeros(shape))
    with pytest.raises(UsageError, match="view"):
        TINY.replace(view=180.0)


def test_still_frames_are_still():
    """Whatever the network learns, what it is shown fits best without a motion."""
    clip = torch.from_numpy(np.repeat(np.random.default_rng(0).integers(0, 256, (1, 1, 16, 24, 3)), 3, 1)).float()
    x = (clip / 127.5 - 1).mean(-1)[0]
    turn, cost = best_turn(x[1:], x[:-1], TINY)
    assert turn.abs().max() < 0.1 and (cost.argmin(1) == 4).all()
    assert (residual(x[1:], x[:-1], TINY).argmin(1) == 12).all()
