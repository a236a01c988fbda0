"""Fragments of a growing video: MPEG-TS files that begin with a key frame, their HLS playlist, and the joined mp4.

H.264 without B-frames, so packets come in the order of frames and packet n belongs to frame n. Time stamps are computed
from that count, so they are exact in the mp4 although the clock of MPEG-TS (90 kHz) rounds them. The fragments are one
transport stream: time stamps and continuity counters go on from one to the next.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vidar.data.atomic import replacing
from vidar.data.video import encode_video, open_video
from vidar.synth.transport_stream import whole_cycles
from vidar.types import VidarError


def write_fragment(file: Path, frames: np.ndarray, rate: Fraction, first: int) -> None:
    """Write frames uint8 [t, H, W, 3], the first of which is number `first` of the video, atomically.

    Raises VidarError if the file cannot be written.
    """
    data = encode_video(frames, float(rate), name=str(file))
    with replacing(file) as temporary:
        _copy([io.BytesIO(data)], temporary, "mpegts", rate, first, str(file))
        temporary.write_bytes(whole_cycles(temporary.read_bytes()))


def join_fragments(fragments: Iterable[Path], file: Path, rate: Fraction) -> int:
    """Write them as one mp4 without encoding them again, and return the number of frames.

    Raises VidarError if a fragment is damaged or the mp4 cannot be written.
    """
    with replacing(file) as temporary:
        return _copy(map(str, fragments), temporary, "mp4", rate, 0, str(file), {"movflags": "+faststart"})


def write_playlist(file: Path, counts: Sequence[int], rate: Fraction, longest: int, ended: bool) -> None:
    """Write the HLS playlist of the finished fragments.

    counts: number of frames of each; longest: the most that any fragment of this video has. ended: no more will come.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{math.ceil(longest / rate)}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:EVENT"]
    for number, count in enumerate(counts):
        lines += [f"#EXTINF:{float(count / rate):.6f},", fragment_name(number)]
    with replacing(file) as temporary:
        temporary.write_text("\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""]))


def fragment_name(number: int) -> str:
    """The name of a fragment in its folder."""
    return f"{number:06d}.ts"


def _copy(
    sources: Iterable[Any],
    target: Path,
    kind: str,
    rate: Fraction,
    first: int,
    name: str,
    options: dict[str, str] | None = None,
) -> int:
    """Write the packets of all sources, numbered from `first` on, into one file, and return their number."""
    number = first
    stream: Any = None
    try:
        with av.open(str(target), "w", format=kind, options=options or {}) as out:
            for video, packet in (pair for source in sources for pair in _packets(source, name)):
                if stream is None:
                    stream = out.add_stream_from_template(video)
                    stream.time_base = 1 / rate
                packet.stream, packet.time_base = stream, 1 / rate
                packet.pts = packet.dts = number
                packet.duration = 1
                number += 1
                out.mux(packet)
    except av.FFmpegError as error:
        raise VidarError(f"{name}: cannot be written: {error.strerror}") from None
    return number - first


def _packets(source: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """The stream and its packets, in order. Raises VidarError for a damaged file."""
    with open_video(source, source if isinstance(source, str) else name) as container:
        video = container.streams.video[0]
        for packet in container.demux(video):
            if packet.size:  # an empty one marks the end
                yield video, packet
