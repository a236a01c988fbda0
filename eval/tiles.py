"""One video of many players: the game above the dream in a tile each, with the name of the player above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from vidar.data.video import encode_video
from vidar.eval.side_by_side import CARD, DREAM, GAP, INK, PAPER, font
from vidar.types import UsageError

HEAD = 22  # pixels of the name of a player
COLUMNS = 6  # players in a row
QUALITIES = (23, 27, 31, 35, 39)  # crf, from the best on
KEY_FRAME = 48  # frames


@dataclass(frozen=True)
class Tile:
    """A player: its name, and videos uint8 [T, H, W, 3] of one size, from top to bottom."""

    name: str
    rows: Sequence[np.ndarray]


def tiled(
    tiles: Sequence[Tile],
    fps: float,
    labels: Sequence[str] = ("game", "dream"),
    scale: int = 2,
    columns: int = COLUMNS,
    most_bytes: int = 4_000_000,
) -> bytes:
    """An mp4 of all tiles at once, `columns` in a row; a shorter video keeps its last frame.

    labels: of the rows of every tile, the last one in the colour of dreams. most_bytes: the quality falls until the
    file is not larger, but not below the last of QUALITIES. Raises UsageError if the rows differ in number or size.
    """
    if not tiles:
        raise UsageError("a video of players needs at least one player")
    for tile in tiles:
        sizes = {row.shape[1:] for row in tile.rows} | {tiles[0].rows[0].shape[1:]}
        if len(tile.rows) != len(labels) or len(sizes) > 1 or min(len(row) for row in tile.rows) == 0:
            raise UsageError(f"{tile.name}: {len(labels)} videos of one size are needed, not {_shapes(tile)}")
    made = b""
    for crf in QUALITIES:
        made = encode_video(_sheets(tiles, labels, scale, columns), fps, crf, gop=KEY_FRAME, name="players")
        if len(made) <= most_bytes:
            break
    return made


def _sheets(tiles: Sequence[Tile], labels: Sequence[str], scale: int, columns: int) -> Iterator[np.ndarray]:
    """The frames, uint8 [H', W', 3]."""
    height, width = (side * scale for side in tiles[0].rows[0].shape[1:3])
    across = min(columns, len(tiles))
    box = (width + GAP, HEAD + len(labels) * (height + GAP) + GAP)
    size = (across * box[0] + GAP, -(-len(tiles) // across) * box[1] + GAP)
    blank = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), PAPER)
    places = [(GAP + n % across * box[0], GAP + n // across * box[1]) for n in range(len(tiles))]
    for tile, (left, top) in zip(tiles, places):
        draw = ImageDraw.Draw(blank)
        draw.rectangle((left, top, left + width - 1, top + HEAD - 1), fill=CARD)
        draw.text((left + 6, top + HEAD / 2), tile.name, INK, font(_fitting(tile.name, width - 12)), anchor="lm")
    for k in range(max(len(row) for tile in tiles for row in tile.rows)):
        sheet = blank.copy()
        for tile, (left, top) in zip(tiles, places):
            for number, row in enumerate(tile.rows):
                shown = Image.fromarray(row[min(k, len(row) - 1)])
                at = (left, top + HEAD + number * (height + GAP))
                sheet.paste(shown.resize((width, height), Image.Resampling.NEAREST), at)
        for left, top in places:
            _label(ImageDraw.Draw(sheet), labels, left, top + HEAD, height + GAP)
        yield np.asarray(sheet)


def _label(draw: ImageDraw.ImageDraw, labels: Sequence[str], left: int, top: int, step: int) -> None:
    """The names of the rows, in a corner of each picture."""
    for number, label in enumerate(labels):
        at = (left + 3, top + number * step + 3)
        wide = int(font(11).getlength(label)) + 8
        draw.rectangle((at[0], at[1], at[0] + wide, at[1] + 14), fill=PAPER)
        ink = DREAM if number == len(labels) - 1 else INK
        draw.text((at[0] + 4, at[1] + 7.5), label, ink, font(11), anchor="lm")


def _fitting(text: str, width: int) -> int:
    """The largest size of 8 to 13 in which a text is not wider."""
    return next((size for size in range(13, 8, -1) if font(size).getlength(text) <= width), 8)


def _shapes(tile: Tile) -> str:
    return ", ".join(str(list(row.shape)) for row in tile.rows) or "none"
