"""Codes a player's frames: JPEG, every frame by itself, or H.264, every frame from the one before it.

H.264 needs an FFmpeg with libx264, as the `av` wheel has it; without it, pictures are JPEG. The settings delay no
frame: no B-frames, no look-ahead. Annex B, with parameter sets before every key frame.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, Protocol

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidar.data.video import BT709
from vidar.play import messages
from vidar.types import VidarError

KEY = 1  # flag of an H.264 frame that needs none before it
ENCODER = "libx264"
OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "crf": "18", "forced-idr": "1"}
KEY_EVERY = 2.0  # seconds
PARAMETERS = b"\0\0\1\x67"  # before profile, constraints and level: the sequence parameter set of this profile
_EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND  # else it darkens


class Coded(NamedTuple):
    """kind and flags of a picture's header, and its bytes."""

    kind: int
    flags: int
    data: bytes


class Coder(Protocol):
    """The coder of one player, for one thread at a time. Frames are sent in the order in which they are coded."""

    name: str

    def code(self, frame: np.ndarray, dream: int, number: int) -> Coded:
        """Code frame `number` of a dream, uint8 [H, W, 3]; dream: its own number. Raises VidarError on failure."""
        ...


class Jpeg:
    """Codes every frame by itself."""

    name = "jpeg"

    def code(self, frame: np.ndarray, dream: int, number: int) -> Coded:
        """See `Coder`."""
        return Coded(messages.JPEG_FRAME, 0, messages.to_jpeg(frame))


class H264:
    """yuv420p in BT.709; odd sides are padded by one. fps: the expected frames per second.

    Key frames: the first frame, the first of a dream, the first after a gap, and one every two seconds. Raises
    VidarError if there is no encoder for the size.
    """

    name = "h264"

    def __init__(self, height: int, width: int, fps: float) -> None:
        self._last: tuple[int, int] | None = None
        self._count, self._reformatter = 0, VideoReformatter()
        rate = Fraction(fps).limit_denominator(1001)
        try:
            context = av.CodecContext.create(ENCODER, "w")
            context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            context.framerate, context.time_base, context.thread_count = rate, 1 / rate, 1
            context.gop_size, context.max_b_frames = max(1, round(KEY_EVERY * fps)), 0
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = ColorRange.MPEG
            context.options = OPTIONS
            context.open()
        except (av.FFmpegError, ValueError) as error:  # ValueError: a name that FFmpeg does not know
            raise VidarError(f"no H.264 of {width}x{height}: {ENCODER}: {error}") from None
        self._context = context

    def code(self, frame: np.ndarray, dream: int, number: int) -> Coded:
        """See `Coder`."""
        picture = self._picture(frame)
        picture.pts, self._count = self._count, self._count + 1
        if self._last != (dream, number - 1):
            picture.pict_type = PictureType.I
        self._last = (dream, number)
        try:
            packets = self._context.encode(picture)
        except av.FFmpegError as error:
            raise VidarError(f"{ENCODER}: {error.strerror}") from None
        if len(packets) != 1:
            raise VidarError(f"{ENCODER} made {len(packets)} packets of one frame")
        return Coded(messages.H264_FRAME, KEY * packets[0].is_keyframe, bytes(packets[0]))

    def _picture(self, frame: np.ndarray) -> av.VideoFrame:
        odd = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.pad(frame, odd, mode="edge"), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_EXACT,
            threads=1,
        )


def codec_string(height: int, width: int, fps: float) -> str | None:
    """The codec string by which browsers are asked whether they decode this size: "avc1.42c00a" (RFC 6381).

    None if this machine cannot encode it.
    """
    try:
        data = H264(height, width, fps).code(np.zeros((height, width, 3), np.uint8), 0, 0).data
    except VidarError:
        return None
    place = data.index(PARAMETERS) + len(PARAMETERS)
    return f"avc1.{data[place : place + 3].hex()}"
