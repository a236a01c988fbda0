"""The closed-form dimensions on clips whose scores follow by hand."""

import math

import numpy as np
import pytest
import torch

from vidar.eval.vbench_native import (
    NATIVE,
    consistency,
    consistency_of_set,
    dynamic_degree,
    is_static,
    motion,
    motion_smoothness,
    native_scores,
    pixels,
    subject_consistency,
    temporal_flickering,
)
from vidar.types import UsageError


def grey(*levels):
    return np.tile(np.array(levels, np.uint8)[:, None, None, None], (1, 32, 40, 3))


def pan(step, frames, size=64, seed=0):
    """A camera over a texture, `step` pixels to the right per frame."""
    wide = np.random.default_rng(seed).integers(0, 256, (size, size + step * frames, 3), dtype=np.uint8)
    return np.stack([wide[:, step * t : step * t + size] for t in range(frames)])


def naive_flickering(frames):
    """The definition, pixel by pixel, in floats."""
    means = [np.abs(a.astype(float) - b.astype(float)).mean() for a, b in zip(frames, frames[1:])]
    return (255 - np.mean(means)) / 255


def test_a_still_clip_is_perfect_and_dead():
    clip = np.repeat(pan(0, 1), 17, axis=0)
    assert native_scores(clip, 8.0) == {
        "temporal_flickering": 1.0,
        "motion_smoothness/linear": 1.0,
        "subject_consistency/pixels": 1.0,
        "dynamic_degree/blockmatch": 0.0,
        "motion/blockmatch": 0.0,
    }
    assert is_static(clip)


def test_a_flickering_clip_is_worst():
    clip = grey(0, 255, 0, 255, 0)
    assert temporal_flickering(clip) == 0.0 and motion_smoothness(clip) == 0.0
    assert subject_consistency(clip) == 0.25  # opposite to the neighbour, equal to the first in half of the frames
    assert dynamic_degree(clip) == motion(clip) == 0.0  # nothing moves


def test_a_fade_is_smooth():
    clip = grey(10, 20, 30, 40, 50, 60)
    assert temporal_flickering(clip) == 245 / 255 and motion_smoothness(clip) == 1.0
    clip[3] += 4  # one odd frame of two: (0 + 4) / 2 on average
    assert motion_smoothness(clip) == 253 / 255
    clip[5] += 200  # has no next frame
    assert motion_smoothness(clip) == 253 / 255


def test_flickering_is_the_mean_over_everything():
    clip = np.random.default_rng(3).integers(0, 256, (6, 33, 41, 3), dtype=np.uint8)
    assert temporal_flickering(clip) == pytest.approx(naive_flickering(clip), abs=1e-14)
    assert temporal_flickering(clip[..., ::-1]) == temporal_flickering(clip) == temporal_flickering(clip[::-1])


def test_consistency_by_hand():
    turn = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 1.0]])
    first = (0 + 0 + math.sqrt(0.5)) / 2  # the cosines with frame 0, negative ones are 0
    before = (0 + 0 + 0) / 2  # with the previous frame: 0, 0, -sqrt(1/2)
    assert consistency(turn) == pytest.approx((first + before) / 3, abs=1e-15)
    assert consistency(np.array([[1.0, 0.0], [0.0, 0.0]])) == 0.0
    long, short = np.repeat(turn[:1], 5, axis=0), np.array([[1, 0], [0, 1]])
    assert consistency(long) == 1.0 and consistency(short) == 0.0
    assert consistency_of_set([long, short]) == pytest.approx(4 / 5)  # over frames: 4 of 1.0 and 1 of 0.0


def test_pixels_are_sums_of_cells():
    clip = np.random.default_rng(4).integers(0, 256, (2, 24, 43, 3), dtype=np.uint8)
    found = pixels(clip).reshape(2, 8, 8, 3)
    assert found.dtype == np.int64
    assert (found[1, 2, 7] == (2 * clip[1, 6:9, 7 * 43 // 8 :].astype(int) - 255).sum((0, 1))).all()
    assert found.sum() == (2 * clip.astype(int) - 255).sum()


@pytest.mark.parametrize("size", [64, 128])
def test_motion_is_in_pixels_of_256(size):
    assert motion(pan(2, 5, size)) == 2 * 256 / size


def test_dynamic_degree_has_the_official_thresholds():
    """64 pixels: a pair moves above 1.5 pixels; 16 frames: 4 moving pairs of 15."""
    assert dynamic_degree(pan(1, 16)) == 0.0 and dynamic_degree(pan(2, 16)) == 1.0
    for moving, found in ((3, 0.0), (4, 1.0)):
        clip = pan(2, 16)
        clip[moving + 1 :] = clip[moving]
        assert dynamic_degree(clip) == found, moving
    assert dynamic_degree(pan(1, 32), fps=16) == 1.0  # every second frame: 2 pixels per pair
    assert dynamic_degree(pan(1, 32), fps=11) == 0.0  # round(11 / 8) = 1


def test_the_flow_can_be_exchanged():
    asked = []

    def flow(first, second, reach):
        asked.append(reach)
        return np.where(np.arange(64 * 64) < 0.05 * 64 * 64 - 1, 3.0, 0.0)  # just less than the largest 5 %

    assert motion(pan(0, 3), flow) == pytest.approx(3.0 * 4 * (int(0.05 * 64 * 64)) / int(0.05 * 64 * 64), rel=0.01)
    assert set(asked) == {1.5}


def test_the_static_filter():
    """16 frames of 64 pixels: at most 2 pairs above 0.75 pixels, and the ends within 3 pixels."""
    assert not is_static(pan(1, 16))
    jump = np.repeat(pan(2, 2)[:1], 16, axis=0)
    jump[7] = pan(2, 2)[1]
    assert is_static(jump)  # there and back: 2 pairs
    jump[11] = jump[7]
    assert not is_static(jump)  # 4 pairs
    for shift, found in ((3, True), (4, False)):
        step = np.repeat(pan(shift, 2)[:1], 16, axis=0)
        step[8:] = pan(shift, 2)[1]
        assert is_static(step) is found, shift
    flicker = np.repeat(pan(0, 1) // 2, 16, axis=0)
    flicker[::2] += 60
    assert is_static(flicker) and temporal_flickering(flicker) == 195 / 255


def test_threads_do_not_matter():
    clip = np.random.default_rng(5).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(native_scores(clip, 8.0))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] and set(found[0]) == set(NATIVE)


@pytest.mark.parametrize("name", NATIVE)
def test_what_does_not_fit_is_refused(name):
    score = NATIVE[name]
    for frames in (grey(1), grey(1, 2, 3).astype(np.float32), grey(1, 2, 3)[..., :1]):
        with pytest.raises(UsageError, match="uint8|at least 2 frames"):
            score(frames)
