"""Features against slow definitions, closed forms and numbers of this machine that every machine must give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidar.configs.catalog import find
from vidar.data.synthetic import ShapesConfig
from vidar.eval.extractors import Pixels, RandomNet, check_clip, to_square
from vidar.eval.frozen_encoder import FrozenEncoder, load_tokenizer, statistics
from vidar.eval.video_distance import extractor
from vidar.nn.pretrained import save_component
from vidar.types import UsageError, VidarError


def clips(count: int, frames: int = 16, height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    """Real clips of the world of shapes, uint8 [count, T, H, W, 3]."""
    world = ShapesConfig(height=height, width=width, frames=frames).build()
    return np.stack([world.episode(seed + n).frames for n in range(count)])


def test_pixels_are_means_of_cells() -> None:
    """Against a loop, where the sides divide by 8 and where they do not; a shifted batch gives the same rows."""
    for shape in ((16, 40, 56), (9, 13, 8)):
        video = np.random.Generator(np.random.Philox(1)).integers(0, 256, (2, *shape, 3)).astype(np.uint8)
        found = Pixels()(video).reshape(2, 8, 8, 8, 3)
        for b, t, y, x in ((0, 0, 0, 0), (1, 7, 7, 7), (0, 3, 5, 2)):
            (t0, t1), (y0, y1), (x0, x1) = (
                (k * n // 8, (k + 1) * n // 8) for k, n in zip((t, y, x), shape, strict=True)
            )
            cell = video[b, t0:t1, y0:y1, x0:x1].reshape(-1, 3)
            want = np.array([sum(int(v) for v in cell[:, c]) / (255 * len(cell)) for c in range(3)])
            np.testing.assert_array_equal(found[b, t, y, x], want.astype(np.float32))
    with pytest.raises(UsageError, match="at least 8 pixels per side"):
        Pixels()(np.zeros((1, 8, 7, 9, 3), np.uint8))


def test_the_random_network_is_the_same_everywhere() -> None:
    """Numbers of its first features on fixed clips: its weights come from a counter, not from torch's generator."""
    torch.manual_seed(1)
    video = clips(2)
    found = RandomNet()(video)
    assert found.shape == (2, RandomNet.dim) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, [0, 1, 31, 32, 63]], GOLDEN, rtol=1e-4)
    np.testing.assert_array_equal(RandomNet()(video[1:]), found[1:])
    larger = video.repeat(2, 2).repeat(2, 3)
    assert np.abs(RandomNet()(larger) - found).max() < 0.05 * np.abs(found).max()


def test_statistics_of_latents_in_closed_form() -> None:
    """A still clip has no change; a constant speed v has v, 4 v and v; one jump shows in `jump`, less in `now`."""
    texture = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand(1, 2, 9, 3, 4)
    still = statistics(texture + torch.tensor([0.5, 2.0]).view(1, 2, 1, 1, 1))[0].view(5, 2)
    torch.testing.assert_close(still, torch.tensor([[0.5, 2.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    time = torch.arange(9.0).view(1, 1, 9, 1, 1)
    speed = statistics(texture + 0.3 * time)[0].view(5, 2)
    torch.testing.assert_close(speed[2:, 0], torch.tensor([0.3, 1.2, 0.3]))
    jump = statistics(texture + 3.0 * (time >= 5))[0].view(5, 2)
    torch.testing.assert_close(jump[2:, 0], torch.tensor([3 / 8**0.5, (9 * 4 / 5) ** 0.5, 3.0]))
    flicker = statistics(texture + (time % 2))[0].view(5, 2)
    torch.testing.assert_close(flicker[2:, 0], torch.tensor([1.0, 0.0, 1.0]))


def test_the_frozen_encoder_sees_what_stands_still() -> None:
    """On real clips of the shipped world's size, a frozen or doubled speed moves the features of change only so far."""
    encoder, video = FrozenEncoder(), clips(4, 17, 64, 80)
    real, frozen = encoder(video), encoder(video[:, :1].repeat(17, 1))
    channels = encoder.dim // 5
    assert encoder.dim == 40 and encoder.name.startswith("frozen-") and encoder.multiple == 8
    assert np.abs(frozen[:, 2 * channels :]).max() < 1e-5 < real[:, 2 * channels :].min()
    alone = np.concatenate([encoder(one[None]) for one in video])
    np.testing.assert_allclose(real, alone, atol=1e-5)


def test_tokenizers_of_several_frames_leave_out_what_does_not_fill_a_latent(tmp_path) -> None:
    """17 frames and 18 give the same features where a latent takes 2; another network is one line."""
    torch.manual_seed(0)
    config = find("tokenizer_video_shapes")(preset="tiny").method.tokenizer
    save_component(config.build(), config, tmp_path / "t")
    encoder, video = extractor(f"frozen={tmp_path / 't'}"), clips(1, 18, 32, 32)
    np.testing.assert_array_equal(encoder(video), encoder(video[:, :17]))
    assert encoder.frames[0] == 3
    with pytest.raises(UsageError, match="not a tokenizer"):
        load_tokenizer(find_shipped("doom_idm"))


def find_shipped(name: str) -> str:
    from vidar.model.load import SHIPPED

    return str(SHIPPED / name)


def test_clips_that_do_not_suit_are_one_line() -> None:
    """Number of frames and multiples of a side, each with the remedy."""
    with pytest.raises(UsageError, match="pixels-8x8x8 takes clips of at least 8 frames, not 4; set --frames"):
        check_clip(Pixels(), 4, (64, 80))
    with pytest.raises(UsageError, match="multiples of 8, the videos are 81x66; .* --size 80x64"):
        check_clip(FrozenEncoder(), 16, (66, 81))
    check_clip(FrozenEncoder(), 16, (64, 80))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i3d", "needs a file of weights: i3d=FILE"),
        ("pixel", "none of frozen, pixels, random3d, frozen=MODEL, i3d=FILE"),
        ("pixels=3", "none of frozen"),
        ("frozen=absent", "no such world"),
        ("videomae=absent.pth", "absent.pth: no such file of weights"),
    ],
)
def test_names_that_are_no_extractor(text: str, message: str) -> None:
    """One line with what there is."""
    with pytest.raises(VidarError, match=message):
        extractor(text)


def test_frames_are_resized_one_by_one_without_antialiasing() -> None:
    """As the published implementations: each frame alone, bilinear, corners not aligned."""
    video = clips(2, 3)
    found = to_square(video, 28)
    frame = torch.from_numpy(video[1, 2]).float().permute(2, 0, 1)[None]
    torch.testing.assert_close(found[1, :, 2], F.interpolate(frame, (28, 28), mode="bilinear", align_corners=False)[0])
    assert found.shape == (2, 3, 3, 28, 28) and found.max() > 200


GOLDEN = [0.0819563, 0.0963454, 0.234072, 0.132004, 0.167417]
