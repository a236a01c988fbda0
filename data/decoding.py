"""The frames of a video file as a player shows them, found by count, with a check of every frame (PyAV).

What a container says about presentation is applied: edit lists (hidden frames are not frames), rotation, mirror and the
aspect ratio of pixels. A cover picture is not a video.
"""

from __future__ import annotations

import heapq
import io
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from vidar.types import VidarError

# Without the last two flags FFmpeg rounds down, and a round trip darkens the image by 1.3 levels of 255.
EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_STRICT = {"hevc", "mjpeg"}  # decoders that report damage and missing references only if err_detect is set
_HIDING = {"vp8"}  # codecs with packets that are not shown
_BROADCAST = {"mpegts", "mpeg", "h264", "hevc"}  # formats that may be cut and joined anywhere
_MAX_ASPECT = 16  # of a pixel; Choice: no camera or disc has more than 4
_SKEW = 0.02  # Choice: a turn by less than this share of a quarter turn is rounding
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")  # the first two elements of a Matroska file


@contextmanager
def open_video(source: bytes | str | os.PathLike[str], name: str) -> Generator[Any]:
    """An open PyAV container. source: bytes or a path.

    Every FFmpeg error becomes a VidarError naming `name`, and so does a Matroska file that is cut off.
    """
    _check_length(source, name)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        with av.open(file, "r", metadata_errors="replace") as container:  # titles of old cameras are no UTF-8
            yield container
    except av.FFmpegError as error:
        raise VidarError(f"{name}: cannot be read as video ({error.strerror}); damaged or truncated?") from None


