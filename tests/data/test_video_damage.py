"""Video files with damaged headers: readers refuse them in one line, or show frames; no other error comes out."""

import av
import numpy as np
import pytest
from numbered import numbered, numbers

from vidar.data.video import read_pieces, read_video, video_info, write_video
from vidar.types import VidarError

SUFFIXES = (".mp4", ".webm", ".mkv")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Suffix -> a file of 24 frames with a title."""
    folder, made = tmp_path_factory.mktemp("videos"), {}
    for suffix in SUFFIXES:
        made[suffix] = folder / f"a{suffix}"
        if suffix != ".mkv":
            write_video(made[suffix], numbered(24), 20)
            continue
        with av.open(str(made[".mp4"])) as source, av.open(str(made[suffix]), "w") as target:
            target.metadata["title"] = "a title of a recording"
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    return made


def test_a_title_that_is_no_utf8_is_passed_over(videos, tmp_path):
    data = videos[".mkv"].read_bytes()
    assert data.count(b"a title of") == 1
    (tmp_path / "b.mkv").write_bytes(data.replace(b"a title of", "\u00e4 t\u00eftl\u00e9 \u00f6f".encode("latin-1")))
    assert numbers(read_video(tmp_path / "b.mkv")[0]) == list(range(24))


def test_a_format_without_a_decoder_is_refused(videos, tmp_path):
    data = videos[".mp4"].read_bytes()
    assert data.count(b"avc1") == 2  # a brand, and the format of the stream
    (tmp_path / "b.mp4").write_bytes(data.replace(b"avc1", b"zzz1"))
    with pytest.raises(VidarError, match=r"b\.mp4: no decoder knows the format of its video; damaged\? If not, encode"):
        read_video(tmp_path / "b.mp4")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(12))
def test_random_damage_of_a_header_is_one_line_or_frames(videos, tmp_path, suffix, seed):
    draws, path = np.random.default_rng(seed), tmp_path / f"b{suffix}"
    for _ in range(4):
        data = bytearray(videos[suffix].read_bytes())
        first = max(0, data.find(b"moov"))
        for at in first + draws.integers(0, 1000, 3):
            data[at : at + 4] = (bytes(4), b"\xff\xff\xff\xff", draws.bytes(4), b"")[draws.integers(4)]
        path.write_bytes(data)
        try:
            assert read_video(path)[0].ndim == 4 and video_info(path, str(path)).frames > 0
            assert sum(map(len, read_pieces(path, 100))) > 0
        except VidarError as error:
            assert str(path) in str(error) and "\n" not in str(error)
