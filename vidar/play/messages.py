"""The messages between server and page: pictures are binary, everything else is JSON.

A picture is a header of 16 bytes, big-endian, and a JPEG, or H.264 in Annex B. Every message of a client is checked
here as a whole before anything else reads it.
"""

from __future__ import annotations

import io
import json
import struct
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vidar.rollout.memory import Chart

VERSION = 1
JPEG_FRAME, START_PICTURE, GAME_FRAME, H264_FRAME, WATCHED_FRAME = 1, 2, 3, 4, 5  # the kinds of pictures
RECORDINGS = "/recordings/"  # where a client fetches its recording, below the address of the page
HEADER = struct.Struct(">BBHIII")
QUALITY = 90
MOST_PIXELS = 10_000.0  # of mouse motion in one message

NORMAL, GOING_AWAY, BAD_TYPE, BAD_DATA, POLICY = 1000, 1001, 1003, 1007, 1008
INTERNAL, TRY_LATER, NO_TOKEN = 1011, 1013, 4401

Word = Annotated[int, Field(ge=0, lt=2**32)]


class Closed(Exception):
    """The session ends: a close code and a reason of a few words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Header(NamedTuple):
    """Before each picture. frame: its number. stamp: ms of the server's clock. echo: the newest input it answers.

    flags: of H.264, 1 for a key frame. Of a start, frame is its number and stamp the number of starts; of the real
    game, frame is the number of the dream's frame. WATCHED_FRAME: a player's frame, for those who wait in the queue.
    """

    version: int
    kind: int
    flags: int
    frame: int
    stamp: int
    echo: int


def frame_message(frame: int, stamp: int, echo: int, data: bytes, kind: int = JPEG_FRAME, flags: int = 0) -> bytes:
    """A picture with its header. The numbers are kept modulo 2^32."""
    most = 2**32 - 1
    return HEADER.pack(VERSION, kind, flags, frame & most, stamp & most, echo & most) + data


def read_frame(message: bytes) -> tuple[Header, bytes]:
    """The inverse of `frame_message`."""
    return Header(*HEADER.unpack_from(message)), message[HEADER.size :]


def to_jpeg(frame: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> JPEG with all its colour (4:4:4)."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Input(_Message):
    """Keys held from now on (bit i: key i of the greeting) and mouse motion since the last input, in pixels."""

    t: Literal["input"]
    seq: Word
    keys: Word = 0
    dx: float = Field(default=0.0, ge=-MOST_PIXELS, le=MOST_PIXELS)
    dy: float = Field(default=0.0, ge=-MOST_PIXELS, le=MOST_PIXELS)


class Pause(_Message):
    """Stop the dream, or go on."""

    t: Literal["pause"]
    on: bool


class Step(_Message):
    """Make one frame of a paused dream."""

    t: Literal["step"]


class Reset(_Message):
    """Begin again with this seed. start: number of the clip to begin from; None: the present one."""

    t: Literal["reset"]
    seed: int = Field(ge=0, lt=2**53)
    start: int | None = Field(default=None, ge=0, lt=2**16)


class Record(_Message):
    """Begin to record the dream, or end the recording and get its file."""

    t: Literal["record"]
    on: bool


class Codec(_Message):
    """The coding of frames from now on."""

    t: Literal["codec"]
    codec: Literal["jpeg", "h264"]


class Ping(_Message):
    """The server sends it back unchanged."""

    t: Literal["ping"]
    at: float = 0.0


class Token(_Message):
    """The first message to a server that asks for a token."""

    t: Literal["token"]
    token: str = Field(max_length=64)


Message = Input | Pause | Step | Reset | Record | Codec | Ping | Token
_READER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="t")])


def parse(text: str) -> Message:
    """A message of a client. Raises Closed: 1008 for a message of no known kind, 1007 for anything malformed."""
    try:
        return _READER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            raise Closed(POLICY, "unknown message") from None
        if first["type"] == "literal_error" and first["loc"][-1] == "codec":
            raise Closed(BAD_DATA, "unknown codec: it is jpeg or h264") from None
        raise Closed(BAD_DATA, "malformed message") from None


def chart_message(number: int, chart: Chart) -> str:
    """What a memory knows at frame `number`, in whole map units; lists without brackets between their parts.

    pose: x, y, angle. walls: x, y of squares of side `cell`. views: x, y, angle of each picture that is kept.
    """
    walls, views = ([*chain.from_iterable(parts)] for parts in (chart.walls, chart.views))
    return to_json("chart", frame=number, pose=chart.pose, cell=chart.cell, walls=walls, views=views)


def to_json(t: str, **fields: Any) -> str:
    """A message of the server."""
    return json.dumps({"t": t, **fields}, separators=(",", ":"))