def video_stream(container: Any, name: str) -> Any:
    """The video stream of an open container; cover pictures are none.

    Of several, one with more than a single frame is preferred, then the default one, then the largest.

    Raises VidarError naming `name` if there is none, or none that FFmpeg can decode.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _STILL]
    if not streams:
        raise VidarError(f"{name}: contains no video stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise VidarError(f"{name}: no decoder knows the format of its video; damaged? If not, encode it as H.264")
    return max(known, key=_preference)


class Decoder:
    """One pass through the frames of the video stream of an open container, in the order of presentation.

    fps: the average rate in the header, frames per second. Raises VidarError naming `name` if there is no video stream
    or no frame rate, or if the aspect ratio of its pixels is absurd.
    """

    def __init__(self, container: Any, name: str) -> None:
        self.container, self.name = container, name
        self.stream = video_stream(container, name)
        context = self.stream.codec_context
        context.thread_count = 1
        if context.name in _STRICT:
            context.options = {"err_detect": "explode"}
        rate = self.stream.average_rate or self.stream.guessed_rate
        if not rate:
            raise VidarError(f"{name}: has no frame rate; convert it to a constant frame rate")
        self.fps = float(rate)
        self._aspect = self.stream.sample_aspect_ratio or 1
        if not 1 / _MAX_ASPECT <= self._aspect <= _MAX_ASPECT:
            raise VidarError(f"{name}: pixels have an aspect ratio of {self._aspect}; encode the video again with 1:1")
        self._reformatter = VideoReformatter()
        self._turn: tuple[bool, int, int] | None = None

    def frames(self) -> Iterator[Any]:
        """All frames as PyAV frames, from the first one on.

        Raises VidarError with the number of the frame if it is damaged, lost in decoding or of another size than the
        first one, and, at the end, if the file holds fewer frames than it lists.
        """
        number, packets, shown, keys = 0, 0, 0, 0
        first_key: int | None = None
        first_size: tuple[int, int] | None = None
        pending = _Pending()
        hides = self.stream.codec_context.name in _HIDING
        for packet in self.container.demux(self.stream):
            if packet.size:
                packets += 1
                keys += packet.is_keyframe
                if not keys and not packet.is_discard and self.container.format.name not in _BROADCAST:
                    raise VidarError(f"{self.name}: does not begin with a key frame; damaged or truncated?")
                if not keys:
                    continue  # no player can show this frame of a broadcast
                first_key = packet.pts if packet.is_keyframe and keys == 1 else first_key
                leading = keys == 1 and not packet.is_keyframe and _before(packet.pts, first_key)
                if not packet.is_discard and not leading:
                    shown += 1
                    pending.add(packet.pts)
            for frame in self._decoded(packet, number):
                hides = hides or frame.interlaced_frame  # a packet may be one of its two fields
                if pending.skipped(frame.pts) and not hides:
                    raise VidarError(f"{self.name}: frame {number} cannot be decoded; damaged?")
                first_size = first_size or self.size(frame)
                self._check_size(frame, number, first_size)
                yield frame
                number += 1
        if packets < self._listed() or (number < shown and not hides):
            listed = max(self._listed(), shown)
            raise VidarError(f"{self.name}: damaged or truncated: header says {listed} frames, {number} decode")

    def sought(self, start: int, count: int | None) -> np.ndarray | None:
        """Pictures of the frames start .. start+count-1 (None: to the end) by a seek to the key frame before them.

        None if this is not exact: the container does not list the time stamp of each frame, frames are reordered, or
        the decoded frames do not have exactly the listed stamps.
        """
        entries, stream = self.stream.index_entries, self.stream
        if not len(entries) == stream.frames > start or stream.codec_context.has_b_frames:
            return None
        stamps = [entry.timestamp for entry in entries[: count and start + count] if not entry.is_discard]
        wanted = stamps[start:]
        if not wanted or len(wanted) < (count or 1) or stamps[0] != stream.start_time:
            return None
        pictures: list[np.ndarray] = []
        try:
            self.container.seek(wanted[0], stream=self.stream, backward=True, any_frame=False)
            for frame in self.container.decode(self.stream):
                if frame.pts is not None and frame.pts < wanted[0]:
                    continue
                if frame.pts != wanted[len(pictures)] or frame.is_corrupt:
                    return None
                pictures.append(self.picture(frame))
                if len(pictures) == len(wanted):
                    return np.stack(pictures)
        except av.FFmpegError:
            pass  # a pass from the first frame on finds the number of the damaged frame
        return None

    def picture(self, frame: Any) -> np.ndarray:
        """A frame as shown: uint8 [H, W, 3], with square pixels, turned and mirrored as the container says."""
        rgb = self._reformatter.reformat(
            frame, width=self._square_width(frame), format="rgb24", interpolation=EXACT, threads=1
        )
        picture = rgb.to_ndarray()
        transposed, down, right = self._orientation(frame)
        picture = picture.transpose(1, 0, 2) if transposed else picture
        return np.ascontiguousarray(picture[::down, ::right])

    def size(self, frame: Any) -> tuple[int, int]:
        """(height, width) of `picture` in pixels."""
        height, width = frame.height, self._square_width(frame)
        return (width, height) if self._orientation(frame)[0] else (height, width)

    def _decoded(self, packet: Any, number: int) -> list[Any]:
        """The frames that a packet completes, the first of which is frame `number`."""
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            problem = f"frame {number} cannot be decoded ({error.strerror})"
            raise VidarError(f"{self.name}: {problem}; damaged or truncated?") from None
        for place, frame in enumerate(frames):
            if frame.is_corrupt:
                raise VidarError(
                    f"{self.name}: frame {number + place} is damaged; record the video again or cut it before"
                )
        if packet.is_corrupt and self.container.format.name not in _BROADCAST:
            raise VidarError(f"{self.name}: damaged or truncated: the data of frame {number} are not complete")
        return frames

    def _check_size(self, frame: Any, number: int, first: tuple[int, int]) -> None:
        height, width = self.size(frame)
        if (height, width) != first:
            raise VidarError(
                f"{self.name}: frame {number} is {height} x {width}, frame 0 is {first[0]} x {first[1]}; encode the "
                "video again with one size"
            )

    def _listed(self) -> int:
        """Packets that the header lists; 0 if it does not."""
        indexed = len(self.stream.index_entries)
        if "mp4" in self.container.format.name:
            return indexed  # without those that an edit list cuts off, which the number in the header counts
        return self.stream.frames or indexed  # Matroska lists some of them

    def _square_width(self, frame: Any) -> int:
        """The width in square pixels of the height of a stored pixel."""
        return max(1, round(frame.width * self._aspect))

    def _orientation(self, frame: Any) -> tuple[bool, int, int]:
        """Whether rows and columns are exchanged, then the steps (1 or -1) down and to the right.

        It changes at key frames only; to ask each frame costs as much as to decode a small one.
        """
        if self._turn is None or frame.key_frame:
            self._turn = self._matrix(frame)
        return self._turn

    def _matrix(self, frame: Any) -> tuple[bool, int, int]:
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # side data of a kind that PyAV does not know hide the matrix, but not its angle
            a, b = round(np.cos(angle := np.radians(frame.rotation)), 3), round(-np.sin(angle), 3)
            c, d = -b, a
        else:
            if data is None:
                return False, 1, 1
            a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
        if abs(b) + abs(c) <= _SKEW * (abs(a) + abs(d)):  # x' = a x + c y, y' = b x + d y
            return False, -1 if d < 0 else 1, -1 if a < 0 else 1
        if abs(a) + abs(d) <= _SKEW * (abs(b) + abs(c)):
            return True, -1 if b < 0 else 1, -1 if c < 0 else 1
        raise VidarError(f"{self.name}: is turned by {frame.rotation} degrees, not by quarter turns; encode it again")


class _Pending:
    """The time stamps of the packets whose frames the decoder has not returned yet."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._last: int | None = None
        self._ordered = True  # False: stamps are missing or go back, so that they do not tell the order

    def add(self, stamp: int | None) -> None:
        """Note the stamp of a packet."""
        if stamp is None or (self._last is not None and stamp < self._last):
            self._ordered = False
        else:
            heapq.heappush(self._stamps, stamp)

    def skipped(self, stamp: int | None) -> bool:
        """Note the stamp of a returned frame; whether a frame before it is missing."""
        if stamp is None or not self._ordered:
            self._ordered = False
            return False
        self._last = stamp
        if self._stamps and self._stamps[0] == stamp:
            heapq.heappop(self._stamps)
            return False
        return bool(self._stamps) and self._stamps[0] < stamp


