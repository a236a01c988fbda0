"""Files as cameras, recorders and editors make them: which frames they show, how, and when they are refused."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from vidar.data.resize import resized_crop
from vidar.data.video import decode_video, encode_video, read_pieces, read_video, video_info
from vidar.types import VidarError

RATE = Fraction(20)
TICKS = Fraction(1, 10000)  # seconds
BITS = 10


def bars(number: int, height: int = 32, width: int = 80) -> np.ndarray:
    """The number in ten black or white bars: survives any compression."""
    bits = (number >> np.arange(BITS)) & 1
    row = np.repeat((40 + bits * 170).astype(np.uint8), width // BITS)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    step = frames.shape[2] // BITS
    bits = frames[:, frames.shape[1] // 2, step // 2 :: step, 1] > 127
    return (bits * (1 << np.arange(BITS))).sum(1).tolist()


def write(
    path: Path,
    pictures: Sequence[np.ndarray],
    stamps: Sequence[int] | None = None,
    codec: str = "libx264",
    container_options: dict[str, str] | None = None,
    setup: Callable[[Any], None] | None = None,
    **options: str,
) -> Path:
    """Encode pictures; stamps: in ticks, None: 20 frames per second."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": "12", **options})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = TICKS if stamps else 1 / RATE
        if setup:
            setup(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (stamps[number], TICKS) if stamps else (number, 1 / RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(
    source: Path, target: Path, keep: Callable[[int], bool] = lambda number: True, shift: int = 0, **options: str
) -> Path:
    """Copy packets without encoding; those that are kept, by number. shift: in frames of 20 fps."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as out:
        video = read.streams.video[0]
        stream = out.add_stream_from_template(video)
        ticks = int(shift / RATE / video.time_base)
        for number, packet in enumerate(packet for packet in read.demux(video) if packet.size):
            if keep(number):
                packet.stream, packet.pts, packet.dts = stream, packet.pts - ticks, packet.dts - ticks
                out.mux(packet)
    return target


def shown(path: Path) -> list[int]:
    """The numbers of all frames; a read of each single frame must agree."""
    frames = read_video(path)[0]
    for start in range(len(frames)):
        assert np.array_equal(read_video(path, start, 1)[0][0], frames[start]), start
    assert video_info(path, "x").frames == len(frames)
    return numbers(frames)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """40 frames, key frames at 0, 12, 24 and 36, no B-frames."""
    return write(tmp_path_factory.mktemp("v") / "plain.mp4", [bars(n) for n in range(40)], bf="0")


def test_frames_of_a_drifting_clock_are_found_by_count(tmp_path):
    steps = [505] * 300 + [495] * 300  # on average 20 fps
    stamps = [0, *itertools.accumulate(steps[:-1])]
    path = write(tmp_path / "a.mp4", [bars(n) for n in range(600)], stamps, bf="0", preset="ultrafast")
    for start in (1, 150, 299, 300, 301, 450, 597):
        assert numbers(read_video(path, start, 3)[0]) == [start, start + 1, start + 2]
    info = video_info(path, "x")
    assert np.allclose(info.times, np.array(stamps) * float(TICKS)) and info.regular and abs(info.fps - 20) < 0.001
    pieces = list(read_pieces(path, 256, (16, 40)))
    assert [piece.shape for piece in pieces] == [(256, 16, 40, 3), (256, 16, 40, 3), (88, 16, 40, 3)]
    assert numbers(np.concatenate(pieces)) == list(range(600))
    assert np.array_equal(pieces[2], resized_crop(read_video(path, 512)[0], (16, 40)))
    kept = list(read_pieces(path, 150, keep=np.arange(1, 600, 3)))
    assert [len(piece) for piece in kept] == [150, 50]
    assert numbers(np.concatenate(kept)) == list(range(1, 600, 3))
    with pytest.raises(VidarError, match=r"a\.mp4: frame 600 was requested"):
        list(read_pieces(path, 150, keep=np.array([599, 600])))


def test_the_last_frame_may_be_held(tmp_path, plain):
    path = tmp_path / "held.mp4"
    with av.open(str(plain)) as read, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        for packet in packets:
            packet.stream = stream
            packet.duration *= 40 if packet is packets[-1] else 1
            out.mux(packet)
    info = video_info(path, "x")
    assert info.regular and info.rate == pytest.approx(20) and info.duration == pytest.approx(2) and info.fps < 14
    assert shown(path) == list(range(40))


def test_stamps_tell_what_is_irregular(tmp_path):
    pictures = [bars(n) for n in range(8)]
    for stamps in ([0, 1, 2, 3, 8, 9, 10, 11], [0, 1, 1, 2, 3, 4, 5, 6]):
        path = write(tmp_path / "a.mkv", pictures, [500 * stamp for stamp in stamps], bf="0")
        info = video_info(path, "x")
        assert not info.regular and np.allclose(info.times, np.array(stamps) / 20)
        assert shown(path) == list(range(8))


def test_frames_without_stamps_are_counted(tmp_path):
    path = write(tmp_path / "a.h264", [bars(n) for n in range(20)], bf="2")
    info = video_info(path, "x")
    assert shown(path) == list(range(20)) and np.allclose(info.times, np.arange(20) / info.fps)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.MP4", "libx264", {"bf": "3"}),
        ("a.mov", "libx264", {"bf": "3"}),
        ("a.mkv", "libx264", {"bf": "3"}),
        ("a.ts", "libx264", {"bf": "3"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=12:open-gop=1"}),
        ("a.webm", "libvpx-vp9", {"lag-in-frames": "16", "auto-alt-ref": "1"}),
        ("a.webm", "libvpx", {}),
        ("a.mp4", "mpeg4", {"bf": "2"}),
        ("a.avi", "mjpeg", {}),
    ],
)
def test_containers_and_codecs(tmp_path, name, codec, options):
    path = write(tmp_path / name, [bars(n) for n in range(40)], codec=codec, **options)
    assert shown(path) == list(range(40)) and video_info(path, "x").regular


@pytest.mark.parametrize("flags", ["negative_cts_offsets", "frag_keyframe+empty_moov"])
def test_other_tables_of_stamps(tmp_path, flags):
    path = write(tmp_path / "a.mp4", [bars(n) for n in range(40)], container_options={"movflags": flags}, bf="2")
    assert shown(path) == list(range(40))


def test_stamps_of_the_third_hour(tmp_path, plain):
    for name in ("a.mp4", "a.mkv"):
        path = copied(plain, tmp_path / name, shift=-20 * 10800)
        assert shown(path) == list(range(40)) and video_info(path, "x").times[[0, -1]].tolist() == [0, 1.95]


def test_a_late_frame_is_read_without_those_before_its_key_frame(plain):
    data = encode_video([bars(n) for n in range(48)], 20, gop=12)
    with av.open(io.BytesIO(data)) as container:
        first = next(iter(container.demux(video=0)))
    broken = data[: first.pos] + bytes(first.size) + data[first.pos + first.size :]
    assert numbers(decode_video(broken, 12, 8)) == list(range(12, 20))
    with pytest.raises(VidarError, match="clip: "):
        decode_video(broken, 8, 8, name="clip")


CORNERS = np.full((48, 80, 3), 128, np.uint8)
CORNERS[:16, :16], CORNERS[:16, -16:], CORNERS[-16:, :16] = (230, 20, 20), (20, 230, 20), (20, 20, 230)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("turn", "across", "down"), itertools.product((0, 90, 180, 270), (False, True), (False, True)))
def test_rotation_and_mirror(tmp_path, name, turn, across, down):
    path = write(
        tmp_path / name, [CORNERS] * 3, setup=lambda stream: stream.set_display_rotation(turn, across, down), bf="0"
    )
    want = np.rot90(CORNERS, turn // 90)
    want = want[:, ::-1] if across else want
    want = want[::-1] if down else want
    frames = read_video(path)[0]
    assert frames[0].shape == want.shape and np.abs(frames[0].astype(int) - want).mean() < 4
    assert np.array_equal(read_video(path, 2, 1)[0][0], frames[2])
    info = video_info(path, "x")
    assert (info.height, info.width) == want.shape[:2]


def test_a_turn_by_45_degrees_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", [CORNERS], setup=lambda stream: stream.set_display_rotation(45))
    with pytest.raises(VidarError, match=r"a\.mp4: is turned by 45 degrees"):
        read_video(path)


def test_side_data_that_pyav_does_not_know_do_not_hide_a_turn(tmp_path):
    picture, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show it
    Image.fromarray(CORNERS).save(picture, "JPEG", exif=exif, quality=95)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuvj420p"
        packet = av.Packet(picture.getvalue())
        packet.pts, packet.dts, packet.time_base, packet.stream = 0, 0, 1 / RATE, stream
        packet.is_keyframe = True
        container.mux(packet)
    frame = read_video(tmp_path / "a.mov")[0][0]
    assert np.abs(frame.astype(int) - np.rot90(CORNERS, -1)).mean() < 6


def test_pixels_become_square(tmp_path):
    def aspect(ratio: Fraction, turn: int = 0) -> Path:
        def setup(stream: Any) -> None:
            stream.sample_aspect_ratio = ratio
            stream.set_display_rotation(turn)

        return write(tmp_path / "a.mp4", [bars(n) for n in range(3)], setup=setup)

    path = aspect(Fraction(3, 2))
    assert read_video(path)[0].shape == (3, 32, 120, 3) and numbers(read_video(path)[0]) == [0, 1, 2]
    assert (video_info(path, "x").height, video_info(path, "x").width) == (32, 120)
    assert read_video(aspect(Fraction(1, 2)))[0].shape == (3, 32, 40, 3)
    assert read_video(aspect(Fraction(3, 2), 90))[0].shape == (3, 120, 32, 3)
    with pytest.raises(VidarError, match=r"a\.mp4: pixels have an aspect ratio of 20"):
        read_video(aspect(Fraction(20)))


def test_frames_that_an_edit_list_hides_are_not_frames(tmp_path, plain):
    path = copied(plain, tmp_path / "cut.mp4", shift=5, avoid_negative_ts="disabled")
    info = video_info(path, "x")
    assert shown(path) == list(range(5, 40)) and info.regular and info.declared == 40
    late = write(tmp_path / "b.mp4", [bars(n) for n in range(40)], bf="2")
    path = copied(late, tmp_path / "cut.mp4", shift=15, avoid_negative_ts="disabled")
    assert shown(path) == list(range(15, 40))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VidarError, match=r"cut\.mp4"):
        read_video(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_leading_pictures_without_their_key_frame_are_not_frames(tmp_path, codec, name):
    how = "open-gop=1:keyint=12:min-keyint=1:scenecut=0:bframes=3:b-adapt=0:log-level=none"
    options = {codec.removeprefix("lib") + "-params": how}
    whole = write(tmp_path / "whole.mp4", [bars(n) for n in range(36)], codec=codec, **options)
    path = copied(whole, tmp_path / name, lambda number: number >= 9)  # frame 12, then 10, 9 and 11
    assert shown(path) == list(range(12, 36))


def test_a_broadcast_begins_at_its_first_key_frame(tmp_path, plain):
    assert shown(copied(plain, tmp_path / "a.ts", lambda number: number >= 5)) == list(range(12, 40))
    with pytest.raises(VidarError, match=r"a\.ts: contains no frame at 0 or after that can be shown"):
        read_video(copied(plain, tmp_path / "a.ts", lambda number: 13 <= number < 20))
    for name in ("a.mp4", "a.mkv"):
        path = copied(plain, tmp_path / name, lambda number: number >= 5)
        assert refused(path) == "does not begin with a key frame; damaged or truncated?"


def refused(path: Path) -> str:
    """The line with which all readers refuse a file."""
    lines = set[str]()
    for read in (lambda: read_video(path), lambda: video_info(path, str(path)), lambda: list(read_pieces(path, 16))):
        with pytest.raises(VidarError) as caught:
            read()
        lines.add(str(caught.value))
    (line,) = lines
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("frame", [3, 12, 39])
def test_a_damaged_frame_is_refused_by_number(tmp_path, plain, frame):
    with av.open(str(plain)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
    data, start = bytearray(plain.read_bytes()), packet.pos + packet.size // 3
    data[start : packet.pos + packet.size] = bytes(packet.pos + packet.size - start)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert refused(path).startswith(f"frame {frame} ")
    with pytest.raises(VidarError, match=rf"a\.mp4: frame {frame} "):
        read_video(path, frame, 1)


def test_frames_whose_reference_is_missing_are_refused(tmp_path, plain):
    for name in ("a.mp4", "a.mkv", "a.ts"):
        assert refused(copied(plain, tmp_path / name, lambda number: number != 12)).startswith("frame 12 cannot be")
    late = write(tmp_path / "late.mp4", [bars(n) for n in range(40)], bf="2")
    with pytest.raises(VidarError, match=r"a\.mp4: frame 1\d cannot be decoded"):
        read_video(copied(late, tmp_path / "a.mp4", lambda number: number != 12), 14, 2)
    options = {"x265-params": "log-level=none:keyint=40:bframes=0"}
    hevc = write(tmp_path / "hevc.mp4", [bars(n) for n in range(20)], codec="libx265", **options)
    for name in ("b.mp4", "b.ts"):
        assert refused(copied(hevc, tmp_path / name, lambda number: number != 6)).startswith(
            "frame 6 cannot be decoded"
        )


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name):
    whole = write(
        tmp_path / name,
        [bars(n) for n in range(20)],
        codec="libvpx-vp9",
        container_options={"movflags": "+faststart"} if name == "a.mp4" else {},
    )
    data = whole.read_bytes()
    for size in (len(data) - 3, len(data) // 2):
        whole.write_bytes(data[:size])
        assert "damaged or truncated" in refused(whole)


def test_a_recording_of_unknown_length_is_read(tmp_path):
    options = {"live": "1"}
    path = write(tmp_path / "a.webm", [bars(n) for n in range(9)], codec="libvpx-vp9", container_options=options)
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in path.read_bytes()
    assert shown(path) == list(range(9))


def test_frames_of_several_sizes_are_refused_by_number(tmp_path):
    parts = [write(tmp_path / f"{w}.ts", [bars(n, 32, w) for n in range(6)], bf="0") for w in (80, 160)]
    path = tmp_path / "a.ts"
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    assert refused(path) == "frame 6 is 32 x 160, frame 0 is 32 x 80; encode the video again with one size"


def several(path: Path, videos: Sequence[tuple[np.ndarray, int, Any]]) -> Path:
    """A file of several streams, each of a picture, a number of frames and a disposition."""
    with av.open(str(path), "w") as container:
        streams = []
        for picture, count, disposition in videos:
            stream = container.add_stream("libx264" if count > 1 else "mjpeg", rate=RATE)
            stream.height, stream.width = picture.shape[:2]
            stream.pix_fmt, stream.disposition = "yuv420p" if count > 1 else "yuvj420p", disposition
            streams.append((stream, picture, count))
        for stream, picture, count in streams:
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, 1 / RATE
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def test_a_cover_is_not_the_video_and_of_videos_the_default_one_is_read(tmp_path):
    default, none = Disposition.default, Disposition(0)
    for kind in (Disposition.attached_pic, default):
        path = several(tmp_path / "a.mp4", [(bars(1, 64, 160), 1, kind), (bars(2), 8, none)])
        assert numbers(read_video(path)[0]) == [2] * 8
    path = several(tmp_path / "a.mkv", [(bars(1, 64, 160), 4, none), (bars(2), 5, default)])
    assert numbers(read_video(path)[0]) == [2] * 5
    path = several(tmp_path / "a.mkv", [(bars(2), 5, none), (bars(1, 64, 160), 4, none)])
    assert numbers(read_video(path)[0]) == [1] * 4
    with pytest.raises(VidarError, match=r"a\.mp4: contains no video stream"):
        read_video(several(tmp_path / "a.mp4", [(bars(1), 1, Disposition.attached_pic)]))


def test_memory_is_that_of_the_small_frames(tmp_path):
    """60 frames of 1280 x 720 are 166 MB; less than half of it is taken beyond the imports."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 720, 1280, "yuv420p"
        picture = av.VideoFrame(1280, 720, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(60):
            picture.pts, picture.time_base = number, 1 / RATE
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    code = (
        "import resource, sys\nfrom vidar.data.video import read_pieces\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\nshapes = [piece.shape for piece in read_pieces(sys.argv[1], 2048, (64, 80))]\n"
        "assert shapes == [(60, 64, 80, 3)], shapes\nprint(peak() - before)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 80
