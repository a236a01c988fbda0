"""Hostile clients over real sockets: the right answer for them, and a player beside them who notices nothing."""

import contextlib
import json
import logging
import re
import socket
import struct
import threading
import time

import pytest
from play_client import UPGRADE, WAIT, Player, get, metric, plays_on, raw, sockets
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from vidar.play.guard import Bucket, Guard, is_loopback
from vidar.play.server import PAGE, address, listen
from vidar.types import VidarError


def test_names_tokens_and_addresses():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.5", "box", "localhost.evil.example")))
    guard = Guard("127.0.0.1")
    assert guard.token is None and guard.knows("")
    for host in ("127.0.0.1:8000", "LOCALHOST:9", "[::1]:8000", "localhost"):
        assert guard.refusal({"host": host}, "127.0.0.1") is None
        assert guard.refusal({"host": host, "origin": f"http://{host}"}, None) is None
    for host in ("", "evil.example", "localhost.evil.example:8000", "a@localhost", "localhost/x", "localhost:x", "0"):
        assert guard.refusal({"host": host}, "127.0.0.1") == "host"
    for origin in ("null", "", "http://localhost", "http://localhost:8001", "http://evil.example", "file://"):
        assert guard.refusal({"host": "localhost:8000", "origin": origin}, None) == "origin"
    guard = Guard("0.0.0.0")
    assert re.fullmatch("[0-9a-f]{32}", guard.token) and guard.token != Guard("0.0.0.0").token
    assert guard.refusal({"host": "10.0.0.5:80"}, "10.0.0.5") is None
    assert guard.refusal({"host": "10.0.0.5:80"}, "10.0.0.6") is None  # an address cannot be rebound
    assert guard.refusal({"host": "box:80"}, "10.0.0.6") == "host"
    assert Guard("127.0.0.1").refusal({"host": "10.0.0.5:80"}, "10.0.0.6") == "host"
    assert guard.knows(guard.token) and not guard.knows(guard.token[:-1]) and not guard.knows("\u00e9")
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert address("127.0.0.1", sock, Guard("127.0.0.1")) == f"http://127.0.0.1:{port}/"
        assert address("::1", sock, Guard("::1")) == f"http://[::1]:{port}/"
        assert address("0.0.0.0", sock, guard).endswith(f":{port}/#{guard.token}")
        with pytest.raises(VidarError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another --port"):
            listen("127.0.0.1", port)


def test_bucket_by_hand():
    at = [0.0]
    bucket = Bucket(10.0, 3.0, now=lambda: at[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    at[0] = 0.15
    assert bucket.take() and not bucket.take()
    at[0] = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_foreign_hosts_and_origins_get_403_before_the_upgrade(serve):
    served = serve(capacity=2)
    own = f"http://127.0.0.1:{served.port}"
    with Player(served.port, origin=own) as player:
        player.hear("hello")
        bad = [{"origin": origin} for origin in ("http://evil.example", "null", "http://127.0.0.1:1", own + ".evil")]
        for options in bad:
            with pytest.raises(InvalidStatus) as refused:
                Player(served.port, **options)
            assert refused.value.response.status_code == 403
        names = "evil.example", "evil.example", "127.0.0.1.evil.example"
        for name, host in zip(names, ("evil.example", f"evil.example:{served.port}", "127.0.0.1.evil.example")):
            answer = raw(served.port, UPGRADE.format(port=served.port).replace(f"127.0.0.1:{served.port}", host))
            assert answer.startswith("HTTP/1.1 403 ") and "nosniff" in answer and f"--allow-host {name}" in answer
        assert plays_on(player)
        assert metric(served.port, 'refused_total{reason="origin"}') == len(bad)
        assert metric(served.port, 'refused_total{reason="host"}') == 3
    with Player(served.port) as player:  # no browser
        player.hear("hello")


def test_the_other_loopback(serve):
    """--host ::1: address, Host, Origin and WebSocket by the name in brackets."""
    served = serve(capacity=1, name="::1", at="::1")
    assert served.lobby.guard.token is None
    own = f"[::1]:{served.port}"
    with connect(f"ws://{own}/ws", origin=f"http://{own}", open_timeout=WAIT) as line:
        while not isinstance(line.recv(timeout=WAIT), bytes):
            pass
        assert get(served.port, "/", host=own, at="::1")[0].status == 200
        assert get(served.port, "/", host="evil.example", at="::1")[0].status == 403
        for origin in (f"http://127.0.0.1:{served.port}", "http://[::2]:80", "http://evil.example"):
            with pytest.raises(InvalidStatus):
                connect(f"ws://{own}/ws", origin=origin, open_timeout=WAIT)
        assert isinstance(line.recv(timeout=WAIT), bytes | str)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", served.port), timeout=2)


def test_token_is_compulsory_off_loopback(serve, caplog):
    caplog.set_level(logging.DEBUG)
    served = serve(capacity=2, name="0.0.0.0", handshake=1.5)
    token = served.lobby.guard.token
    with Player(served.port) as player:
        player.say("token", token=token)
        player.hear("hello")
        firsts = [
            {"t": "token", "token": ""},
            {"t": "token", "token": token[:-1]},
            {"t": "token", "token": token[::-1] if token != token[::-1] else "0" * 32},
            {"t": "input", "seq": 1, "keys": 0},
            "nonsense",
        ]
        for first in firsts:
            with Player(served.port) as stranger:
                stranger.throw(first if isinstance(first, str) else json.dumps(first))
                assert stranger.end() == 4401
        with Player(served.port) as silent:
            assert silent.end() == 4401
        assert plays_on(player)
        text = get(served.port, "/metrics")[1].decode()
        assert metric(served.port, 'refused_total{reason="token"}') == len(firsts) + 1
        assert metric(served.port, "sessions_total") == 1 and token not in text
    # the client's own log has what it sends: only the server's counts
    assert token not in "".join(r.getMessage() for r in caplog.records if not r.name.startswith("websockets.client"))


@pytest.mark.parametrize(
    "text, code",
    [
        ("{", 1007),
        ("[]", 1007),
        ("[" * 60_000, 1007),
        ('{"t":"input","seq":-1}', 1007),
        ('{"t":"input","seq":1,"dx":1e999}', 1007),
        ('{"t":"reset","seed":"../x"}', 1007),
        ('{"t":"reset","seed":1,"start":7}', 1007),
        ('{"t":"record","on":"yes"}', 1007),
        ('{"t":"load","path":"/etc/passwd"}', 1008),
        (b"{}", 1003),
        ("a" * 65_537, 1009),
        (b"a" * 200_000, 1009),
        (["a" * 40_000, "a" * 40_000], 1009),  # in two fragments
    ],
    ids=lambda value: str(value)[:24],
)
def test_bad_messages_close_with_their_code(serve, text, code):
    served = serve(capacity=2)
    with Player(served.port) as player, Player(served.port) as stranger:
        player.hear("hello")
        stranger.hear("hello")
        stranger.throw(text)
        assert stranger.end() == code
        assert plays_on(player)
        assert metric(served.port, "playing") == 1


def test_raw_rubbish_on_a_socket_ends_it(serve):
    """Bytes that are no frame, text that is no UTF-8, a frame without its mask."""
    served = serve(capacity=1)
    with Player(served.port) as player:
        player.hear("hello")
        for rubbish, code in ((b"\xff" * 64, 1002), (mask(b"\xff\xfe", 0x81), 1007), (b"\x81\x02{}", 1002)):
            with upgraded(served.port) as line:
                line.sendall(rubbish)
                assert struct.pack(">H", code) in everything(line)
        assert plays_on(player)


def test_a_flood_is_dropped_then_ended(serve):
    served = serve(capacity=2, messages=50, burst=20, excess=40)
    with Player(served.port) as player, Player(served.port) as stranger:
        player.hear("hello")
        stranger.hear("hello")
        stranger.throw(*(json.dumps({"t": "input", "seq": seq, "keys": 1}) for seq in range(200)))
        assert stranger.end() == 1008
        assert plays_on(player)
        assert metric(served.port, "messages_dropped_total") >= 41
        assert metric(served.port, 'closed_total{code="1008"}') == 1


def test_resets_are_rationed(serve):
    """Each costs a prefill that the others wait for."""
    served = serve(capacity=2)
    with Player(served.port) as player:
        player.hear("hello")
        for seed in range(30):
            player.say("reset", seed=seed)
        player.say("ping")
        player.hear("pong")
        assert served.engine.slots[0].log.start.seed <= 5
        assert metric(served.port, "messages_dropped_total") >= 24
        assert plays_on(player)


def test_a_slow_reader_costs_no_memory_and_loses_the_slot(serve):
    served = serve(capacity=2, send=1.5)
    with Player(served.port) as player:
        player.hear("hello")
        with upgraded(served.port, receive=4096):
            until(lambda: metric(served.port, "playing") == 2)
            waiting, began = [], time.monotonic()
            while metric(served.port, "playing") == 2:
                assert plays_on(player) and time.monotonic() - began < 6
                waiting.append(max(one.transport.get_write_buffer_size() for one in sockets(served)))
            assert 0 < max(waiting) < 32 * 1024 + 10_000  # what may wait, and one frame
            assert len(waiting) > 10 and metric(served.port, 'closed_total{code="1008"}') == 1
            until(lambda: plays_on(player) and len(sockets(served)) == 1)
        with Player(served.port) as other:
            other.hear("hello")
        assert plays_on(player)


@pytest.mark.parametrize("beginning", ["", "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b"], ids=["silent", "header"])
def test_a_hundred_half_open_connections_keep_nobody_out(serve, beginning):
    served = serve(handshake=1.5, half_open=60)
    lines = [socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) for _ in range(100)]
    try:
        for line in lines:
            with contextlib.suppress(OSError):  # the oldest have gone already
                line.sendall(beginning.encode())
        began = time.monotonic()
        with Player(served.port) as player:
            player.hear("hello")
            player.frame()
            assert time.monotonic() - began < 1.4
            assert len(served.server.server_state.connections) <= 61
            for line in lines:
                assert everything(line) == b""  # each is cut
            assert plays_on(player)
            assert len(served.server.server_state.connections) == 1
            assert time.monotonic() - began < 6
    finally:
        for line in lines:
            line.close()


def test_trickled_headers_and_endless_headers_are_cut(serve):
    served = serve(handshake=1.0)
    with Player(served.port) as player:
        player.hear("hello")
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as line:
            began = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - began < 5:
                    line.sendall(b"X")
                    time.sleep(0.05)
            assert 0.8 < time.monotonic() - began < 3
        answer = raw(served.port, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + "a" * 200_000 + "\r\n\r\n")
        assert answer == "" or answer.startswith("HTTP/1.1 400 ")
        assert plays_on(player)


def test_strings_are_no_paths(serve):
    served = serve()
    targets = [
        *("/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/%2e%2e%2fguard.py", "/..\\server.py"),
        *(
            "/./../../../../../../etc/passwd",
            "//etc/passwd",
            "/etc/pass.wd",
            "/page/../play.js",
            "/play.js/",
            "/play.js%00",
        ),
        *("/%252e%252e/server.py", "/play.js/../../server.py", "/index.html", "/ws/../server.py", "/PLAY.JS"),
        "http://127.0.0.1/../server.py",
    ]
    sources = [file.read_text()[:60] for file in PAGE.parent.glob("*.py") if file.stat().st_size > 60]
    with Player(served.port) as player:
        player.hear("hello")
        for target in targets:
            answer = raw(served.port, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert answer[:13] in ("HTTP/1.1 404 ", "HTTP/1.1 400 "), target
            assert "root:" not in answer and not any(source in answer for source in sources)
            upgrade = raw(served.port, UPGRADE.format(port=served.port).replace("GET /ws", f"GET {target}"))
            assert upgrade[:11] in ("HTTP/1.1 40", ""), target
        assert plays_on(player)


def test_a_crowd_that_comes_and_goes_leaves_nothing(serve):
    served = serve(capacity=2, per_ip=40)
    with Player(served.port) as player:
        player.hear("hello")

        def visit():
            with contextlib.suppress(OSError):
                upgraded(served.port).close()  # without a word of goodbye

        for _ in range(3):
            crowd = [threading.Thread(target=visit) for _ in range(10)]
            for one in crowd:
                one.start()
            for one in crowd:
                one.join()
        until(lambda: metric(served.port, "playing") == 1 and metric(served.port, "waiting") == 0)
        assert plays_on(player)
        assert dict(served.lobby.present) == {"127.0.0.1": 1}


def until(good):
    end = time.monotonic() + WAIT
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def upgraded(port, receive=None):
    """A plain socket after the handshake of a WebSocket."""
    line = socket.socket()
    if receive is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    line.settimeout(WAIT)
    line.connect(("127.0.0.1", port))
    line.sendall(UPGRADE.format(port=port).encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(1)
    assert got.startswith(b"HTTP/1.1 101 ")
    return line


def everything(line):
    got = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while part := line.recv(65536):
            got += part
    return got


def mask(payload, first):
    """A frame of a client."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload
