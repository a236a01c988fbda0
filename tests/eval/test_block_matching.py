"""Block matching finds known displacements exactly, and takes noise, flat areas and flicker for rest."""

import math

import numpy as np
import pytest

from vidar.eval.block_matching import block_flow
from vidar.types import UsageError


def texture(height, width, grain=1, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (height // grain + 1, width // grain + 1, 3), dtype=np.uint8)
    return levels.repeat(grain, 0).repeat(grain, 1)[:height, :width]


def window(picture, down, right, height, width):
    return picture[20 - down : 20 - down + height, 20 - right : 20 - right + width]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (0, 1), (2, 0), (-3, 4), (8, -8), (5, 7)])
@pytest.mark.parametrize(("height", "width"), [(64, 80), (31, 45)])
def test_a_shifted_texture(down, right, height, width):
    picture = texture(height + 40, width + 40)
    flow = block_flow(window(picture, 0, 0, height, width), window(picture, down, right, height, width), 1.0)
    assert flow.shape == (height // 8 - 2, width // 8 - 2) and (flow == math.hypot(down, right)).all()


def test_large_frames_are_averaged():
    """At 300 pixels two pixels become one: displacements are even numbers, and reach is in pixels of the frame."""
    picture = texture(340, 380, grain=2)
    shots = [window(picture, down, right, 300, 320) for down, right in ((0, 0), (6, -8))]
    assert (block_flow(shots[0], shots[1], 1.0) == 10.0).all()
    far = window(picture, 0, 18, 300, 320)  # 9 averaged pixels: beyond a reach of 8
    assert not (block_flow(shots[0], far, 16.0) == 18.0).any()
    assert (block_flow(shots[0], far, 18.0) == 18.0).all()


def test_the_search_stays_in_the_frame():
    picture = texture(104, 104)
    flow = block_flow(window(picture, 0, 0, 64, 64), window(picture, 16, 16, 64, 64), 1000.0)
    assert flow.shape == (4, 4) and (flow == math.hypot(16, 16)).all()


def test_noise_flat_areas_and_flicker_rest():
    noise = np.random.default_rng(1)
    flat = np.full((64, 64, 3), 90, np.uint8)
    noisy = [np.clip(flat + noise.integers(-1, 2, flat.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    assert not block_flow(flat, flat, 8).any() and not block_flow(*noisy, 8).any()
    dark = texture(64, 64) // 2
    assert not block_flow(dark, dark + 60, 8).any()


def test_a_moving_object_moves_alone():
    """A square of texture moves by 4 pixels over a still texture: its blocks move by 4, distant blocks by 0."""
    still, square = texture(64, 96), texture(24, 24, seed=1)
    frames = [still.copy(), still.copy()]
    frames[0][24:48, 24:48], frames[1][24:48, 28:52] = square, square
    flow = block_flow(*frames, 1.0)
    assert (flow[2:5, 2:5] == 4).all() and not flow[:1].any() and not flow[:, 7:].any()


def test_frames_that_do_not_fit():
    with pytest.raises(UsageError, match="at least 24 pixels wide, not 20x64 and 20x64"):
        block_flow(texture(64, 20), texture(64, 20), 1)
    with pytest.raises(UsageError, match="of one size"):
        block_flow(texture(64, 32), texture(64, 40), 1)
