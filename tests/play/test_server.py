"""The server over real sockets: what a player gets, and when it ends."""

import json
import os
import re
import signal
import socket
import threading
import time

import pytest
import torch
from play_client import WAIT, Player, get, metric, plays_on, raw, slow, sockets

from vidar.play import client, messages
from vidar.play import server as play_server
from vidar.play.client import latest_frame
from vidar.play.engine import PlayEngine
from vidar.play.guard import HEADERS, Guard
from vidar.play.lobby import Lobby
from vidar.play.server import PAGE, listen, make_server
from vidar.rng import Rng


def dream(world, log, capacity, row):
    """The JPEGs of a log, in a row of a fresh rollout, nobody else there."""
    streams = world.rollout(capacity)
    streams.open([row], world.encode(torch.from_numpy(log.start.frames)[None]), None, [Rng(log.start.seed)])
    shown = []
    for action in log.rows:
        table = torch.zeros(capacity, 5)
        table[row] = torch.from_numpy(action)
        shown.append(messages.to_jpeg(world.decode(streams.frame(table)[:, None])[0][row, 0].numpy()))
    return shown


def test_a_player_is_greeted_and_sees_the_dream_of_the_keys(serve, tiny):
    served = serve(capacity=2)
    with Player(served.port) as player:
        hello = player.hear("hello")
        log = served.engine.slots[hello["seat"]].log
        assert (hello["width"], hello["height"], hello["fps"], hello["capacity"]) == (80, 64, 0.0, 2)
        assert hello["seed"] == log.start.seed and hello["mouse"] is False
        assert [key["code"] for key in hello["keys"]] == list(served.engine.keys.codes)
        pressed = {key["code"]: key["action"] for key in hello["keys"]}
        assert pressed["ArrowLeft"] == "TURN_LEFT" and pressed["KeyW"] == pressed["ArrowUp"] == "MOVE_FORWARD"
        seen = [player.frame()]
        for seq, keys in enumerate((1, 0, 6, 0), 5):
            player.say("input", seq=seq, keys=keys, dx=3, dy=-1)
            seen.append(player.frame(lambda header, seq=seq: header.echo == seq))
            row = log.rows[seen[-1][0].frame - 1]  # the frame that echoes the input is made with its keys
            assert row.tolist() == served.engine.keys.row(keys).tolist()
        player.say("pause", on=True)
        player.say("ping", at=4.5)
        assert player.hear("pong")["at"] == 4.5
    want = dream(tiny, log, 2, hello["seat"])
    assert all(jpeg == want[header.frame - 1] for header, jpeg in seen)
    numbers, stamps = [header.frame for header, _ in seen], [header.stamp for header, _ in seen]
    assert numbers == sorted(set(numbers)) and stamps == sorted(stamps)


def test_two_players_never_see_each_others_frames(serve, tiny):
    served = serve(capacity=2)
    with Player(served.port) as one, Player(served.port) as two:
        greetings = [player.hear("hello") for player in (one, two)]
        assert {hello["seat"] for hello in greetings} == {0, 1} and greetings[0]["seed"] != greetings[1]["seed"]
        logs = [served.engine.slots[hello["seat"]].log for hello in greetings]
        seen = [[], []]
        for seq in range(1, 8):
            for player, own in zip((one, two), seen):
                player.say("input", seq=seq, keys=seq if player is one else 31 - seq)
                own.append(player.frame(lambda header, seq=seq: header.echo == seq))
    mine = [dream(tiny, log, 2, hello["seat"]) for log, hello in zip(logs, greetings)]
    assert not set(mine[0]) & set(mine[1])
    for own, want in zip(seen, mine):
        assert all(jpeg == want[header.frame - 1] for header, jpeg in own)


