"""`vidar play --beside` as a process: the real game's pictures come, and it ends as gracefully as without the game.

The engine brings handlers of signals of its own, and Ctrl-C reaches its process too.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vidar.configs.doom import world_doom
from vidar.model.load import save


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_game_runs_beside_and_ends_with_the_server(tmp_path, sign):
    torch.manual_seed(0)
    save(world_doom(preset="tiny").method.world.replace(context=4).build(), tmp_path / "world", dtype=torch.float32)
    command = [
        sys.executable,
        "-m",
        "vidar.cli",
        "play",
        str(tmp_path / "world"),
        "--port",
        "0",
        "--beside",
        "--no-compile",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    try:
        url = re.fullmatch(r".*(http://127\.0\.0\.1:\d+/)  \(Ctrl-C stops\)\n", running.stdout.readline()).group(1)
        with connect(url.replace("http", "ws") + "ws", open_timeout=20) as player:
            assert json.loads(player.recv(timeout=20))["beside"] is True
            kinds = set()
            while kinds != {1, 3}:
                message = player.recv(timeout=20)
                kinds |= {message[1]} if isinstance(message, bytes) else set()
            began = time.monotonic()
            os.killpg(running.pid, sign)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    player.recv(timeout=20)
            assert closed.value.rcvd.code == 1001
        out, err = running.communicate(timeout=20)
        assert time.monotonic() - began < 5
        assert (running.returncode, out, err) == (0, "", "")
    finally:
        running.kill()
