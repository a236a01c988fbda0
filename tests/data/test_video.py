from __future__ import annotations

import os
import resource
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from vidar.data import video
from vidar.data.video import BT601, BT709, decode_video, encode_video, read_video, video_info, write_video
from vidar.types import VidarError


def smooth(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    pictures = [
        np.stack([128 + 90 * np.sin((x + 3 * t) / 12), 128 + 90 * np.cos((y + t) / 9), 60 + 0 * x + t], axis=-1)
        for t in range(count)
    ]
    return np.stack(pictures).astype(np.uint8)


def numbered(count: int) -> np.ndarray:
    """The frame number in eight black or white bars: survives any compression."""
    bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
    return np.repeat((bits * 255).astype(np.uint8), 8, axis=1)[:, None, :, None].repeat(32, 1).repeat(3, 3)


def numbers(frames: np.ndarray) -> list[int]:
    bits = frames[:, 16, 4::8, 1] > 127
    return (bits * (1 << np.arange(8))).sum(1).tolist()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2)))


def test_round_trip_keeps_count_rate_and_picture(tmp_path):
    frames = smooth(37)
    write_video(tmp_path / "a.mp4", frames, 17.5)
    back, fps = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape and back.dtype == np.uint8 and fps == 17.5
    assert psnr(back, frames) > 38
    assert np.abs(np.mean(back.astype(float) - frames, axis=(0, 1, 2))).max() < 0.3  # FFmpeg's default scaler: 1.4


def test_lossless_is_exact_and_bytes_repeat():
    frames = np.random.default_rng(0).integers(0, 256, (9, 18, 20, 3), dtype=np.uint8)
    data = encode_video(frames, 10, lossless=True)
    assert np.array_equal(decode_video(data), frames)
    assert encode_video(iter(frames), 10, lossless=True) == data


def test_odd_sizes_are_padded_by_one_edge_pixel():
    frames = smooth(4, 23, 31)
    back = decode_video(encode_video(frames, 10, lossless=True))
    assert back.shape == (4, 24, 32, 3) and np.array_equal(back[:, :23, :31], frames)
    assert np.array_equal(back[:, 23, :31], frames[:, 22])


def test_random_access_equals_sequential(tmp_path):
    frames = numbered(150)
    path = tmp_path / "n.mp4"
    write_video(path, frames, Fraction(30000, 1001), gop=12)
    whole, _ = read_video(path)
    assert numbers(whole) == list(range(150))
    data = path.read_bytes()
    for index in np.random.default_rng(1).integers(0, 147, 64).tolist():
        part = decode_video(data, index, 3)
        assert numbers(part) == [index, index + 1, index + 2]
        assert np.array_equal(part, whole[index : index + 3])


def test_file_is_tagged_bt709_streams_at_once_and_has_short_gops(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, smooth(40), 20)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        keys = [n for n, packet in enumerate(p for p in container.demux(stream) if p.size) if packet.is_keyframe]
    assert keys[0] == 0 and max(np.diff([*keys, 40])) <= 12


def test_the_same_frames_give_the_same_bytes():
    """Narrow frames of two sizes in turn, so that the memory holds other things each time.

    With the AVX-512 code of x264, some of a hundred encodings differ.
    """
    draws, found = np.random.default_rng(0), {}
    clips = [smooth(24, height, width) for height, width in ((32, 48), (64, 80))]
    for clip in clips:
        clip[:, :8] = draws.integers(0, 255, (24, 8, clip.shape[2], 3))
    for turn in range(50):
        for clip in clips:
            found.setdefault(clip.shape, set()).add(encode_video(clip, 20, crf=18))
            encode_video(clip[turn % 8 :], 20, crf=30)
    assert [len(made) for made in found.values()] == [1, 1]


def test_fallback_without_libx264(monkeypatch):
    monkeypatch.setattr(video.av, "codecs_available", {"mpeg4"})
    frames = smooth(20)
    assert psnr(decode_video(encode_video(frames, 10)), frames) > 35
    with pytest.raises(VidarError, match="libx264rgb"):
        encode_video(frames, 10, lossless=True)


