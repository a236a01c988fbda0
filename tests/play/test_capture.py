"""A recording of part of a dream: what is in the zip, where it ends, and that missed frames are not made up."""

import csv
import io
import threading
import time
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from play_client import WAIT, Player, fetch, plays_on

from vidar.config import load_file
from vidar.data.convert import Conversion, convert_folder
from vidar.data.reader import episodes
from vidar.data.video import decode_video, encode_video, read_video
from vidar.play.capture import Capture
from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import read, replay
from vidar.types import VidarError


def unpacked(body, folder):
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        packed.extractall(folder)
    return folder


def test_a_recording_is_what_convert_reads_and_what_replays_the_dream(serve, tiny, tmp_path):
    served = serve(fps=40.0)
    with Player(served.port) as player:
        hello = player.hear("hello")
        log = served.engine.slots[0].log
        player.frame(lambda header: header.frame > 4)
        player.say("record", on=True)
        assert player.hear("recording")["on"]
        for seq, keys in enumerate((1, 0, 6, 4, 16, 2, 0), 1):
            player.say("input", seq=seq, keys=keys)
            player.frame(lambda header, seq=seq: header.echo == seq)
        player.say("record", on=False)
        told = player.hear("recorded")
        answer, body = fetch(served.port, told["path"], hello["session"])
        assert answer.status == 200 and answer.getheader("Content-Type") == "application/zip"
        assert answer.getheader("Content-Disposition") == f'attachment; filename="{told["name"]}"'
        assert plays_on(player)
    own = unpacked(body, tmp_path / "own")
    videos = sorted(own.glob("*.mp4"))
    assert {file.suffix for file in own.iterdir()} == {".mp4", ".csv", ".dream", ".yaml"} and videos
    (dream,) = own.glob("*.dream")
    frames = np.stack(list(replay(tiny, read(dream))))
    convert_folder(own, tmp_path / "out", Conversion(spec=load_file(own / "actions.yaml"), fps=17.5))
    made = list(episodes(tmp_path / "out", "train"))
    assert sum(len(episode.frames) for episode in made) == told["frames"] >= 7
    for episode, video in zip(made, videos):
        first, count = int(video.stem.split("-")[-1]), len(episode.frames)
        assert first >= 4 and np.array_equal(episode.actions[1:], log.rows[first : first + count - 1])
        shown = frames[first - 1 : first - 1 + count]  # uint8 [T, H, W, 3], and as the encoder makes them again
        assert np.array_equal(read_video(video)[0], decode_video(encode_video(shown, fps=17.5)))
        assert not np.array_equal(shown[0], frames[first - 2])


def test_a_recording_ends_by_itself_at_its_length(serve):
    served = serve(fps=40.0, recording=0.5)  # 9 frames at 17.5 a second
    with Player(served.port) as player:
        hello = player.hear("hello")
        player.say("record", on=True)
        told = player.hear("recorded")
        assert 5 <= told["frames"] <= 9
        assert fetch(served.port, told["path"], hello["session"])[0].status == 200
        player.say("record", on=False)  # nothing runs any more
        assert plays_on(player) and not served.lobby.downloads.offers


def test_a_reset_ends_a_recording_with_the_dream_it_is_of(serve, tiny, tmp_path):
    served = serve(fps=40.0)
    with Player(served.port) as player:
        hello = player.hear("hello")
        player.say("record", on=True)
        player.frame(lambda header: header.frame > 5)
        player.say("reset", seed=77)
        told = player.hear("recorded")
        assert player.hear("seed")["seed"] == 77
        _, body = fetch(served.port, told["path"], hello["session"])
        (dream,) = unpacked(body, tmp_path).glob("*.dream")
        assert read(dream).start.seed == hello["seed"] and len(read(dream).actions) >= 5
        assert plays_on(player)


