"""The depth network and its loss: closed forms, a mirror, a round trip, and a relation that it learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vidar.data.loader import ClipBatch
from vidar.nn.depth import DepthNet, DepthNetConfig
from vidar.nn.walk import WalkNetConfig
from vidar.rng import Rng
from vidar.train.methods.depth import DEPTH, DepthConfig, interval_error, mirrored
from vidar.types import UsageError

SMALL = DepthNetConfig(height=16, width=24, widths=(8, 8))


def drawn(config: DepthNetConfig = SMALL) -> DepthNet:
    torch.manual_seed(0)
    return config.build()


def pictures(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, SMALL.height, SMALL.width, 3), dtype=torch.uint8, generator=generator)


def error(found: float, level: int, unit: float, centre: float) -> float:
    low, high = torch.tensor([level * unit]), torch.tensor([(level + 1) * unit])
    return float(interval_error(torch.tensor([found]), low, high, centre)[0])


def test_a_depth_within_its_level_only_has_the_error_to_the_middle() -> None:
    for found in (24.0, 25.5, 28.0, 31.9, 32.0):
        assert error(found, 3, 8.0, 0.0) == 0
        assert error(found, 3, 8.0, 0.1) == pytest.approx(0.1 * abs(math.log(found / 28)), abs=1e-6)


def test_a_depth_outside_its_level_has_the_log_distance_to_the_nearer_edge() -> None:
    assert error(12.0, 3, 8.0, 0.0) == pytest.approx(math.log(24 / 12), abs=1e-6)
    assert error(96.0, 3, 8.0, 0.0) == pytest.approx(math.log(96 / 32), abs=1e-6)
    assert error(96.0, 3, 8.0, 0.5) == pytest.approx(math.log(96 / 32) + 0.5 * math.log(96 / 28), abs=1e-6)


def test_the_first_level_reaches_down_to_its_middle() -> None:
    """Level 0 holds depth 0, whose logarithm is no target: below half of the level, the distance is to that half."""
    assert error(4.0, 0, 8.0, 0.0) == error(7.9, 0, 8.0, 0.0) == 0
    assert error(1.0, 0, 8.0, 0.0) == pytest.approx(math.log(4), abs=1e-6)
    assert error(16.0, 0, 8.0, 0.0) == pytest.approx(math.log(2), abs=1e-6)


def test_depth_is_positive_and_that_of_each_frame_alone() -> None:
    net, frames = drawn(), pictures(3)
    depth = net(frames)
    assert depth.shape == (3, 16, 24) and depth.dtype == torch.float32
    assert (depth > 0).all()
    torch.testing.assert_close(net(frames[1:2])[0], depth[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(net(frames.float()), depth, rtol=0, atol=0)


def test_a_network_that_says_nothing_reads_the_typical_depth() -> None:
    net = drawn(SMALL.replace(typical=50.0))
    torch.nn.init.zeros_(net.out.weight), torch.nn.init.zeros_(net.out.bias)
    assert torch.equal(net(pictures(1)), torch.full((1, 16, 24), 50.0))


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match=r"frames are \[24, 16, 3\], the depth network reads 16 x 24 x 3"):
        drawn()(pictures(1).permute(0, 2, 1, 3))
    with pytest.raises(UsageError, match="3 widths need a height and a width that divide by 8"):
        DepthNetConfig(height=16, width=20, widths=(8, 8, 8))


def test_a_saved_network_reads_the_same_bits(tmp_path: Path) -> None:
    net = drawn()
    net.save_pretrained(tmp_path / "depth")
    again = DepthNet.from_pretrained(tmp_path / "depth")
    assert again.config == net.config and torch.equal(again(pictures(2)), net(pictures(2)))
    WalkNetConfig(actions=1).build().save_pretrained(tmp_path / "walk")
    with pytest.raises(UsageError, match="holds a WalkNet, not a DepthNet"):
        DepthNet.from_pretrained(tmp_path / "walk")


def test_a_mirrored_clip_has_mirrored_depth_and_half_of_them_are() -> None:
    """Each depth stays beside its pixel: brightness is the level. 64 clips: four deviations of a half are 16."""
    count = 64
    level = pictures(count)[..., 0][:, None]
    video = level[..., None].expand(-1, -1, -1, -1, 3)
    seen, depth = mirrored(video, level, [Rng(0, number) for number in range(count)])
    assert torch.equal(seen[..., 1], depth)
    flipped = [not torch.equal(one, before) for one, before in zip(depth, level)]
    assert abs(sum(flipped) - count / 2) <= 16
    for one, before, turned in zip(depth, level, flipped):
        assert torch.equal(one, before.flip(-1) if turned else before)


def test_a_tiny_network_learns_depth_from_brightness() -> None:
    """Squares of one brightness each, of depth 8 (k + 0.5) at brightness 16 k; measured: 0.1 after 100 steps."""
    method = DepthConfig(model=SMALL, unit=8.0, wear=None).build()
    torch.manual_seed(0)
    net = method.build_model()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(2)

    def batch(step: int) -> ClipBatch:
        coarse = torch.randint(1, 15, (4, 1, 4, 6), generator=generator)
        level = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)
        video = (16 * level)[..., None].expand(-1, -1, -1, -1, 3).contiguous()
        number = torch.arange(4 * step, 4 * step + 4)
        return ClipBatch(video, torch.zeros(4, 1, 0), torch.ones(4, 1, dtype=torch.bool), number, [], {DEPTH: level})

    relative = list[float]()
    for step in range(100):
        made = batch(step)
        loss = method.step(net, made, [Rng(0, number) for number in made.number.tolist()])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        relative.append(float(loss.parts["relative"]))
    assert relative[0] > 0.4
    assert sum(relative[-10:]) / 10 < 0.15
