"""Retrieval by actions: against the slow search over all pieces."""

from pathlib import Path

import numpy as np
import pytest

from vidar.eval.retrieval import CELLS, STRIDE, Clips
from vidar.types import UsageError


@pytest.fixture
def clips() -> Clips:
    """Two games of 40 and 30 frames whose frame n shows n everywhere, with three keys."""
    random = np.random.Generator(np.random.Philox(3))
    frames = [np.full((n, 16, 24, 3), 0, np.uint8) + random.integers(0, 256, (n, 1, 1, 3), np.uint8) for n in (40, 30)]
    return Clips.of(frames, [random.integers(0, 2, (len(f), 3)).astype(np.float32) for f in frames])


def test_it_shows_what_the_slow_search_finds(clips: Clips) -> None:
    """For every piece: the fewest wrong keys, then the nearest picture."""
    random = np.random.Generator(np.random.Philox(4))
    table = random.integers(0, 2, (23, 3)).astype(np.float32)
    first = random.integers(0, 256, (16, 24, 3)).astype(np.uint8)
    shown, last, length = [], first, 6
    for begin in range(0, 23, length):
        wanted, found = table[begin : begin + length], []
        for game in (range(40), range(40, 70)):
            for place in list(game)[1 : len(game) - length + 1 : STRIDE]:
                wrong = sum(abs(clips.actions[place + k] - wanted[k]).sum() for k in range(len(wanted)))
                found.append((wrong, _apart(clips.frames[place - 1], last), place))
        place = min(found)[2]
        shown += list(clips.frames[place : place + len(wanted)])
        last = shown[-1]
    assert np.array_equal(clips.follow(first, table, length), shown)


def _apart(a: np.ndarray, b: np.ndarray) -> int:
    height, width = a.shape[0] // CELLS, a.shape[1] // CELLS
    return sum(
        abs(
            int(a[y * height : (y + 1) * height, x * width : (x + 1) * width, c].astype(int).sum())
            - int(b[y * height : (y + 1) * height, x * width : (x + 1) * width, c].astype(int).sum())
        )
        for y in range(CELLS)
        for x in range(CELLS)
        for c in range(3)
    )


def test_it_survives_a_file_and_refuses_what_does_not_fit(clips: Clips, tmp_path: Path) -> None:
    """Bit for bit; no games, unequal lengths, and games that are too short are named."""
    clips.save(tmp_path / "c.npz")
    again = Clips.load(tmp_path / "c.npz")
    assert again.begins == clips.begins and np.array_equal(again.frames, clips.frames)
    with pytest.raises(UsageError, match="one action row per frame"):
        Clips.of([], [])
    with pytest.raises(UsageError, match="no recorded game has 61 frames"):
        clips.follow(clips.frames[0], np.zeros((60, 3), np.float32), 60)
