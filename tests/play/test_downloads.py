"""Whose recordings are, over real sockets: nobody else gets them, once is once, late is too late, many are few."""

import contextlib
import socket
import time
from pathlib import Path

from play_client import WAIT, Player, fetch, get, metric, plays_on

from vidar.play import client
from vidar.play.downloads import Downloads


def recorded(player):
    """The answer to a short recording."""
    player.say("record", on=True)
    player.hear("recording")
    number = player.frame()[0].frame
    player.frame(lambda header: header.frame > number + 4)
    player.say("record", on=False)
    return player.hear("recorded")


def left(served):
    """Files of recordings on the disk."""
    return [path for path in Path(served.lobby.downloads.folder.name).rglob("*") if path.is_file()]


def test_only_the_session_gets_it_and_only_once(serve):
    served = serve(capacity=2, fps=40.0)
    own = f"http://127.0.0.1:{served.port}"
    with Player(served.port) as player, Player(served.port) as other:
        mine, theirs = player.hear("hello")["session"], other.hear("hello")["session"]
        path = recorded(player)["path"]
        assert mine != theirs and len(mine) == 32 and len(path) == len("/recordings/") + 32
        for session in (theirs, "", mine[:-1], mine.upper() + "x", "\u00e9"):
            assert fetch(served.port, path, session)[0].status == 404
        assert get(served.port, path, method="POST")[0].status == 404
        assert [get(served.port, path, method=m, X_Vidar_Session=mine)[0].status for m in ("GET", "HEAD")] == [405, 405]
        for wrong in (
            path[:-1],
            path + "0",
            path + "/",
            "/recordings/",
            "/recordings/../play.js",
            "/recordings/%2e%2e",
        ):
            assert fetch(served.port, wrong, mine)[0].status == 404
        assert fetch(served.port, path, mine, Origin="http://evil.example")[0].status == 403
        assert fetch(served.port, path, mine, host="evil.example")[0].status == 403
        assert len(left(served)) == 1 and metric(served.port, "downloads_total") == 0
        answer, body = fetch(served.port, path, mine, Origin=own)
        assert answer.status == 200 and body[:2] == b"PK" and len(body) == int(answer.getheader("Content-Length"))
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert fetch(served.port, path, mine)[0].status == 404
        until(lambda: not left(served))
        assert plays_on(player) and plays_on(other)
        assert metric(served.port, "recordings_total") == metric(served.port, "downloads_total") == 1


def test_a_file_expires_is_replaced_and_goes_with_its_session(serve, monkeypatch):
    monkeypatch.setattr(client, "RECORDINGS_AT_ONCE", 9.0)
    served = serve(capacity=2, fps=40.0, download=1.0)
    with Player(served.port) as other:
        other.hear("hello")
        with Player(served.port) as player:
            session = player.hear("hello")["session"]
            path = recorded(player)["path"]
            until(lambda: not left(served))  # deleted without being asked for
            assert fetch(served.port, path, session)[0].status == 404
            paths = [recorded(player)["path"] for _ in range(2)]
            assert len(left(served)) == 1
            assert fetch(served.port, paths[0], session)[0].status == 404
            player.say("record", on=True)  # under way when the player goes
            player.hear("recording")
        until(lambda: not any(Path(served.lobby.downloads.folder.name).iterdir()))
        assert fetch(served.port, paths[1], session)[0].status == 404
        assert plays_on(other)
    folder = Path(served.lobby.downloads.folder.name)
    served.stop()
    assert not folder.exists()


def test_a_flood_of_recordings_is_rationed(serve):
    served = serve(capacity=2, fps=40.0)
    with Player(served.port) as player, Player(served.port) as other:
        player.hear("hello")
        other.hear("hello")
        number = player.frame()[0].frame
        for _ in range(20):
            player.say("record", on=True)
            player.frame(lambda header, number=number: header.frame > number + 2)
            number = player.frame()[0].frame
            player.say("record", on=False)
        player.say("ping")
        player.hear("pong")
        assert metric(served.port, "recordings_total") <= 4 and len(left(served)) <= 1
        assert metric(served.port, "messages_dropped_total") >= 16
        assert plays_on(player) and plays_on(other)


def test_nothing_is_recorded_without_a_slot(serve):
    served = serve(capacity=1, per_ip=5)
    with Player(served.port) as first, Player(served.port) as second:
        first.hear("hello")
        second.hear("queue")
        second.say("record", on=True)
        second.say("ping")
        second.hear("pong")
        assert "recording" not in second.told and plays_on(first)


def test_times_by_hand():
    at = [0.0]
    kept = Downloads(10.0, now=lambda: at[0])
    rooms = [kept.room("a"), kept.room("a"), kept.room("b")]
    for room in rooms:
        (room / "x").write_text("x")
    old, new, others = (kept.offer(who, room / "x") for who, room in zip("aab", rooms))
    assert kept.take(old, "a") is None and not rooms[0].exists()
    assert kept.take(new, "b") is None and kept.take(others, "a") is None
    assert kept.take(new, "a") == rooms[1] / "x" and kept.take(new, "a") is None
    at[0] = 9.9
    kept.expire()
    assert rooms[2].exists()
    at[0] = 10.0
    assert kept.take(others, "b") is None and not rooms[2].exists()
    kept.close()
    assert not Path(kept.folder.name).exists()


def until(good):
    end = time.monotonic() + WAIT
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def slow_fetch(served, path, session, seconds):
    """All that comes to a reader who holds little and does not read for a while."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(WAIT)
        line.connect(("127.0.0.1", served.port))
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nX-Vidar-Session: {session}\r\n\r\n"
        line.sendall(head.encode())
        time.sleep(seconds)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := line.recv(65536):
                got += part
    return got.partition(b"\r\n\r\n")[2]


def test_fetching_may_take_longer_than_a_handshake_but_not_for_ever(serve):
    for download, whole in ((20.0, True), (1.5, False)):
        served = serve(capacity=1, handshake=1.0, download=download)
        with Player(served.port) as player:
            session = player.hear("hello")["session"]
            file = served.lobby.downloads.room(session) / "large.zip"
            file.write_bytes(bytes(12_000_000))
            path = "/recordings/" + served.lobby.downloads.offer(session, file)
            got = slow_fetch(served, path, session, 2.0)
            assert (len(got) == 12_000_000) == whole
            until(lambda served=served: not left(served))
            assert plays_on(player)
