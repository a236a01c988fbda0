"""H.264 of a player's frames: decoded by FFmpeg and set beside the frames themselves, at the coder and over sockets."""

import io
import threading
import time

import av
import numpy as np
import pytest
import torch
from PIL import Image
from play_client import WAIT, Player, metric, plays_on, slow, sockets
from yuv import halved, psnr

from vidar.play import codec, messages
from vidar.rng import Rng
from vidar.types import VidarError

FPS = 20.0


class Decoder:
    """A decoder that must give a picture for every packet, at once."""

    def __init__(self):
        self.context = av.CodecContext.create("h264", "r")
        self.context.thread_count = 1

    def __call__(self, data):
        (frame,) = self.context.decode(av.Packet(data))
        return frame.reformat(format="rgb24", interpolation=codec._EXACT).to_ndarray()


def picture(height, width, at=0):
    """A smooth one, uint8 [H, W, 3]; it moves with `at`."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 2 * at) / 9) + np.cos(y / 7), np.cos((x - at) / 11), np.sin((x + y + at) / 13)]
    return np.stack([127 + 60 * wave for wave in waves], -1).astype(np.uint8)


def dreamed(world, log, capacity, row):
    """The frames of a log, uint8 [H, W, 3], from 1 on."""
    streams = world.rollout(capacity)
    streams.open([row], world.encode(torch.from_numpy(log.start.frames)[None]), None, [Rng(log.start.seed)])
    for number, action in enumerate(list(log.rows), 1):
        table = torch.zeros(capacity, 5)
        table[row] = torch.from_numpy(action)
        yield number, world.decode(streams.frame(table)[:, None])[0][row, 0].numpy()


def choose(player, name="h264"):
    """What the server makes of it."""
    if "hello" not in player.told:
        player.hear("hello")
    player.say("codec", codec=name)
    return player.hear("codec")["codec"]


def video(player, good=lambda header: True):
    return player.picture(messages.H264_FRAME, good)


@pytest.mark.parametrize("height, width", [(64, 80), (65, 81), (16, 16), (17, 2), (360, 640)])
def test_every_packet_is_its_frame(height, width):
    coder, decode = codec.H264(height, width, FPS), Decoder()
    for number in range(1, 9):
        frame = picture(height, width, number)
        coded = coder.code(frame, 0, number)
        assert (coded.kind, coded.flags) == (messages.H264_FRAME, int(number == 1))
        again = decode(coded.data)
        assert again.shape == (height + height % 2, width + width % 2, 3)
        assert psnr(again[:height, :width], frame) > 34
    assert coded.data.startswith(b"\0\0\0\1") or coded.data.startswith(b"\0\0\1")  # Annex B


def test_colours_are_no_darker_and_no_paler():
    for colour in ((200, 60, 120), (16, 16, 16), (235, 240, 250)):
        frame = np.full((64, 80, 3), colour, np.uint8)
        again = Decoder()(codec.H264(64, 80, FPS).code(frame, 0, 1).data)
        assert np.abs(again.astype(int) - frame).max() <= 2


def test_key_frames_are_where_the_one_before_was_not_sent():
    coder = codec.H264(64, 80, FPS)
    keys = [0]
    for dream, number in [(0, 1), (0, 2), (0, 3), (0, 5), (0, 6), (1, 7), (1, 8), (2, 1), (2, 2)]:
        coded = coder.code(picture(64, 80, number), dream, number)
        keys.append(coded.flags)
        if coded.flags:
            assert Decoder()(coded.data).shape == (64, 80, 3)  # by itself
    assert keys[1:] == [1, 0, 0, 1, 0, 1, 0, 1, 0]
    coder = codec.H264(64, 80, 4.0)
    assert [coder.code(picture(64, 80, n), 0, n).flags for n in range(17)] == [1, *[0] * 7, 1, *[0] * 7, 1]


def test_codec_string_is_what_the_stream_says():
    assert codec.codec_string(64, 80, 17.5) == "avc1.42c00a" and codec.codec_string(720, 1280, 30.0) == "avc1.42c01f"
    assert codec.codec_string(0, 80, 17.5) is None
    with pytest.raises(VidarError, match="no H.264 of 80x0"):
        codec.H264(0, 80, 17.5)


def test_a_player_gets_the_dream_as_video(serve, tiny):
    """As near to the dream as a JPEG, but for half the colour; the other player's pictures stay as they are."""
    served = serve(capacity=2, fps=FPS)
    with Player(served.port) as player, Player(served.port) as other:
        hello = player.hear("hello")
        assert (hello["codec"], hello["h264"]) == ("jpeg", codec.codec_string(64, 80, FPS))
        assert choose(player) == "h264"
        log, decode, seen = served.engine.slots[hello["seat"]].log, Decoder(), {}
        for seq in range(1, 9):
            player.say("input", seq=seq, keys=seq)
            header = None
            while header is None or header.echo != seq:
                header, data = video(player)
                seen[header.frame] = decode(data)
            assert log.rows[header.frame - 1].tolist() == served.engine.keys.row(seq).tolist()
        assert plays_on(other)
        want = dict(dreamed(tiny, log, 2, hello["seat"]))
    assert len(seen) >= 8
    for number, shown in seen.items():
        jpeg = np.asarray(Image.open(io.BytesIO(messages.to_jpeg(want[number]))))
        assert psnr(shown, halved(want[number])) > 28 and psnr(shown, halved(jpeg)) > 27
        assert number + 1 not in want or psnr(shown, want[number + 1]) < 25


