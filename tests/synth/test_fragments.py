"""Fragments follow one another, one by one, end to end and as one mp4: the same frames, exactly as many."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from tiny import pictures

from vidar.data.video import read_video, video_info
from vidar.synth.fragments import fragment_name, join_fragments, write_fragment, write_playlist
from vidar.types import VidarError

RATE = Fraction(35, 2)
COUNTS = [13, 12, 1, 14]  # 13: the last frame is a key frame by itself


@pytest.fixture
def fragments(tmp_path):
    """Their files, and the frames that each of them shows by itself."""
    files, frames, first = [], [], 0
    for number, count in enumerate(COUNTS):
        video = pictures(count, number)
        files.append(tmp_path / fragment_name(number))
        write_fragment(files[-1], video, RATE, first)
        frames += planes(files[-1])
        first += count
    return files, frames


def planes(file):
    """What a file decodes to, frame by frame: luma and chroma as one array."""
    with av.open(str(file)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def decoded(source):
    """Frames and time stamps (seconds) of an MPEG-TS."""
    with av.open(source, format="mpegts") as container:
        found = list(container.decode(video=0))
        return found, [float(frame.pts * frame.time_base) for frame in found]


def test_the_mp4_holds_the_frames_of_the_fragments(fragments, tmp_path):
    files, frames = fragments
    assert join_fragments(files, tmp_path / "x.mp4", RATE) == sum(COUNTS)
    joined, fps = read_video(tmp_path / "x.mp4")
    again = planes(tmp_path / "x.mp4")
    assert fps == 17.5 and len(again) == len(frames) and all(map(np.array_equal, again, frames))
    sent = np.concatenate([pictures(count, number) for number, count in enumerate(COUNTS)])
    assert np.abs(joined.astype(int) - sent).mean() < 20  # another picture is 80 away
    timing = video_info(str(tmp_path / "x.mp4"), "x")
    assert timing.regular and timing.frames == timing.declared == sum(COUNTS)
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == RATE
        assert [frame.pts * frame.time_base for frame in container.decode(stream)] == [n / RATE for n in range(40)]
        assert stream.duration * stream.time_base == sum(COUNTS) / RATE
    data = (tmp_path / "x.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it has come whole


def test_what_has_been_written_plays_while_more_comes(fragments, tmp_path):
    files, _ = fragments
    for count in (1, 3, 4):
        growing = b"".join(file.read_bytes() for file in files[:count])
        found, stamps = decoded(io.BytesIO(growing))
        assert len(found) == sum(COUNTS[:count])
        assert np.allclose(np.diff(stamps), 2 / 35, atol=2e-4)
    for number, file in enumerate(files):
        found, stamps = decoded(str(file))
        assert len(found) == COUNTS[number] and found[0].key_frame
        assert stamps[0] - decoded(str(files[0]))[1][0] == pytest.approx(sum(COUNTS[:number]) / 17.5, abs=1e-4)


def test_the_playlist_names_what_is_there(fragments, tmp_path):
    write_playlist(tmp_path / "index.m3u8", COUNTS[:2], RATE, 14, ended=False)
    lines = (tmp_path / "index.m3u8").read_text().splitlines()
    assert lines[0] == "#EXTM3U" and "#EXT-X-PLAYLIST-TYPE:EVENT" in lines and "#EXT-X-ENDLIST" not in lines
    assert [line for line in lines if line.endswith(".ts")] == ["000000.ts", "000001.ts"]
    assert lines[lines.index("000000.ts") - 1] == "#EXTINF:0.742857," and "#EXT-X-TARGETDURATION:1" in lines
    write_playlist(tmp_path / "index.m3u8", COUNTS, RATE, 14, ended=True)
    with av.open(str(tmp_path / "index.m3u8")) as container:
        assert len(list(container.decode(video=0))) == sum(COUNTS)


def counters(data):
    """The continuity counters of each stream of an MPEG-TS, and whether each packet has payload."""
    found = {}
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        assert packet[0] == 0x47 and len(packet) == 188
        found.setdefault((packet[1] & 31) << 8 | packet[2], []).append((packet[3] & 15, bool(packet[3] & 16)))
    return found


@pytest.mark.parametrize("size", [(64, 80), (16, 16)])
def test_fragments_are_one_stream_by_their_counters(tmp_path, size):
    """Also where every frame fits into one packet: 16 x 16 pixels of one colour."""
    counts, first = [1, 2, 15, 16, 17], 0
    for number, count in enumerate(counts):
        video = pictures(count, number) if size == (64, 80) else np.full((count, *size, 3), 40 * number, np.uint8)
        write_fragment(tmp_path / fragment_name(number), video, RATE, first)
        first += count
    whole = b"".join((tmp_path / fragment_name(n)).read_bytes() for n in range(len(counts)))
    for stream, packets in counters(whole).items():
        for (before, _), (now, counted) in zip(packets, packets[1:]):
            assert now == (before + counted) % 16, stream
    write_playlist(tmp_path / "index.m3u8", counts, RATE, 17, ended=True)
    with av.open(str(tmp_path / "index.m3u8"), options={"fflags": "+discardcorrupt"}) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert len(packets) == sum(counts) and not any(packet.is_corrupt for packet in packets)
    with av.open(str(tmp_path / "index.m3u8")) as container:
        assert len(list(container.decode(video=0))) == sum(counts)


def test_damage_is_named(fragments, tmp_path):
    files, _ = fragments
    files[1].write_bytes(b"nothing" * 100)
    with pytest.raises(VidarError, match="000001.ts: cannot be read as video"):
        join_fragments(files, tmp_path / "x.mp4", RATE)
    assert not (tmp_path / "x.mp4").exists() and not list(tmp_path.glob("*.tmp.*"))
