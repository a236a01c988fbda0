"""A client for the tests of the server: what it is sent, and plain sockets."""

import contextlib
import http.client
import json
import re
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vidar.play import messages

WAIT = 15
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Player:
    """A client that reads what it is sent; frames are (header, bytes)."""

    def __init__(self, port, **options):
        self.socket = connect(f"ws://127.0.0.1:{port}/ws", open_timeout=WAIT, close_timeout=1, **options)
        self.told = {}
        self.pictures = {}  # kind -> (header, bytes) of those that are no frames of the dream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, t, **fields):
        self.socket.send(json.dumps({"t": t, **fields}))

    def throw(self, *texts):
        """Send what the server may end the connection for, perhaps while it is still being sent."""
        with contextlib.suppress(ConnectionClosed):
            for text in texts:
                self.socket.send(text)

    def until(self, good):
        """Read on up to the first thing that is `good`."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            message = self.socket.recv(timeout=WAIT)
            if isinstance(message, str):
                message = json.loads(message)
                self.told[message["t"]] = message
            else:
                message = messages.read_frame(message)
                if message[0].kind not in (messages.JPEG_FRAME, messages.H264_FRAME):
                    self.pictures.setdefault(message[0].kind, []).append(message)
            if good(message):
                return message
        raise AssertionError("it did not come")

    def hear(self, t):
        return self.until(lambda message: isinstance(message, dict) and message["t"] == t)

    def frame(self, good=lambda header: True):
        return self.picture(messages.JPEG_FRAME, good)

    def picture(self, kind, good=lambda header: True):
        return self.until(lambda m: isinstance(m, tuple) and m[0].kind == kind and good(m[0]))

    def end(self):
        """The close code, whatever comes before it."""
        with pytest.raises(ConnectionClosed) as closed:
            end = time.monotonic() + WAIT
            while time.monotonic() < end:
                self.socket.recv(timeout=WAIT)
        self.reason = closed.value.rcvd.reason
        return closed.value.rcvd.code


def slow(port):
    """A player's socket that holds little."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", port))
    return Player(port, sock=line, max_queue=1)


def get(port, target, host=None, method="GET", at="127.0.0.1", **headers):
    line = http.client.HTTPConnection(at, port, timeout=WAIT)
    line.putrequest(method, target, skip_host=True)
    line.putheader("Host", host or f"127.0.0.1:{port}")
    for name, value in headers.items():
        line.putheader(name.replace("_", "-"), value)
    line.endheaders()
    answer = line.getresponse()
    body = answer.read()
    line.close()
    return answer, body


def fetch(port, path, session, **headers):
    """A recording, as the page fetches it."""
    return get(port, path, method="POST", X_Vidar_Session=session, **headers)


def raw(port, data):
    """All that comes back on a plain socket."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as line:
        with contextlib.suppress(OSError):  # it may be cut before the end
            line.sendall(data.encode("latin-1"))
            line.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := line.recv(65536):
                got += part
    return got.decode("latin-1")


def metric(port, name):
    found = re.search(rf"^vidar_play_{re.escape(name)} (\S+)$", get(port, "/metrics")[1].decode(), re.M)
    return float(found.group(1)) if found else 0.0


def plays_on(player):
    """True: frames still come, and answer input."""
    seq = player.told.get("seq", 0) + 1
    player.told["seq"] = seq
    player.say("input", seq=seq, keys=0)
    return player.frame(lambda header: header.echo == seq) is not None


def sockets(served):
    """The server's ends of WebSockets."""
    return [one for one in list(served.server.server_state.connections) if hasattr(one, "handshake_complete")]
