"""Video files and bytes <-> uint8 frames [T, H, W, 3], exact to the frame (PyAV).

H.264 in yuv420p with BT.709 tags, a key frame every 12 frames and no B-frames, so that reading a random frame decodes
at most 12 frames. Choice: one encoder thread, and no AVX-512 code of x264 (`_instructions`), so that the same frames
give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from vidar.data.atomic import check_output, replacing
from vidar.data.decoding import EXACT, Decoder, open_video
from vidar.data.outputs import WRITER
from vidar.data.resize import resized_crop_frame
from vidar.types import VidarError

BT709 = 1  # the code of BT.709 in ITU-T H.273: primaries, transfer and matrix
BT601 = 6  # that of BT.601 with 525 lines
SPACES = {BT709: Colorspace.ITU709, BT601: Colorspace.SMPTE170M}


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    crf: int = 18,
    gop: int = 12,
    matrix: int = BT709,
) -> None:
    """Write uint8 frames [T, H, W, 3] (an array or an iterable of [H, W, 3]) as mp4, or as WebM if the path says so.

    Odd sizes are padded to even ones. matrix: BT709 or BT601, from RGB to YUV, which the file names. BT601 is for
    readers that ignore that and assume it, such as OpenCV.

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
                container.metadata["comment"] = WRITER
                _encode(container, frames, fps, codec, gop, name, matrix)
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

    Frames are those that a player shows, as it shows them (`Decoder`), and are numbered by count.

    Raises VidarError for a missing, empty, damaged or truncated file, or if the file has fewer frames.
    """
    return _read(_existing(path), start, count, str(path))


def decode_video(data: bytes, start: int = 0, count: int | None = None, name: str = "video") -> np.ndarray:
    """`read_video` of bytes, without the frame rate: uint8 [T, H, W, 3]. Raises VidarError naming `name`."""
    return _read(data, start, count, name)[0]


def read_pieces(
    path: str | os.PathLike[str], length: int, size: tuple[int, int] | None = None, keep: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """All frames in one pass, in pieces of `length` frames (the last may be shorter): uint8 [T, H, W, 3].

    size: (height, width) in pixels that each frame is made as soon as it is read (`resized_crop`); None: unchanged.
    keep: int [K], the numbers of the frames that are kept, in increasing order; None: all.

    Raises VidarError like `read_video`, and if the file ends before the last frame of `keep`.
    """
    file, name = _existing(path), str(path)
    wanted = itertools.count() if keep is None else iter(keep.tolist())
    following = next(wanted, None)
    piece, filled = None, 0
    with open_video(file, name) as container:
        decoder = Decoder(container, name)
        for number, frame in enumerate(decoder.frames()):
            if following is None:
                break
            if number != following:
                continue
            following = next(wanted, None)
            picture = decoder.picture(frame)
            picture = picture if size is None else resized_crop_frame(picture, size)
            piece = np.empty((length, *picture.shape), np.uint8) if piece is None else piece
            piece[filled] = picture
            filled += 1
            if filled == length:
                yield piece
                piece, filled = None, 0
    if following is not None and (keep is not None or following == 0):
        raise VidarError(f"{name}: frame {following} was requested, but the video ends before it")
    if piece is not None:
        yield piece[:filled]


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """The result of decoding a whole video.

    frames: shown ones. times: float64 [T], seconds from the first frame to the presentation of each.
    duration: of the last frame in seconds, None if unknown. height, width: in pixels, as shown, including padding.
    fps: the average rate in the header. declared: frames in the header, including hidden ones (0: unknown).
    """

    frames: int
    times: np.ndarray
    duration: float | None
    height: int
    width: int
    fps: float
    declared: int

    @property
    def regular(self) -> bool:
        """Whether the times increase by one step, up to half of it."""
        steps = np.diff(self.times)
        return bool(np.all(np.abs(steps - np.median(steps)) < 0.5 * np.median(steps))) if len(steps) else True

    @property
    def rate(self) -> float:
        """Frames per second between the first frame and the last one; `fps` for a single frame."""
        return (self.frames - 1) / self.times[-1] if self.frames > 1 and self.times[-1] > 0 else self.fps


def video_info(source: bytes | str | os.PathLike[str], name: str) -> VideoInfo:
    """Decode and count everything. source: bytes or a path. Raises VidarError naming `name`."""
    source = source if isinstance(source, bytes) else _existing(source)
    with open_video(source, name) as container:
        decoder = Decoder(container, name)
        stamps: list[int | None] = []
        duration, size = None, (0, 0)
        for frame in decoder.frames():
            size = size if stamps else decoder.size(frame)
            duration = float(frame.duration * frame.time_base) if frame.duration else None
            stamps.append(frame.pts)
        if not stamps:
            raise VidarError(f"{name}: contains no frame that can be shown")
        if None in stamps:
            times = np.arange(len(stamps)) / decoder.fps
        else:
            unit = decoder.stream.time_base
            times = (np.array(stamps) - stamps[0]) * unit.numerator / unit.denominator
        return VideoInfo(len(stamps), times, duration, *size, decoder.fps, decoder.stream.frames)


@dataclass(frozen=True)
class _Codec:
    name: str
    pix_fmt: str
    options: dict[str, str]
    quality: int | None = None  # constant quantiser, for codecs without crf


def _lossy(crf: int) -> _Codec:
    if "libx264" in av.codecs_available:
        return _Codec("libx264", "yuv420p", {"crf": str(crf), "preset": "veryfast", "bf": "0", **_instructions()})
    return _Codec("mpeg4", "yuv420p", {}, quality=2)


def _instructions() -> dict[str, str]:
    """The option of x264 that limits it to AVX2 on a CPU with AVX-512.

    With the AVX-512 code of its macroblock tree, what narrow frames are encoded to depends on what the memory held
    before. Measurements: docs/notes/video.md.
    """
    return {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}


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
    container: Any,
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    codec: _Codec,
    gop: int,
    name: str,
    matrix: int = BT709,
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
        context.colorspace = context.color_primaries = context.color_trc = matrix
        context.color_range = ColorRange.MPEG
    if codec.quality is not None:
        context.qscale, context.global_quality = True, codec.quality * 118  # FF_QP2LAMBDA
    reformatter = VideoReformatter()
    for number, frame in enumerate(itertools.chain([first], iterator)):
        pixels = _padded(_picture(frame, picture.shape, name, number))
        out = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if codec.pix_fmt == "yuv420p":
            out = reformatter.reformat(
                out,
                format="yuv420p",
                dst_colorspace=SPACES[matrix],
                dst_color_range=ColorRange.MPEG,
                interpolation=EXACT,
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


def _existing(path: str | os.PathLike[str]) -> str:
    file = Path(path)
    if not file.is_file():
        raise VidarError(f"{file}: no such video file")
    if file.stat().st_size == 0:
        raise VidarError(f"{file}: is empty")
    return str(file)


def _read(source: bytes | str, start: int, count: int | None, name: str) -> tuple[np.ndarray, float]:
    if start < 0 or (count is not None and count < 1):
        raise VidarError(f"{name}: frames {start} .. +{count} cannot be read: start >= 0 and count >= 1")
    if start:
        with open_video(source, name) as container:
            decoder = Decoder(container, name)
            frames = decoder.sought(start, count)
            if frames is not None:
                return frames, decoder.fps
    with open_video(source, name) as container:
        decoder = Decoder(container, name)
        stop = None if count is None else start + count
        frames = [decoder.picture(frame) for frame in itertools.islice(decoder.frames(), start, stop)]
        if count is not None and len(frames) < count:
            raise VidarError(
                f"{name}: frames {start} .. {start + count - 1} were requested, but there are only {len(frames)}"
            )
        if not frames:
            raise VidarError(f"{name}: contains no frame at {start} or after that can be shown")
        return np.stack(frames), decoder.fps
