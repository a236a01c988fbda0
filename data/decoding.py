"""The frames of a video file as a player shows them, found by count, with a check of every frame (PyAV).

What a container says about presentation is applied: edit lists (hidden frames are not frames), rotation, mirror and the
aspect ratio of pixels. A cover picture is not a video.
"""

from __future__ import annotations

import io
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
_MAX_ASPECT = 16  # of a pixel; Choice: no camera or disc has more than 4
_SKEW = 0.02  # Choice: the greatest share of a turn that is rounding


@contextmanager
def open_video(source: Any, name: str) -> Generator[Any]:
    """An open PyAV container with a video stream. source: a path, bytes or a file object.

    Every FFmpeg error becomes a VidarError naming `name`.
    """
    source = io.BytesIO(source) if isinstance(source, bytes) else str(source) if isinstance(source, Path) else source
    try:
        with av.open(source, "r") as container:
            yield container
    except av.FFmpegError as error:
        raise VidarError(f"{name}: cannot be read as video ({error.strerror}); damaged or truncated?") from None


class Decoder:
    """One pass through the frames of the video stream of an open container, in the order of presentation.

    Of several video streams, the default one is taken, then the largest one, then the first one, as FFmpeg does.

    Raises VidarError naming `name` if there is no video stream or no frame rate.
    """

    def __init__(self, container: Any, name: str) -> None:
        self.container, self.name = container, name
        streams = [stream for stream in container.streams.video if not stream.disposition & _STILL]
        if not streams:
            raise VidarError(f"{name}: contains no video stream")
        self.stream: Any = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))
        self.stream.codec_context.thread_count = 1
        rate = self.stream.average_rate or self.stream.guessed_rate
        if not rate:
            raise VidarError(f"{name}: has no frame rate; convert it to a constant frame rate")
        self.fps = float(rate)
        self._reformatter = VideoReformatter()

    def frames(self) -> Iterator[Any]:
        """All frames as PyAV frames, from the current position of the container on.

        Raises VidarError with the number of the frame if it is damaged or of another size than the first one, and, at
        the end, if the file holds fewer frames than its index lists.
        """
        number, packets, shown, first_key, keys = 0, 0, 0, None, 0
        size: tuple[int, int] | None = None
        for packet in self.container.demux(self.stream):
            if packet.size:
                packets += 1
                keys += packet.is_keyframe
                first_key = packet.pts if keys == 1 and packet.is_keyframe else first_key
                leading = keys < 2 and not packet.is_keyframe and _before(packet.pts, first_key)
                shown += not packet.is_discard and not leading
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                raise VidarError(
                    f"{self.name}: frame {number} cannot be decoded ({error.strerror}); damaged?"
                ) from None
            for frame in decoded:
                if frame.is_corrupt:
                    raise VidarError(f"{self.name}: frame {number} is damaged; record or encode the video again")
                size = size or (frame.height, frame.width)
                if (frame.height, frame.width) != size:
                    raise VidarError(
                        f"{self.name}: frame {number} is {frame.height} x {frame.width}, frame 0 is {size[0]} x "
                        f"{size[1]}; encode the video again with one size"
                    )
                yield frame
                number += 1
        indexed = len(self.stream.index_entries)
        if packets < indexed or (indexed and number < shown):
            declared = self.stream.frames or indexed
            raise VidarError(f"{self.name}: damaged or truncated: header says {declared} frames, {number} decode")

    def sought(self, start: int, count: int | None) -> np.ndarray | None:
        """Pictures of the frames start .. start+count-1 (None: to the end) by a seek to the key frame before them.

        None if the seek is not exact: the index of the container does not give the time stamp of each frame, or the
        decoded frames do not have exactly these stamps.
        """
        entries = list(self.stream.index_entries)
        stamps = [entry.timestamp for entry in entries if not entry.is_discard]
        wanted = stamps[start:][:count]
        if len(stamps) != self.stream.frames or not wanted or (count is not None and len(wanted) < count):
            return None
        self.container.seek(wanted[0], stream=self.stream, backward=True, any_frame=False)
        pictures: list[np.ndarray] = []
        for packet in self.container.demux(self.stream):
            for frame in packet.decode():
                if frame.pts is not None and frame.pts < wanted[0]:
                    continue
                if frame.pts != wanted[len(pictures)] or frame.is_corrupt:
                    return None
                pictures.append(self.picture(frame))
                if len(pictures) == len(wanted):
                    return np.stack(pictures)
        return None

    def picture(self, frame: Any) -> np.ndarray:
        """A frame as shown: uint8 [H, W, 3], with square pixels, turned and mirrored as the container says."""
        rgb = self._reformatter.reformat(
            frame, width=self._square_width(frame), format="rgb24", interpolation=EXACT, threads=1
        )
        picture = rgb.to_ndarray()
        transposed, down, right = self._orientation(frame)
        if transposed:
            picture = picture.transpose(1, 0, 2)
        return np.ascontiguousarray(picture[::down, ::right])

    def size(self, frame: Any) -> tuple[int, int]:
        """(height, width) of `picture` in pixels."""
        height, width = frame.height, self._square_width(frame)
        return (width, height) if self._orientation(frame)[0] else (height, width)

    def _square_width(self, frame: Any) -> int:
        """The width in pixels that have the height of a stored pixel and are square."""
        aspect = self.stream.sample_aspect_ratio or 1
        if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
            raise VidarError(f"{self.name}: pixels have an aspect ratio of {aspect}; encode the video again with 1:1")
        return max(1, round(frame.width * aspect))

    def _orientation(self, frame: Any) -> tuple[bool, int, int]:
        """Whether rows and columns are exchanged, then the steps (1 or -1) down and to the right."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return False, 1, 1
        a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
        if abs(b) + abs(c) <= _SKEW * (abs(a) + abs(d)):
            return False, -1 if d < 0 else 1, -1 if a < 0 else 1
        if abs(a) + abs(d) <= _SKEW * (abs(b) + abs(c)):
            return True, -1 if b < 0 else 1, -1 if c < 0 else 1
        raise VidarError(
            f"{self.name}: is shown turned by {frame.rotation} degrees, which is no quarter turn; encode it again"
        )


def _before(stamp: int | None, first: int | None) -> bool:
    """Whether a frame may be shown before the first key frame, so that it cannot be decoded."""
    return stamp is None or first is None or stamp < first