def _preference(stream: Any) -> tuple[bool, bool, int]:
    return stream.frames != 1, bool(stream.disposition & Disposition.default), stream.width * stream.height


def _before(stamp: int | None, first: int | None) -> bool:
    """Whether a frame may be shown before the first key frame, so that it cannot be decoded."""
    return stamp is None or first is None or stamp < first


def _check_length(source: bytes | str | os.PathLike[str], name: str) -> None:
    """Raises VidarError if a Matroska file has fewer bytes than its header says (FFmpeg does not notice)."""
    if isinstance(source, bytes):
        head, size = source[:4096], len(source)
    else:
        try:
            with Path(source).open("rb") as stream:
                head, size = stream.read(4096), os.fstat(stream.fileno()).st_size
        except OSError as error:
            raise VidarError(f"{name}: cannot be read: {error.strerror}") from None
    end = 0
    for element in (_EBML, _SEGMENT):
        start = end + len(element)
        if not head.startswith(element, end) or start >= len(head) or not head[start]:
            return
        width = 9 - head[start].bit_length()  # of the number that follows the element, in bytes
        length = int.from_bytes(head[start : start + width]) & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:
            return  # recorded live, of unknown length
        end = start + width + length
    if size < end:
        raise VidarError(f"{name}: damaged or truncated: header says {end} bytes, there are {size}")
