"""What a tile shows, where, and how large the file may be."""

from __future__ import annotations

import numpy as np
import pytest

from vidar.data.video import decode_video
from vidar.eval.side_by_side import GAP
from vidar.eval.tiles import HEAD, Tile, tiled
from vidar.types import UsageError

H, W, SCALE = 24, 32, 3


def level(value, frames=3):
    return np.full((frames, H, W, 3), value, np.uint8)


def test_every_row_of_every_player_is_at_its_place_in_every_frame():
    levels = np.random.default_rng(0).integers(30, 226, (5, 2, 3))
    tiles = [
        Tile(f"player {n}", [np.concatenate([level(value, 1) for value in row]) for row in pair])
        for n, pair in enumerate(levels)
    ]
    frames = decode_video(tiled(tiles, 10.0, scale=SCALE, columns=3))
    assert len(frames) == 3
    height, width = H * SCALE, W * SCALE
    for n in range(5):
        left, top = GAP + n % 3 * (width + GAP), GAP + n // 3 * (HEAD + 2 * (height + GAP) + GAP) + HEAD
        for row in range(2):
            y = top + row * (height + GAP)
            inner = frames[:, y + 20 : y + height - 4, left + 4 : left + width - 4].astype(int)  # below the label
            assert np.abs(inner - levels[n, row][:, None, None, None]).mean() <= 2
        name = frames[0, top - HEAD : top, left : left + width]
        assert name.max() > 150  # its letters
    head = frames[0, GAP : GAP + HEAD, GAP : GAP + width].astype(int)
    other = frames[0, GAP : GAP + HEAD, 2 * GAP + width : 2 * GAP + 2 * width].astype(int)
    assert np.abs(head - other).max() > 60  # "player 0" is not "player 1"


def test_a_shorter_player_keeps_its_last_frame():
    short = Tile("short", [np.concatenate([level(40, 1), level(200, 1)])] * 2)
    frames = decode_video(tiled([Tile("long", [level(90, 6)] * 2), short], 10.0, scale=SCALE))
    left, top = GAP + W * SCALE + GAP, GAP + HEAD
    shown = frames[:, top + 30 : top + 60, left + 20 : left + 60].astype(int).mean((1, 2, 3))
    assert np.abs(shown - [40, 200, 200, 200, 200, 200]).max() < 4


def test_the_file_stays_small():
    noise = np.random.default_rng(0).integers(0, 256, (8, H, W, 3), dtype=np.uint8)
    tiles = [Tile("noise", [noise, noise])]
    large, small = tiled(tiles, 10.0), tiled(tiles, 10.0, most_bytes=20_000)
    assert len(small) < 0.7 * len(large)
    assert len(decode_video(small)) == 8
    assert tiled(tiles, 10.0) == large  # the same bytes again


def test_what_does_not_fit_is_named():
    for tiles, message in (
        ([], "at least one player"),
        ([Tile("a", [level(1)])], "a: 2 videos of one size are needed"),
        ([Tile("a", [level(1), level(1)[:, 1:]])], r"\[3, 23, 32, 3\]"),
        ([Tile("a", [level(1)] * 2), Tile("b", [level(1)[:, 1:]] * 2)], "b: 2 videos of one size"),
        ([Tile("a", [level(1), level(1)[:0]])], "a: 2 videos"),
    ):
        with pytest.raises(UsageError, match=message):
            tiled(tiles, 10.0)
