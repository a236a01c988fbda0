"""Previews of a data set: a contact sheet, and a video with the pressed actions drawn below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidar.actions import Action, ActionSpec
from vidar.data.atomic import replacing
from vidar.data.episode import Episode
from vidar.data.index import load_index
from vidar.data.outputs import check_outputs, written_by
from vidar.data.reader import read_episode, read_sample, samples
from vidar.data.video import write_video
from vidar.types import UsageError

INK, PAPER, LIT, DARK = (235, 235, 235), (20, 20, 24), (240, 180, 40), (60, 60, 66)
LINE = 14  # height of a text line in pixels
CAP = 20  # height of a key cap in pixels
GAP = 4


def contact_sheet(
    path: str | os.PathLike[str], out_png: str | os.PathLike[str], rows: int = 6, columns: int = 8, split: str = ""
) -> None:
    """A PNG with one row per episode; episodes and frames are spread evenly over the split.

    split: "" means the first split.

    Raises UsageError for rows or columns below 1, and VidarError for unsuitable data or an unsuitable output.
    """
    if rows < 1 or columns < 1:
        raise UsageError(f"a contact sheet needs at least 1 row and 1 column, not {rows} x {columns}")
    check_outputs([out_png])
    index = load_index(path)
    found = samples(path, index, split or index.splits()[0])
    picked = _spread(len(found), rows)
    sheet = Image.new("RGB", (columns * index.width, len(picked) * (index.height + LINE)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, number in enumerate(picked):
        episode = read_sample(found[number], extras=())
        top = row * (index.height + LINE)
        draw.text((2, top), f"{episode.name}  {len(episode.frames)} frames  {episode.source}", INK, _font())
        for column, frame in enumerate(_spread(len(episode.frames), columns)):
            sheet.paste(Image.fromarray(episode.frames[frame]), (column * index.width, top + LINE))
    with replacing(out_png) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=written_by())


def preview_video(
    path: str | os.PathLike[str], out_mp4: str | os.PathLike[str], episode: int | str = 0, split: str = ""
) -> None:
    """An mp4 of one episode (number or key) with key caps that light up while pressed, and the frame number.

    The caps under frame t show a_t, the action that led to the frame. Raises VidarError as `read_episode` and
    `write_video` do.
    """
    check_outputs([out_mp4])
    index = load_index(path)
    recording = read_episode(path, split or index.splits()[0], episode, extras=())
    write_video(out_mp4, _annotated(recording), recording.fps)


def _annotated(episode: Episode) -> Iterator[np.ndarray]:
    height, width = episode.frames.shape[1:3]
    scale = max(1, round(320 / width))
    size = (width * scale, height * scale)
    places, bottom = _layout(episode.spec, size[0])
    for number, frame in enumerate(episode.frames):
        canvas = Image.new("RGB", (size[0], size[1] + LINE + GAP + bottom), PAPER)
        canvas.paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST))
        draw = ImageDraw.Draw(canvas)
        draw.text((GAP, size[1] + 1), f"{number} / {len(episode.frames) - 1}  {episode.name}", INK, _font())
        for action, value, (left, top, wide) in zip(episode.spec.actions, episode.actions[number], places):
            lit = number > 0 and value != action.noop
            box = (left, size[1] + LINE + GAP + top, left + wide, size[1] + LINE + GAP + top + CAP)
            draw.rounded_rectangle(box, 3, fill=LIT if lit else DARK)
            text = _label(action, float(value) if number else action.noop)
            draw.text((box[0] + GAP, box[1] + GAP), text, PAPER if lit else INK, _font())
        yield np.asarray(canvas)


def _layout(spec: ActionSpec, width: int) -> tuple[list[tuple[int, int, int]], int]:
    """(left, top, width) of each key cap, in lines that fit the image, and their total height."""
    places: list[tuple[int, int, int]] = []
    left, top = GAP, 0
    for action in spec.actions:
        wide = int(max(_font().getlength(_label(action, v)) for v in (action.lowest, action.highest))) + 2 * GAP
        if left > GAP and left + wide + GAP > width:
            left, top = GAP, top + CAP + GAP
        places.append((left, top, wide))
        left += wide + GAP
    return places, top + CAP + GAP


def _label(action: Action, value: float) -> str:
    name = action.name.lower().replace("_", " ")
    if action.kind == "binary":
        return name
    return f"{name} {value:+.2f}" if action.kind == "continuous" else f"{name} {value:.0f}"


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(11)


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers of range(count), evenly spaced, including the first and the last."""
    return sorted({int(round(x)) for x in np.linspace(0, count - 1, min(wanted, count))})
