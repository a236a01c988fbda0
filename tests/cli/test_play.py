"""`vidar play` as a process: one line with the address, a served page, and a graceful end on a signal."""

import http.client
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def playable(model, clip, tmp_path):
    """The tiny world, with a start clip."""
    folder = shutil.copytree(model, tmp_path / "world")
    shutil.copy(clip, folder / "start.mp4")
    return folder


@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_play_serves_until_a_signal_and_says_goodbye(playable, sign):
    command = [sys.executable, "-m", "vidar.cli", "play", str(playable), "--port", "0", "--fps", "50", "--players", "2"]
    command += ["--codec", "h264", "--no-compile"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)
    try:
        line = running.stdout.readline()
        url = re.fullmatch(r".*(http://127\.0\.0\.1:\d+/)  \(Ctrl-C stops\)\n", line).group(1)
        assert b"<canvas" in urllib.request.urlopen(url, timeout=20).read()
        with connect(url.replace("http", "ws") + "ws", open_timeout=20) as player:
            hello = json.loads(player.recv(timeout=20))
            assert (hello["fps"], hello["capacity"], hello["codec"]) == (50.0, 2, "h264")
            while isinstance(player.recv(timeout=20), str):
                pass
            began = time.monotonic()
            running.send_signal(sign)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    player.recv(timeout=20)
            assert closed.value.rcvd.code == 1001
        out, err = running.communicate(timeout=20)
        assert time.monotonic() - began < 5
        assert (running.returncode, out, err) == (0, "", "")
    finally:
        running.kill()


def test_play_refuses_in_one_line(run, model, playable, taken_port):
    code, out, err = run("play", model)
    assert code == 2 and "ships no start" in err and not out
    code, _, err = run("play", playable, "--port", taken_port)
    assert code == 1 and re.fullmatch(r"vidar: cannot listen on 127\.0\.0\.1:\d+: .*; choose another --port.*\n", err)
    code, _, err = run("play", playable, "--players", 0)
    assert code == 2
    code, _, err = run("play", playable, "--codec", "av1")
    assert code == 2 and "'av1' is not one of 'jpeg', 'h264'" in err
    for option, value in (("--allow-host", "https://x.example"), ("--allow-origin", "x.example")):
        code, _, err = run("play", playable, option, value)
        assert code == 2 and err.startswith(f"vidar: {option} '{value}': give ") and err.count("\n") == 1
    code, _, err = run("play", playable, "--per-address", 0)
    assert code == 2
    code, _, err = run("play", "nowhere")
    assert code == 2 and "no such world" in err


def test_play_admits_by_name_and_shows_a_qr_code_on_a_terminal(playable):
    pytest.importorskip("segno")
    command = [sys.executable, "-m", "vidar.cli", "play", str(playable), "--port", "0", "--host", "0.0.0.0"]
    command += ["--allow-host", "box.local", "--no-compile"]
    main, end = pty.openpty()
    running = subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, env=ENV)
    try:
        shown = b""
        while shown.count(b"\n") < 15:
            shown += os.read(main, 65536)
        lines = shown.decode().splitlines()
        port = re.search(r"http://\S+:(\d+)/#[0-9a-f]{32}  \(Ctrl-C stops\)", lines[0]).group(1)
        assert all(set(line) <= set("\u2588\u2580\u2584 ") for line in lines[1:14])
        for host, status in (("box.local", 200), ("box.evil", 403)):
            line = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
            line.request("GET", "/", headers={"Host": host})
            assert line.getresponse().status == status
    finally:
        running.kill()
        running.wait(20)
        os.close(main)
        os.close(end)


@pytest.fixture
def taken_port():
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]
