"""GIF files from uint8 frames (PyAV, Pillow): one picture per frame, each with its own 256 colours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from vidar.data.atomic import replacing
from vidar.types import VidarError

COLOURS = 256
FASTEST = 50  # frames per second: a GIF counts in hundredths of a second, and browsers slow down below two of them


def write_gif(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float | Fraction) -> None:
    """Write uint8 frames [T, H, W, 3] (an array or an iterable of [H, W, 3]) as a GIF that repeats for ever.

    Each frame begins at the nearest hundredth of a second. Only one frame is held in memory.

    Raises VidarError if there is no frame, if `fps` is above FASTEST, or if the file cannot be written; no partly
    written file remains.
    """
    if not 0 < fps <= FASTEST:
        raise VidarError(f"{path}: a GIF has at most {FASTEST} frames per second, this has {float(fps):g}; write .mp4")
    rate = Fraction(fps).limit_denominator(1001)
    with replacing(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="gif", options={"loop": "0"}) as container:
                stream: Any = None
                for number, frame in enumerate(frames):
                    if stream is None:
                        stream = container.add_stream("gif", rate=rate)
                        stream.height, stream.width = frame.shape[:2]
                        stream.pix_fmt = "pal8"
                    picture = av.VideoFrame.from_ndarray(_indexed(frame), format="pal8")
                    picture.pts, picture.time_base = number, 1 / rate
                    container.mux(stream.encode(picture))
                if stream is None:
                    raise VidarError(f"{path}: there are no frames to write")
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise VidarError(f"{path}: cannot be written: {error.strerror}") from None


def _indexed(frame: np.ndarray) -> Any:
    """uint8 [H, W, 3] -> a pair: the colour number of every pixel, uint8 [H, W]; the colours, uint8 [256, 4] (ARGB)."""
    picture = Image.fromarray(frame).quantize(COLOURS)
    found = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours = np.zeros((COLOURS, 4), np.uint8)
    colours[:, 0], colours[: len(found), 1:] = 255, found
    return np.asarray(picture), colours