def test_timing_finds_an_irregular_video(tmp_path):
    path = str(tmp_path / "vfr.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(smooth(20)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + 7 * (number > 9), Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert not video_info(path, "vfr").regular
    write_video(path, smooth(20), 20)
    info = video_info(path, "cfr")
    assert (info.frames, info.declared, info.height, info.width, info.fps) == (20, 20, 48, 64, 20.0)
    assert info.regular and info.rate == 20 and info.duration == 0.05 and np.allclose(info.times, np.arange(20) / 20)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_file_is_one_line_naming_it(tmp_path, keep):
    path = tmp_path / "cut.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), 10)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(VidarError, match=r"cut\.mp4") as caught:
        read_video(path)
    assert "\n" not in str(caught.value)


def test_a_cut_between_two_frames_does_not_pass_for_a_shorter_video(tmp_path):
    path = tmp_path / "cut.mp4"
    write_video(path, smooth(37), 10)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: places[20]])
    with pytest.raises(VidarError, match=r"cut\.mp4: damaged or truncated: header says 37 frames, 20 decode"):
        read_video(path)


def test_missing_random_and_short_files(tmp_path):
    path = tmp_path / "x.mp4"
    with pytest.raises(VidarError, match=r"x\.mp4: no such"):
        read_video(path)
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(VidarError, match=r"x\.mp4"):
        read_video(path)
    write_video(path, smooth(10), 10)
    with pytest.raises(VidarError, match=r"x\.mp4: frames 8 .. 10 .* only 2"):
        read_video(path, 8, 3)
    with pytest.raises(VidarError, match=r"x\.mp4"):
        read_video(path, 10)


def test_unwritable_outputs_are_refused_and_leave_nothing(tmp_path):
    (tmp_path / "file").write_text("keep")
    for path in (tmp_path, tmp_path / "no" / "x.mp4", tmp_path / "file" / "x.mp4", "/dev/full"):
        with pytest.raises(VidarError) as caught:
            write_video(path, smooth(3), 10)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for frames in ([], smooth(3).astype(np.float32), [smooth(1)[0], smooth(1, 24, 24)[0]]):
        with pytest.raises(VidarError, match=r"x\.mp4"):
            write_video(tmp_path / "x.mp4", frames, 10)
    for fps in (0, -1, float("nan"), 1e9):
        with pytest.raises(VidarError, match="fps"):
            write_video(tmp_path / "x.mp4", smooth(3), fps)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "keep"


def test_a_failing_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.mp4"
    write_video(path, smooth(5), 10)
    before = path.read_bytes()

    def breaks():
        yield from smooth(5)
        raise RuntimeError("the game crashed")

    with pytest.raises(RuntimeError):
        write_video(path, breaks(), 10)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.mp4"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    code = (
        "import sys, numpy as np\nfrom vidar.data.video import write_video\nfrom vidar.types import VidarError\n"
        "f = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)\n"
        "try:\n    write_video(sys.argv[1], f, 10)\nexcept VidarError as error:\n    print(error)"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path / "x.mp4")]
    out = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert out.stdout.count("\n") == 1 and "x.mp4: cannot be written" in out.stdout, out.stderr
    assert os.listdir(tmp_path) == []


def test_webm_holds_the_same_frames(tmp_path):
    """VP9 at the same rate, every packet one frame, with the colours of the mp4."""
    video = smooth(27)
    for name in ("x.mp4", "x.webm"):
        write_video(tmp_path / name, video, 17.5)
    with av.open(str(tmp_path / "x.webm")) as container:
        stream = container.streams.video[0]
        assert container.format.name == "matroska,webm" and stream.codec_context.name == "vp9"
        assert sum(bool(packet.size) for packet in container.demux(stream)) == len(video)
    for name in ("x.mp4", "x.webm"):
        frames, fps = read_video(tmp_path / name)
        assert frames.shape == video.shape and fps == 17.5
        assert psnr(frames, video) > 38 and abs((frames.astype(float) - video).mean()) < 0.5


@pytest.mark.parametrize(("matrix", "luma"), [(BT601, 16 + 219 * 0.587), (BT709, 16 + 219 * 0.7152)])
def test_the_matrix_of_the_colours(tmp_path, matrix, luma):
    """Pure green has the luma of its matrix in the file, and is read back as pure green."""
    green = np.zeros((4, 32, 32, 3), np.uint8)
    green[..., 1] = 255
    write_video(tmp_path / "green.mp4", green, 10, matrix=matrix)
    with av.open(str(tmp_path / "green.mp4")) as video:
        frame = next(video.decode(video=0))
        assert int(video.streams.video[0].codec_context.colorspace) == matrix
    assert np.abs(frame.to_ndarray()[:32].astype(float) - luma).max() <= 1
    assert np.abs(read_video(tmp_path / "green.mp4")[0].astype(int) - green).max() <= 3
