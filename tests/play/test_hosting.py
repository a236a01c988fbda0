"""The server by other names, behind proxies, and who is told what at a closed door."""

import io
import sys
import time

import numpy as np
import pytest
from PIL import Image
from play_client import UPGRADE, WAIT, Player, get, metric, raw
from websockets.exceptions import InvalidStatus

from vidar.play.guard import Guard, host_name, origin_of
from vidar.play.messages import WATCHED_FRAME, to_jpeg
from vidar.play.qr import qr_code
from vidar.types import UsageError


def headers(host, origin=None, **others):
    named = {"host": host, "origin": origin, **{name.replace("_", "-"): value for name, value in others.items()}}
    return {name: value for name, value in named.items() if value is not None}


def test_allowed_names_and_origins():
    guard = Guard("127.0.0.1", ["Play.example.org", "box.local:9000", "::1"], ["https://front.example:443/"])
    good = [("play.example.org", None), ("play.example.org:7", "http://play.example.org:7"), ("[::1]:80", None)]
    good += [("127.0.0.1:8000", "https://play.example.org"), ("play.example.org", "https://play.example.org")]
    good += [("box.local:1", "http://box.local:1"), ("127.0.0.1:8000", "http://box.local:9000")]
    good += [("localhost:8000", "https://front.example"), ("localhost", "http://localhost:80")]
    for host, origin in good:
        assert guard.refusal(headers(host, origin), None) is None, (host, origin)
    for host in ("example.org", "x.play.example.org", "front.example", "play.example.org.evil", "play.example.org x"):
        assert guard.refusal(headers(host), None) == "host", host
    foreign = ["https://play.example.org:444", "http://box.local", "http://front.example", "https://evil.example"]
    for origin in (*foreign, "null", "https://play.example.org@evil.example"):
        assert guard.refusal(headers("127.0.0.1:8000", origin), None) == "origin", origin


@pytest.mark.parametrize("name", ["https://x.example", "x/y", "", "a b", "*", "x:y", "a@b", "x?y"])
def test_what_is_no_name(name):
    with pytest.raises(UsageError, match="--allow-host .* give a name such as play.example.org"):
        Guard("127.0.0.1", [name])
    assert host_name("FE80::1") == "[fe80::1]"


@pytest.mark.parametrize("origin", ["x.example", "https://x/y", "ftp://x", "null", "https://", "https://a@b", "*"])
def test_what_is_no_origin(origin):
    with pytest.raises(UsageError, match="--allow-origin .* give scheme and host"):
        Guard("127.0.0.1", (), [origin])
    assert origin_of("HTTP://X.example:80/") == "http://x.example"


def test_forwarded_headers_count_only_if_the_proxy_is_trusted():
    sent = headers("127.0.0.1:8000", "https://play.example", x_forwarded_host="play.example", x_forwarded_for="9.9.9.9")
    guard = Guard("127.0.0.1")
    assert guard.refusal(sent, None) == "origin" and guard.client(sent, "127.0.0.1") == "127.0.0.1"
    guard = Guard("127.0.0.1", trust_proxy=True)
    assert guard.refusal(sent, None) is None and guard.client(sent, "127.0.0.1") == "9.9.9.9"
    assert guard.refusal({**sent, "origin": "https://evil.example"}, None) == "origin"
    assert guard.refusal({**sent, "host": "evil.example"}, None) == "host"
    lied = {**sent, "x-forwarded-for": "1.1.1.1, 2.2.2.2", "x-forwarded-host": "evil.example, play.example"}
    assert guard.client(lied, "x") == "2.2.2.2" and guard.refusal(lied, None) is None  # what the proxy has added
    assert guard.client({**sent, "x-forwarded-for": "unknown"}, "127.0.0.1") == "127.0.0.1"


def test_a_closed_door_names_the_option_that_opens_it(serve):
    served = serve()
    answer, body = get(served.port, "/", host=f"box.local:{served.port}")
    assert answer.status == 403 and b"--allow-host box.local" in body
    assert b"<" not in get(served.port, "/", host="<script>.example")[1]
    upgrade = raw(served.port, UPGRADE.format(port=served.port).replace("Host: 127.0.0.1", "Host: box.local"))
    assert upgrade.startswith("HTTP/1.1 403 ") and "--allow-host box.local" in upgrade and "nosniff" in upgrade
    with pytest.raises(InvalidStatus) as refused:
        Player(served.port, origin="https://front.example")
    assert b"--allow-origin https://front.example" in refused.value.response.body
    assert get(served.port, "/door", method="POST", Origin="https://front.example")[0].status == 403
    assert get(served.port, "/door", method="POST", Origin=f"http://127.0.0.1:{served.port}")[0].status == 204


