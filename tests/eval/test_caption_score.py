"""The scorer of captions of shapes against the state of the world that made the clips."""

from __future__ import annotations

import numpy as np
import pytest

from vidar.data.synthetic import COLOURS, DIRECTION, KINDS, MOVES, ShapesConfig, X, Y
from vidar.eval.caption_score import CaptionScorer, ShapesScorer
from vidar.types import UsageError

SCORER: CaptionScorer = ShapesScorer()


@pytest.fixture(scope="module")
def clips():
    return [ShapesConfig(frames=24, num_blinkers=0).build().episode(seed) for seed in range(24)]


def test_true_captions_are_true(clips) -> None:
    """Colours and kinds of 24 clips with four shapes each: at most one shape is never seen uncovered."""
    found = [
        SCORER(clip.frames, f"a {colour} {kind}")[f"{colour} {kind}"]
        for clip in clips
        for colour, kind in zip(clip.meta["colours"], clip.meta["kinds"])
    ]
    assert len(found) == 96 and sum(found) >= 95


def test_false_captions_are_false(clips) -> None:
    """Every other kind of each shape, and every colour that is not there."""
    for clip in clips:
        there = dict(zip(clip.meta["colours"], clip.meta["kinds"]))
        for colour in COLOURS:
            claims = SCORER(clip.frames, ", ".join(f"a {colour} {kind}" for kind in KINDS))
            assert [claim for claim, true in claims.items() if true] in ([], [f"{colour} {there.get(colour)}"])


def test_the_movement_is_that_of_the_state(clips) -> None:
    """The direction of most displacements, where one leads by two frames; standing still under no keys."""
    told = 0
    for clip in clips:
        steps = np.diff(clip.extras["state"][:, 0, X : Y + 1], axis=0)
        counts = [int((steps @ direction > 1).sum()) for direction in DIRECTION[1:]]
        best, second = sorted(counts)[:-3:-1]
        if best >= second + 2:
            told += 1
            for number, move in enumerate(MOVES[1:]):
                claims = SCORER(clip.frames, f"the white {clip.meta['kinds'][0]} moves {move}")
                assert claims[f"white moves {move}"] is (counts[number] == best)
    assert told >= 12
    still = ShapesConfig().build().episode(0, actions=np.zeros((12, 1)))
    assert SCORER(still.frames, "it stays") == {"white stays": True}
    assert SCORER(still.frames, "it moves left") == {"white moves left": False}


def test_a_caption_of_the_data_is_read_whole(clips) -> None:
    """One claim per shape and one for the movement; a frame without shapes makes all of them false but rest."""
    clip = clips[0]
    claims = SCORER(clip.frames, clip.caption)
    shapes = [f"{colour} {kind}" for colour, kind in zip(clip.meta["colours"], clip.meta["kinds"])]
    assert set(shapes) < set(claims) and len(claims) == 5
    empty = np.full_like(clip.frames, 24)
    assert not any(SCORER(empty, ", ".join(shapes)).values())


def test_a_colour_of_no_shape_is_none() -> None:
    """A pink square is no purple one, though purple is the nearest colour."""
    frames = np.full((4, 32, 32, 3), 24, np.uint8)
    frames[:, 10:20, 10:20] = (165, 80, 200)
    assert SCORER(frames, "a purple square") == {"purple square": True}
    frames[:, 10:20, 10:20] = (250, 90, 190)
    assert SCORER(frames, "a purple square, a red square") == {"purple square": False, "red square": False}


def test_other_input_is_one_line(clips) -> None:
    """Not a video, and not a caption of this world."""
    with pytest.raises(UsageError, match=r"uint8 \[T, H, W, 3\], not float64"):
        SCORER(np.zeros((2, 8, 8, 3)), "a red circle")
    with pytest.raises(UsageError, match="names no colour with a kind"):
        SCORER(clips[0].frames, "a dog runs")
