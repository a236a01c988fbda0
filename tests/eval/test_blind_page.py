"""The videos of a page: both sides keep their picture alike, and a page holds what it needs and no answer."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from vidar.data.synthetic import ShapesConfig
from vidar.data.video import decode_video
from vidar.eval.blind_page import BACK, GAP, Pair, blind_page, pair_video, start_video
from vidar.eval.frame_metrics import psnr

H = W = 32


@pytest.fixture(scope="module")
def clips():
    game = ShapesConfig(frames=12).build()
    return [game.episode(n).frames for n in (1, 2)]


def halves(mp4):
    """Left, gap, right; one pixel of each block of 4 x 4, to which small pictures are enlarged."""
    frames = decode_video(mp4)[:, 1::4, 1::4]
    return [frames[:, :, a:b] for a, b in ((0, W), (W, W + GAP // 4), (W + GAP // 4, None))]


def test_both_sides_lose_the_same_little(clips):
    """A side is within 1 dB of what the same clip has on the other side, and above 38 dB: no cue from the codec."""
    one, two = clips
    first, gap, second = halves(pair_video(one, two, 10.0))
    again, _, other = halves(pair_video(two, one, 10.0))
    assert np.abs(gap.astype(int) - BACK).max() < 12
    shown = {("one", "left"): first, ("two", "right"): second, ("two", "left"): again, ("one", "right"): other}
    real = {"one": one, "two": two}
    quality = {key: float(psnr(clip[None], real[key[0]][None], 255.0).mean()) for key, clip in shown.items()}
    assert min(quality.values()) > 38
    for who in ("one", "two"):
        assert abs(quality[who, "left"] - quality[who, "right"]) < 1.0


def test_small_pictures_are_enlarged():
    frames = np.zeros((3, 200, 96, 3), np.uint8)
    for height, scale in ((200, 1), (128, 2), (40, 4)):
        pair = decode_video(pair_video(frames[:, :height], frames[:, :height], 10.0))
        assert pair.shape == (3, scale * height, 2 * scale * 96 + GAP, 3)
    with pytest.raises(ValueError, match="cannot be a pair"):
        pair_video(frames, frames[:2], 10.0)


def test_a_start_is_in_the_middle_of_a_picture_of_the_same_size(clips):
    shown, pair = decode_video(start_video(clips[0], 10.0)), decode_video(pair_video(*clips, 10.0))
    assert shown.shape == pair.shape
    left = 2 * W + GAP // 2
    assert psnr(shown[None, :, 1::4, left + 1 : left + 4 * W : 4], clips[0][None], 255.0).mean() > 38
    assert np.abs(shown[:, :, : left - 8].astype(int) - BACK).max() < 12


def test_a_page_is_one_file_with_the_trials_and_no_answer(clips):
    pairs = [Pair(f"{n:016x}", pair_video(*clips, 10.0), start_video(clips[0], 10.0)) for n in range(2)]
    html, name = blind_page("models", pairs)
    content = json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', html, re.S)[1])
    assert content["id"] == name and content["kind"] == "models"
    assert [set(trial) for trial in content["trials"]] == [{"id", "pair", "start"}] * 2
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text) and "{{" not in text
    assert text.isascii() and "answer" not in json.dumps(
        json.loads(re.sub(r"base64,[A-Za-z0-9+/=]+", "", json.dumps(content)))
    )
    assert blind_page("models", pairs)[1] == name != blind_page("models", pairs[:1])[1]
