"""Video files and bytes <-> uint8 frames [T, H, W, 3], exact to the frame (PyAV).

H.264 in yuv420p with BT.709 tags, a key frame every 12 frames and no B-frames, so that reading a random frame decodes
at most 12 frames. Choice: one encoder thread, so that the bytes do not depend on the number of cores.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidar.data.atomic import check_output, replacing
from vidar.types import VidarError

BT709 = 1  # the code of BT.709 in ITU-T H.273: primaries, transfer and matrix
# Without these two flags FFmpeg rounds down, and a round trip darkens the image by 1.3 levels of 255.
_EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float | Fraction, crf: int = 18, gop: int = 12
) -> None:
    """Write uint8 frames [T, H, W, 3] (an array or an iterable of [H, W, 3]) as mp4, or as WebM if the path says so.

    Odd sizes are padded to even ones.

    Raises VidarError if the path cannot be written or the frames are not uint8 images of one size; no file is left
    behind.
    """
    check_output(path)
    name = str(path)
    webm = Path(path).suffix == ".webm"
    kind, codec, options = ("webm", _vp9(crf), {}) if webm else ("mp4", _lossy(crf), {"movflags": "+faststart"})
    with replacing(path) as temporary:
        try:
            with av.open(str(temporary), "w", format=kind, options=options) as container:
                _encode(container, frames, fps, codec, gop, name)
        except av.FFmpegError as error:
            raise VidarError(f"{name}: cannot be written: {error.strerror}") from None


def encode_video(
    frames: Iterable[np.ndarray], fps: float, crf: int = 18, gop: int = 12, lossless: bool = False, name: str = "video"
) -> bytes:
    """Encode uint8 frames [T, H, W, 3] as mp4 bytes; `lossless` stores exact RGB. Raises VidarError naming `name`."""
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            _encode(container, frames, fps, _lossless() if lossless else _lossy(crf), gop, name)
    except av.FFmpegError as error:
        raise VidarError(f"{name}: cannot be encoded: {error.strerror}") from None
    return buffer.getvalue()


def read_video(path: str | os.PathLike[str], start: int = 0, count: int | None = None) -> tuple[np.ndarray, float]:
    """Frames start .. start+count-1 (count None: to the end) as uint8 [T, H, W, 3], and the frames per second.

    Raises VidarError for a missing, empty, damaged or truncated file, or if the file has fewer frames.
    """
    file = Path(path)
    if not file.is_file():
        raise VidarError(f"{file}: no such video file")
    if file.stat().st_size == 0:
        raise VidarError(f"{file}: is empty")
    with open_video(str(file), str(file)) as container:
        return _read(container, start, count, str(file))


def decode_video(data: bytes, start: int = 0, count: int | None = None, name: str = "video") -> np.ndarray:
    """`read_video` of bytes, without the frame rate: uint8 [T, H, W, 3]. Raises VidarError naming `name`."""
    with open_video(io.BytesIO(data), name) as container:
        return _read(container, start, count, name)[0]


@dataclass(frozen=True)
class Timing:
    """The result of decoding a whole video. frames: decoded; declared: by the header (0: unknown).

    height, width: in pixels, including padding. regular: the time stamps increase strictly by one constant step.
    """

    frames: int
    declared: int
    height: int
    width: int
    fps: float
    regular: bool


def video_timing(source: bytes | str, name: str) -> Timing:
    """Decode and count everything. source: bytes or a path. Raises VidarError naming `name`."""
    with open_video(io.BytesIO(source) if isinstance(source, bytes) else source, name) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        seconds = [float(frame.pts * stream.time_base) for frame in container.decode(stream) if frame.pts is not None]
        fps = float(stream.average_rate or 0)
        steps = np.diff(seconds)
        regular = bool(np.all(np.abs(steps - 1 / fps) < 0.5 / fps)) if fps else False
        return Timing(len(seconds), stream.frames, stream.height, stream.width, fps, regular)


@contextmanager
def open_video(source: Any, name: str) -> Generator[Any]:
    """An open PyAV container with a video stream; every FFmpeg error becomes a VidarError naming `name`."""
    try:
        with av.open(source, "r") as container:
            if not container.streams.video:
                raise VidarError(f"{name}: contains no video stream")
            yield container
    except av.FFmpegError as error:
        raise VidarError(f"{name}: cannot be read as video ({error.strerror}); damaged or truncated?") from None


@dataclass(frozen=True)
class _Codec:
    name: str
    pix_fmt: str
    options: dict[str, str]
    quality: int | None = None  # constant quantiser, for codecs without crf


def _lossy(crf: int) -> _Codec:
    if "libx264" in av.codecs_available:
        return _Codec("libx264", "yuv420p", {"crf": str(crf), "preset": "veryfast", "bf": "0"})
    return _Codec("mpeg4", "yuv420p", {}, quality=2)


def _vp9(crf: int) -> _Codec:
    if "libvpx-vp9" not in av.codecs_available:
        raise VidarError("WebM needs an FFmpeg with libvpx-vp9; write .mp4, or reinstall the `av` wheel")
    # no hidden frames, so that every packet is one frame
    speed = {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "0", "lag-in-frames": "0"}
    return _Codec("libvpx-vp9", "yuv420p", {"crf": str(crf), "b": "0", **speed})


def _lossless() -> _Codec:
    if "libx264rgb" not in av.codecs_available:
        raise VidarError("lossless video needs an FFmpeg with libx264rgb; reinstall the `av` wheel")
    return _Codec("libx264rgb", "rgb24", {"crf": "0", "preset": "veryfast", "bf": "0"})


def _encode(
    container: Any, frames: Iterable[np.ndarray], fps: float | Fraction, codec: _Codec, gop: int, name: str
) -> None:
    if not 0.01 <= fps <= 1000:
        raise VidarError(f"{name}: fps is {float(fps):g}, but must be in 0.01 .. 1000")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VidarError(f"{name}: there are no frames to write")
    picture = _picture(first, None, name, 0)
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream(codec.name, rate=rate, options=codec.options)
    stream.height, stream.width = (size + size % 2 for size in picture.shape[:2])
    stream.pix_fmt = codec.pix_fmt
    context = stream.codec_context
    context.gop_size, context.thread_count = gop, 1
    if codec.pix_fmt == "yuv420p":
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
    if codec.quality is not None:
        context.qscale, context.global_quality = True, codec.quality * 118  # FF_QP2LAMBDA
    reformatter = VideoReformatter()
    for number, frame in enumerate(chain([first], iterator)):
        pixels = _padded(_picture(frame, picture.shape, name, number))
        out = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if codec.pix_fmt == "yuv420p":
            out = reformatter.reformat(
                out,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_EXACT,
                threads=1,
            )
        out.pts, out.time_base = number, 1 / rate
        container.mux(stream.encode(out))
    container.mux(stream.encode(None))


def _picture(frame: np.ndarray, shape: tuple[int, ...] | None, name: str, number: int) -> np.ndarray:
    picture = np.asarray(frame)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise VidarError(
            f"{name}: frame {number} is {picture.dtype} {list(picture.shape)}, expected uint8 [height, width, 3]"
        )
    if shape is not None and picture.shape != shape:
        raise VidarError(f"{name}: frame {number} has size {picture.shape[:2]}, frame 0 has {shape[:2]}")
    return picture


def _padded(picture: np.ndarray) -> np.ndarray:
    odd = (picture.shape[0] % 2, picture.shape[1] % 2)
    if any(odd):
        picture = np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)


def _read(container: Any, start: int, count: int | None, name: str) -> tuple[np.ndarray, float]:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    fps = stream.average_rate
    if not fps:
        raise VidarError(f"{name}: has no frame rate; convert it to a constant frame rate")
    if start < 0 or (count is not None and count < 1):
        raise VidarError(f"{name}: frames {start} .. +{count} cannot be read: start >= 0 and count >= 1")
    reformatter = VideoReformatter()
    frames = [
        reformatter.reformat(frame, format="rgb24", interpolation=_EXACT, threads=1).to_ndarray()
        for frame in islice(_frames_from(container, stream, start), count)
    ]
    declared = stream.frames
    if count is not None and len(frames) < count:
        raise VidarError(
            f"{name}: frames {start} .. {start + count - 1} were requested, but there are only {len(frames)}"
        )
    if count is None and declared and len(frames) != max(declared - start, 0):
        raise VidarError(f"{name}: damaged or truncated: header says {declared} frames, {len(frames)} decode")
    if not frames:
        raise VidarError(f"{name}: no frame at {start} or after")
    return np.stack(frames), float(fps)


def _frames_from(container: Any, stream: Any, start: int) -> Iterator[Any]:
    """Decoded frames from number `start` on: seek to the key frame before it, decode up to it."""
    target = 0
    if start:
        target = (stream.start_time or 0) + round(start / stream.average_rate / stream.time_base)
        container.seek(target, stream=stream, backward=True, any_frame=False)
    for frame in container.decode(stream):
        if not start or (frame.pts is not None and frame.pts >= target):
            yield frame