def test_players_come_by_allowed_names_and_origins(serve):
    served = serve(capacity=2, guard=Guard("127.0.0.1", ["box.local"], ["https://front.example"]))
    assert get(served.port, "/", host="box.local:9000")[0].status == 200
    with (
        Player(served.port, origin="https://front.example") as one,
        Player(served.port, origin="http://box.local") as two,
    ):
        one.hear("hello")
        two.hear("hello")


def test_a_trusted_proxy_names_the_client(serve):
    served = serve(guard=Guard("127.0.0.1", trust_proxy=True), per_ip=1)
    with Player(served.port, additional_headers={"X-Forwarded-For": "10.0.0.1"}) as one:
        one.hear("hello")
        with Player(served.port, additional_headers={"X-Forwarded-For": "10.0.0.2"}) as two:
            two.hear("queue")
            with Player(served.port, additional_headers={"X-Forwarded-For": "8.8.8.8, 10.0.0.2"}) as three:
                assert three.end() == 1013
        assert set(served.lobby.present) <= {"10.0.0.1", "10.0.0.2"}


def test_a_prefix_that_a_proxy_leaves_is_passed_over(serve):
    served = serve()
    for path in ("/a/b.c/", "/a/play.js", "/a/b/c-d/?codec=jpeg", "/user/x@y/proxy/8000/healthz"):
        assert get(served.port, path)[0].status == 200, path
    for path in ("/a/b.c", "/a/../play.js", "/play.js/", "/play.js/play.js", "/a//", "/.a/", "/a/index.html", "/ws/ws"):
        assert get(served.port, path)[0].status == 404, path
    for path, to in (("/a", "./a/"), ("/a/b?codec=jpeg", "./b/?codec=jpeg"), ("/u%C3%A9", "./u%C3%A9/")):
        answer = get(served.port, path)[0]
        assert (answer.status, answer.headers["location"]) == (307, to), path  # relative to the path before the name
    assert get(served.port, "/a", host="evil.example")[0].status == 403
    assert raw(served.port, "GET /etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").startswith("HTTP/1.1 307 ")
    upgrade = raw(served.port, UPGRADE.format(port=served.port).replace("GET /ws", "GET /a/b/ws"))
    assert upgrade.startswith("HTTP/1.1 101 ")


def test_four_pages_of_one_address_play_at_once_by_default(serve):
    served = serve(capacity=4)
    players = [Player(served.port) for _ in range(4)]
    try:
        assert sorted(player.hear("hello")["seat"] for player in players) == [0, 1, 2, 3]
    finally:
        for player in players:
            player.socket.close()


def test_who_waits_sees_the_game_of_a_player(serve):
    served = serve()
    with Player(served.port) as one, Player(served.port) as waiting:
        one.hear("hello")
        told = waiting.hear("queue")
        assert (told["place"], told["height"], told["width"]) == (1, 64, 80) and told["world"]
        seen = [waiting.picture(WATCHED_FRAME) for _ in range(3)]
        assert [header.frame for header, _ in seen] == sorted({header.frame for header, _ in seen})
        one.say("pause", on=True)
        shown, end = None, time.monotonic() + WAIT
        while shown is not served.engine.slots[0].shown or seen[-1][0].frame != shown.number:
            assert time.monotonic() < end
            shown = served.engine.slots[0].shown
            seen += waiting.pictures.pop(WATCHED_FRAME, [])
            time.sleep(0.1)  # pings are rationed, too
            waiting.say("ping", at=1)
            waiting.hear("pong")
        assert seen[-1][1] == to_jpeg(shown.frame)
        assert np.asarray(Image.open(io.BytesIO(seen[-1][1]))).shape == (64, 80, 3)
        one.socket.close()
        waiting.hear("hello")
        assert waiting.frame()[0].frame >= 1 and metric(served.port, "waiting") == 0


def test_qr_code_is_the_one_of_the_address(monkeypatch):
    segno = pytest.importorskip("segno")
    address = "http://192.168.1.20:8000/#" + "0123456789abcdef" * 2
    lines = qr_code(address).splitlines()
    matrix = np.array(segno.make(address, micro=False).matrix)
    dark = np.ones((2 * len(lines), len(lines[0])), bool)
    for row, line in enumerate(lines):  # light modules are drawn
        for column, block in enumerate(line):
            dark[2 * row, column], dark[2 * row + 1, column] = block not in "\u2588\u2580", block not in "\u2588\u2584"
    size = len(matrix)
    assert np.array_equal(dark[2 : 2 + size, 2 : 2 + size], matrix.astype(bool))
    assert not dark[:2, : size + 4].any() and not dark[:, :2][: size + 4].any()
    monkeypatch.setitem(sys.modules, "segno", None)
    with pytest.raises(UsageError, match=r"pip install 'vidar-world\[serve\]'"):
        qr_code(address)
