"""The manifold on the world of shapes: other real play passes, pictures of another kind do not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidar.data.synthetic import ShapesConfig
from vidar.eval.manifold import FLAGGED, Manifold
from vidar.types import UsageError


@pytest.fixture(scope="module")
def episodes() -> list[np.ndarray]:
    """24 episodes of 24 frames, uint8 [24, 64, 80, 3] each."""
    game = ShapesConfig(height=64, width=80, frames=24).build()
    return [game.episode(seed).frames for seed in range(24)]


@pytest.fixture(scope="module")
def manifold(episodes: list[np.ndarray]) -> Manifold:
    """Of the first 16 episodes; the last 4 are not part of it."""
    return Manifold.of(episodes[:12], episodes[12:20])


def test_one_percent_of_other_real_frames_are_flagged(episodes: list[np.ndarray], manifold: Manifold) -> None:
    """On the frames that set the threshold exactly; on new ones at most every tenth of these few."""
    calibrated = np.concatenate([manifold.off(frames) for frames in episodes[13:20:2]])
    assert 0 < calibrated.mean() <= FLAGGED + 1 / len(calibrated)
    assert np.concatenate([manifold.off(frames) for frames in episodes[20:]]).mean() <= 0.1


@pytest.mark.parametrize("fault", ["stripes", "grid", "negative"])
def test_pictures_of_another_kind_are_flagged(episodes: list[np.ndarray], manifold: Manifold, fault: str) -> None:
    """Stripes, a coloured grid, the negative."""
    frames = np.concatenate(episodes[20:]).astype(np.int64)
    y, x = np.mgrid[:64, :80]
    made = {
        "stripes": frames + 80 * (x[..., None] // 8 % 2),
        "grid": frames + 90 * np.stack([x // 8 % 2, y // 8 % 2, (x + y) // 8 % 2], -1),
        "negative": 255 - frames,
    }[fault]
    assert manifold.off(np.clip(made, 0, 255).astype(np.uint8)).mean() > 0.8


def test_the_score_does_not_depend_on_the_batch(episodes: list[np.ndarray], manifold: Manifold) -> None:
    """A frame alone has the score that it has among others."""
    together = manifold.scores(episodes[21])
    np.testing.assert_allclose(
        [manifold.scores(frame[None])[0] for frame in episodes[21]], together, rtol=0, atol=1e-12
    )


def test_a_score_is_the_same_in_all_digits_on_any_number_of_threads(
    episodes: list[np.ndarray], manifold: Manifold, tmp_path: Path
) -> None:
    """Because all sums are of whole numbers: also of one frame alone, and after it was written and read."""
    manifold.save(tmp_path / "m.npz")
    before, again = torch.get_num_threads(), Manifold.load(tmp_path / "m.npz")
    try:
        torch.set_num_threads(2)
        assert np.array_equal(
            Manifold.of(episodes[:12], episodes[12:20]).scores(episodes[21]), again.scores(episodes[21])
        )
    finally:
        torch.set_num_threads(before)


def test_the_distance_of_two_views(episodes: list[np.ndarray], manifold: Manifold) -> None:
    """0 to itself, symmetric, and more to the negative than to the next frame."""
    frames = episodes[22]
    assert not manifold.apart(frames, frames).any()
    near, far = manifold.apart(frames[:-1], frames[1:]), manifold.apart(frames, 255 - frames)
    assert np.array_equal(near, manifold.apart(frames[1:], frames[:-1])) and near.mean() < far.mean() / 3


def test_frames_without_a_block_are_refused(manifold: Manifold) -> None:
    """The size and type are named."""
    with pytest.raises(UsageError, match=r"uint8 \[1, 16, 80, 3\]"):
        manifold.scores(np.zeros((1, 16, 80, 3), np.uint8))
    with pytest.raises(UsageError, match="1 and 2 or more"):
        Manifold.of([], [])