def test_pause_step_and_reset(serve):
    served = serve()
    with Player(served.port) as player:
        player.hear("hello")
        player.frame()
        player.say("pause", on=True)
        player.say("ping", at=1)
        player.hear("pong")
        time.sleep(0.3)  # what was under way
        number = served.engine.slots[0].shown.number
        player.say("step")
        assert player.frame(lambda header: header.frame > number)[0].frame == number + 1
        player.say("reset", seed=1234)
        assert player.hear("seed")["seed"] == 1234
        assert player.frame()[0].frame == 1  # and it stands again
        player.say("reset", seed=99)
        assert player.hear("seed")["seed"] == 99 and served.engine.slots[0].log.start.seed == 99
        assert player.frame()[0].frame == 1
        player.say("pause", on=False)
        assert player.frame(lambda header: header.frame > 3)


def test_a_player_who_looks_away_misses_frames_and_then_sees_the_newest(serve):
    served = serve(write_bytes=2048)
    with slow(served.port) as player:
        player.hear("hello")
        numbers, missed, end = [player.frame()[0].frame], 0, time.monotonic() + WAIT
        while missed <= 15:
            assert time.monotonic() < end
            time.sleep(0.8)  # less than a dream goes on without a reader
            now = served.engine.slots[0].shown.number
            while numbers[-1] < now:
                numbers.append(player.frame()[0].frame)
            missed = numbers[-1] - numbers[0] + 1 - len(numbers)
        assert numbers == sorted(set(numbers))


def test_a_frame_is_chosen_only_when_there_is_room_for_it(serve, monkeypatch):
    served, room = serve(), []

    def noting(*given):
        room.append(all(one.writable.is_set() for one in sockets(served)))
        return latest_frame(*given)

    monkeypatch.setattr(client, "latest_frame", noting)
    with slow(served.port) as player:
        player.hear("hello")
        time.sleep(0.8)
        for _ in range(40):
            player.frame()
            time.sleep(0.03)
    assert len(room) > 30 and room.count(False) < 5


def test_waiting_players_are_told_their_place_and_get_the_slot(serve):
    served = serve(capacity=1, per_ip=5)
    with Player(served.port) as first, Player(served.port) as second:
        first.hear("hello")
        assert second.hear("queue")["place"] == 1
        with Player(served.port) as third:
            assert third.hear("queue")["place"] == 2
            with Player(served.port) as fourth:
                assert fourth.hear("queue")["place"] == 3
                third.say("input", seq=1, keys=1)  # without a slot: nothing happens
                second.socket.close()
                assert third.hear("queue")["place"] == 1 and fourth.hear("queue")["place"] == 2
                assert metric(served.port, "waiting") == 2
                first.socket.close()
                assert third.hear("hello")["seat"] == 0 and fourth.hear("queue")["place"] == 1
                assert third.frame()[0].echo == 0
    end = time.monotonic() + WAIT
    while served.lobby.wait_queue:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sessions_of_one_address_and_the_queue_are_limited(serve):
    served = serve(capacity=2)  # by default as many as play, and one that waits
    with Player(served.port) as one, Player(served.port) as two, Player(served.port) as waiting:
        one.hear("hello")
        two.hear("hello")
        waiting.hear("queue")
        with Player(served.port) as fourth:
            assert fourth.end() == 1013 and "as it may: 3 (option --per-address)" in fourth.reason
        assert plays_on(one)
        assert metric(served.port, 'refused_total{reason="address"}') == 1
    with Player(served.port) as again:
        assert again.hear("hello")
    served = serve(capacity=1, per_ip=9, queue=1)
    with Player(served.port) as one, Player(served.port) as two:
        one.hear("hello")
        two.hear("queue")
        with Player(served.port) as third:
            assert third.end() == 1013 and "queue of 1 is full" in third.reason


