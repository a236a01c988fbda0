"""What passes between server and page: layout of a frame, what is refused and with which code."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from vidar.play import messages


def test_header_is_these_16_bytes():
    message = messages.frame_message(0x01020304, 0x05060708, 0x090A0B0C, b"picture")
    assert message == bytes([1, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) + b"picture"
    message = messages.frame_message(1, 2, 3, b"video", messages.H264_FRAME, 1)
    assert message == bytes([1, 4, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]) + b"video"
    header, jpeg = messages.read_frame(messages.frame_message(2**32 + 5, 2**40 + 7, 9, b"x"))
    assert (header.version, header.kind, header.flags, jpeg) == (1, 1, 0, b"x")
    assert (header.frame, header.stamp, header.echo) == (5, 7, 9)


def test_jpeg_is_close_and_keeps_all_colour():
    frame = np.zeros((16, 24, 3), np.uint8)
    frame[:, ::2] = (200, 30, 40)  # a column red, a column blue: half the colour would mix them
    frame[:, 1::2] = (40, 30, 200)
    again = np.asarray(Image.open(io.BytesIO(messages.to_jpeg(frame))).convert("RGB"))
    assert again.shape == frame.shape and np.abs(again.astype(int) - frame).mean() < 12


@pytest.mark.parametrize(
    "text, want",
    [
        ('{"t":"input","seq":7,"keys":3,"dx":-1.5,"dy":2}', messages.Input(t="input", seq=7, keys=3, dx=-1.5, dy=2.0)),
        ('{"t":"input","seq":4294967295}', messages.Input(t="input", seq=2**32 - 1)),
        ('{"t":"pause","on":true}', messages.Pause(t="pause", on=True)),
        ('{"t":"step"}', messages.Step(t="step")),
        ('{"t":"reset","seed":9007199254740991}', messages.Reset(t="reset", seed=2**53 - 1)),
        ('{"t":"reset","seed":1,"start":65535}', messages.Reset(t="reset", seed=1, start=65535)),
        ('{"t":"record","on":false}', messages.Record(t="record", on=False)),
        ('{"t":"codec","codec":"h264"}', messages.Codec(t="codec", codec="h264")),
        ('{"t":"ping","at":1.25}', messages.Ping(t="ping", at=1.25)),
        ('{"t":"token","token":"00ff"}', messages.Token(t="token", token="00ff")),
    ],
)
def test_good_messages(text, want):
    assert messages.parse(text) == want


MALFORMED = [
    "",
    "{",
    "[]",
    "3",
    "null",
    '"input"',
    "{}",
    '{"t":"input"}',
    '{"t":"input","seq":-1}',
    '{"t":"input","seq":4294967296}',
    '{"t":"input","seq":1.5}',
    '{"t":"input","seq":"1"}',
    '{"t":"input","seq":true}',
    '{"t":"input","seq":1,"keys":null}',
    '{"t":"input","seq":1,"dx":NaN}',
    '{"t":"input","seq":1,"dx":Infinity}',
    '{"t":"input","seq":1,"dx":1e300}',
    '{"t":"input","seq":1,"path":"/etc/passwd"}',
    '{"t":"pause","on":1}',
    '{"t":"reset","seed":9007199254740992}',
    '{"t":"reset","seed":-1}',
    '{"t":"reset","seed":1,"start":-1}',
    '{"t":"reset","seed":1,"start":65536}',
    '{"t":"reset","seed":1,"start":"../a.mp4"}',
    '{"t":"reset","seed":1,"start":1.0}',
    '{"t":"record"}',
    '{"t":"record","on":true,"path":"x"}',
    '{"t":"codec"}',
    '{"t":"codec","codec":"av1"}',
    '{"t":"codec","codec":["h264"]}',
    '{"t":"codec","codec":"h264","crf":0}',
    '{"t":"reset","seed":' + "9" * 5000 + "}",
    '{"t":"token","token":"' + "a" * 65 + '"}',
    "[" * 30_000,
    '{"t":"step"} {"t":"step"}',
]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:44])
def test_malformed_messages(text):
    with pytest.raises(messages.Closed) as refused:
        messages.parse(text)
    assert refused.value.code == 1007


def test_unknown_kinds_are_refused_by_policy():
    for kind in ("load", "INPUT", "../x", ""):
        with pytest.raises(messages.Closed) as refused:
            messages.parse(json.dumps({"t": kind}))
        assert refused.value.code == 1008


def test_server_messages_are_compact_json():
    assert messages.to_json("queue", place=2) == '{"t":"queue","place":2}'