def test_nothing_shown_is_said(serve):
    served = serve(fps=40.0)
    with Player(served.port) as player:
        player.hear("hello")
        player.frame()
        player.say("pause", on=True)
        time.sleep(0.3)
        player.say("record", on=True)
        player.say("record", on=False)
        player.hear("recording")
        assert player.hear("recording")["why"] == "fewer than two frames were shown"
        assert not any(home.iterdir() for home in served.lobby.downloads.homes.values() if any(home.iterdir()))


class Here(ThreadPoolExecutor):
    """Does what is submitted at once, on the thread that asks: a round may then hold the lock of the engine."""

    def submit(self, fn, /, *args):
        done = Future()
        done.set_result(fn(*args))
        return done


@pytest.fixture
def slot(world, first_frames):
    """At an engine that moves by `round` only."""
    engine = PlayEngine(world, 1)
    engine._painter = Here()
    return engine.sit(Start(first_frames, None, 3))


def advance(slot, capture=None, taken=0, rounds=1):
    """So many frames at once; returns when the recorder has `taken`: of several it sees the last one."""
    with slot.engine.wake:
        for _ in range(rounds):
            slot.asked = time.monotonic()
            slot.engine.round()
    end = time.monotonic() + WAIT
    while capture is not None and capture.taken < taken:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_missed_frame_ends_a_video_and_begins_another(slot, tmp_path):
    rng = np.random.default_rng(0)
    advance(slot)
    capture = Capture(slot, tmp_path, 100, 10**9)
    for taken, rounds in enumerate((0, 1, 1, 2, 1, 1, 2, 2, 1), 1):  # frames 1-3, 5-7, 9, 11-12
        slot.press(rng.integers(0, 2, 5).astype(np.float32))
        advance(slot, capture, taken, rounds)
    packed = capture.pack()
    unpacked(packed.file.read_bytes(), tmp_path / "out")
    rows = slot.log.rows
    want = {1: rows[0:3], 5: rows[4:7], 11: rows[10:12]}  # one frame has no action
    found = {int(file.stem.split("-")[-1]): file for file in (tmp_path / "out").glob("*.csv")}
    videos = {first: len(read_video(file.with_suffix(".mp4"))[0]) for first, file in found.items()}
    assert videos == {1: 3, 5: 3, 11: 2} and packed.frames == 8
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 3
    for first, expected in want.items():
        with found[first].open() as file:
            header, *table = csv.reader(file)
        assert header == list(slot.engine.world.config.actions.names)
        assert np.array_equal(np.array(table, np.float32), np.stack(expected))


def test_a_recording_ends_by_itself_at_its_size(slot, tmp_path):
    advance(slot)
    capture = Capture(slot, tmp_path, 100, 50_000)
    for taken in (2, 3):
        advance(slot, capture, taken)
    (tmp_path / "large").write_bytes(bytes(60_000))  # the encoder writes in blocks of 256 KiB
    assert not capture.ended
    advance(slot, capture, 4)
    capture._thread.join(WAIT)
    assert capture.ended
    advance(slot)
    assert capture.pack().frames == 4


def test_a_recorder_is_no_reader_and_ends_with_the_world(world, first_frames, tmp_path):
    with PlayEngine(world, 1, fps=50.0) as engine:
        slot = engine.sit(Start(first_frames, None, 3))
        slot.newest(None, timeout=WAIT)
        capture = Capture(slot, tmp_path, 10**6, 10**9)
        time.sleep(1.5)  # nobody looks: the dream stands
        number = slot.shown.number
        time.sleep(0.3)
        assert slot.shown.number == number and not capture.ended
        with engine.wake:
            engine.failed = RuntimeError("no picture")
            engine.wake.notify_all()
        capture._thread.join(WAIT)
        assert capture.ended
    assert not [one for one in threading.enumerate() if one.name == "vidar-capture"]


def test_a_zip_that_cannot_be_written_is_one_line(slot, tmp_path):
    advance(slot)
    capture = Capture(slot, tmp_path, 100, 10**9)
    for taken in (2, 3):
        advance(slot, capture, taken)
    (tmp_path / f"{capture.name}-000001.zip").mkdir()
    with pytest.raises(VidarError, match="zip: cannot be written: Is a directory"):
        capture.pack()