def test_idle_and_long_sessions_end(serve):
    served = serve(idle=0.6)
    with Player(served.port) as player:
        player.hear("hello")
        player.say("input", seq=1, keys=1)  # a key that stays down is told once
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            player.frame()
        player.say("input", seq=2, keys=0)
        player.frame(lambda header: header.echo == 2)
        assert player.end() == 1000 and player.reason == "nobody has played for 0.6 seconds"
        with Player(served.port) as paused:
            paused.hear("hello")
            paused.say("input", seq=1, keys=1)
            paused.say("pause", on=True)
            assert paused.end() == 1000
    assert not served.engine.slots
    served = serve(session=0.5)
    with Player(served.port) as player:
        assert player.end() == 1000


def test_page_and_figures_with_their_headers(serve):
    served = serve()
    with Player(served.port) as player:
        player.hear("figures")
        page = get(served.port, "/")[1].decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?:(?!//www\.w3\.org/)", page)
        names = set(re.findall(r'(?:src|href)="([^"]*)"', page))
        assert "?slash.js" in names and len(names) == 4
        for name in names:
            answer, body = get(served.port, f"/{name}")
            assert answer.status == 200 and body == (PAGE / name.removeprefix("?")).read_bytes()
        answers = [get(served.port, target) for target in ("/", "/healthz", "/metrics", "/no.where", "/ws")]
        answers += [get(served.port, "/", host="evil.example"), get(served.port, "/play.js", method="POST")]
        assert [answer.status for answer, _ in answers] == [200, 200, 200, 404, 404, 403, 405]
        for answer, _ in answers:
            for name, value in HEADERS:
                assert answer.getheader(name) == value
        assert json.loads(answers[1][1]) == {"ok": True}
        figures = player.told["figures"]
        assert figures["fps"] > 0 and figures["model_ms_p95"] >= figures["model_ms_p50"] > 0
        text = answers[2][1].decode()
        assert all(re.fullmatch(r"# TYPE \S+ (gauge|counter)|vidar_play_\S+ \S+", line) for line in text.splitlines())
        assert metric(served.port, "frames_total") > 0 and metric(served.port, "frames_sent_total") > 0
        assert metric(served.port, "playing") == 1 and metric(served.port, "sessions_total") == 1
    for request in ("nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /ws HTTP/1.1\r\nHost: evil.example\r\n\r\n"):
        answer = raw(served.port, request)
        assert re.match(r"HTTP/1.1 40[03] ", answer)
        assert all(f"{name}: {value}".lower() in answer.lower() for name, value in HEADERS)


def test_a_failing_world_is_told_and_ends_the_server(serve, tiny, monkeypatch):
    served = serve()
    with Player(served.port) as player:
        player.frame()

        def broken(codes, state=None):
            raise RuntimeError("no picture")

        monkeypatch.setattr(tiny, "decode", broken)
        assert player.end() in (1011, 1001)
    served.thread.join(WAIT)
    with pytest.raises(RuntimeError, match="no picture"):
        served.engine.raise_failure()


def test_stopping_tells_everybody(serve):
    served = serve(per_ip=9)
    with Player(served.port) as player, Player(served.port) as waiting:
        player.frame()
        waiting.hear("queue")
        with socket.create_connection(("127.0.0.1", served.port)) as half:
            half.sendall(b"GET / HT")
            assert served.stop() < 4
        assert player.end() == 1001 and waiting.end() == 1001
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", served.port), timeout=2)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_server_listens_for_it_is_not_lost(tiny, first_frames, monkeypatch, sign):
    """As of a Ctrl-C while the machine is busy, just after the address is printed."""
    late = []
    with listen("127.0.0.1", 0) as sock:
        lobby = Lobby(PlayEngine(tiny, 1), [first_frames], Guard("127.0.0.1"))
        server = make_server(lobby)
        serve = server.run

        def signalled(sockets):
            os.kill(os.getpid(), sign)
            serve(sockets=sockets)

        monkeypatch.setattr(server, "run", signalled)
        monkeypatch.setattr(play_server, "make_server", lambda _: server)
        guard = threading.Timer(20, lambda: (late.append(True), setattr(server, "should_exit", True)))
        guard.start()
        play_server.run(lobby, sock)
        guard.cancel()
    assert not late