def test_begin_reset_reconnect_and_going_back_to_jpeg(serve):
    served = serve(fps=FPS)
    with Player(served.port) as player:
        choose(player)
        assert video(player)[0].flags == codec.KEY
        for _ in range(3):
            player.say("reset", seed=5)
            player.hear("seed")
            header, data = video(player)
            assert header.flags == codec.KEY and Decoder()(data).shape == (64, 80, 3)
            time.sleep(0.6)  # resets are counted
        player.say("codec", codec="jpeg")
        assert player.hear("codec")["codec"] == "jpeg"
        assert player.frame()[1].startswith(b"\xff\xd8")
        sockets(served)[0].loop.call_soon_threadsafe(sockets(served)[0].transport.abort)
    with Player(served.port) as player:
        assert player.frame()[1].startswith(b"\xff\xd8")  # until it asks again
        player.say("codec", codec="h264")
        header, data = video(player)
        assert header.flags == codec.KEY and Decoder()(data).shape == (64, 80, 3)


def test_frames_that_were_dropped_are_followed_by_a_key_frame(serve):
    served = serve(write_bytes=2048)
    with slow(served.port) as player:
        choose(player)
        last, gaps, end = video(player)[0], 0, time.monotonic() + WAIT
        assert last.flags == codec.KEY
        while not gaps:
            assert time.monotonic() < end
            time.sleep(0.8)  # less than a dream goes on without a reader
            for _ in range(8):
                header, data = video(player)
                if header.frame - last.frame > 1:
                    gaps += 1
                    assert header.flags == codec.KEY and Decoder()(data).shape == (64, 80, 3)
                last = header


def test_a_paused_dream_is_shown_again_in_the_new_coding(serve):
    served = serve(fps=FPS)
    with Player(served.port) as player:
        player.hear("hello")
        player.frame(lambda header: header.frame > 2)
        player.say("pause", on=True)
        time.sleep(0.4)
        number = served.engine.slots[0].shown.number
        assert choose(player, "h264") == "h264"
        header, data = video(player)
        assert (header.frame, header.flags) == (number, codec.KEY)
        assert psnr(Decoder()(data), halved(served.engine.slots[0].shown.frame)) > 28
        player.say("step")
        header, _ = video(player)
        assert (header.frame, header.flags) == (number + 1, 0)
        assert choose(player, "jpeg") == "jpeg"
        assert player.frame()[0].frame == number + 1


def test_an_unknown_codec_is_refused_and_changes_are_counted(serve):
    served = serve()
    with Player(served.port) as player:
        player.hear("hello")
        player.throw('{"t":"codec","codec":"av1"}')
        assert player.end() == 1007
    with pytest.raises(messages.Closed, match=r"^unknown codec: it is jpeg or h264$"):
        messages.parse('{"t":"codec","codec":"av1"}')
    with Player(served.port) as player:
        player.hear("hello")
        for _ in range(12):
            player.say("codec", codec="h264")
        player.say("ping")
        player.hear("pong")
        assert metric(served.port, "messages_dropped_total") >= 7
        assert video(player)


def test_without_an_encoder_pictures_are_jpeg(serve, monkeypatch):
    monkeypatch.setattr(codec, "ENCODER", "libnothing")
    served = serve(codec="h264")
    with Player(served.port) as player:
        hello = player.hear("hello")
        assert (hello["codec"], hello["h264"]) == ("h264", None)
        assert choose(player, "h264") == "jpeg"
        assert player.told["codec"]["why"] == "this server has no encoder for it"
        assert player.frame()[1].startswith(b"\xff\xd8") and plays_on(player)


def test_an_encoder_that_fails_is_left_for_jpeg(serve, monkeypatch):
    served, works = serve(), codec.H264._picture
    with Player(served.port) as player:
        choose(player)
        assert video(player)

        def broken(coder, frame):
            raise VidarError("no picture")

        monkeypatch.setattr(codec.H264, "_picture", broken)
        told = player.hear("codec")
        assert (told["codec"], told["why"]) == ("jpeg", "the server could not encode")
        assert player.frame()[1].startswith(b"\xff\xd8") and plays_on(player)
        monkeypatch.setattr(codec.H264, "_picture", works)
        assert choose(player, "h264") == "h264" and video(player)[0].flags == codec.KEY


@pytest.mark.parametrize("name, kind", [("jpeg", codec.Jpeg), ("h264", codec.H264)])
def test_the_next_frames_are_made_while_one_is_encoded(serve, monkeypatch, name, kind):
    served, code, threads = serve(), kind.code, set()
    busy, go = threading.Event(), threading.Event()

    def waiting(coder, frame, dream, number):
        threads.add(threading.current_thread().name)
        busy.set()
        assert go.wait(WAIT)
        return code(coder, frame, dream, number)

    with Player(served.port) as player:
        choose(player, name)
        shown = player.frame if name == "jpeg" else lambda: video(player)
        shown()
        monkeypatch.setattr(kind, "code", waiting)
        assert busy.wait(WAIT)
        slot, end = served.engine.slots[0], time.monotonic() + 0.9  # then a dream without a reader stops
        number = slot.shown.number
        while slot.shown.number < number + 2 and time.monotonic() < end:
            time.sleep(0.01)
        now = slot.shown.number
        assert now >= number + 2
        go.set()
        numbers = [shown()[0].frame]
        while numbers[-1] < now:
            numbers.append(shown()[0].frame)
        assert numbers == sorted(set(numbers))
    assert threads and all(thread.startswith("vidar-look") for thread in threads)
