import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.play.engine import PlayEngine
from vidar.play.guard import Guard, Limits
from vidar.play.lobby import Lobby
from vidar.play.server import listen, make_server

sys.path.insert(0, str(Path(__file__).parent))  # play_client.py is shared by the suite
sys.path.insert(0, str(Path(__file__).parent.parent / "browser"))  # chromium.py is shared by all suites


def small_world():
    """A small world whose network does something; no start clip."""
    torch.manual_seed(0)
    made = world_doom(preset="tiny").method.world.replace(context=4).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.fixture(scope="session")
def tiny():
    """One for the whole run; nobody changes it."""
    return small_world()


@pytest.fixture(scope="module")
def world():
    """One for each file."""
    return small_world()


@pytest.fixture(scope="session")
def first_frames():
    return np.random.default_rng(1).integers(0, 255, (4, 64, 80, 3), dtype=np.uint8)


@dataclass
class Served:
    lobby: Lobby
    engine: PlayEngine
    server: Any
    thread: threading.Thread
    port: int

    def stop(self):
        """Seconds it took."""
        began = time.monotonic()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        return time.monotonic() - began


@pytest.fixture
def serve(tiny, first_frames):
    """serve(capacity=1, fps=None, name="127.0.0.1", port=0, **limits): a real server on loopback; ends with the test.

    name: what --host would be, which decides on the token. at: where it listens. clips: starts beside first_frames.
    beside: a real game. codec: what --codec would be. guard: in place of the one of `name`.
    """
    with contextlib.ExitStack() as stack:

        def begin(
            capacity=1,
            fps=None,
            name="127.0.0.1",
            port=0,
            at="127.0.0.1",
            clips=(),
            beside=None,
            world=tiny,
            codec="jpeg",
            guard=None,
            **limits,
        ):
            engine = stack.enter_context(PlayEngine(world, capacity, fps))
            lobby = Lobby(engine, [first_frames, *clips], guard or Guard(name), Limits(**limits), beside, codec)
            sock = stack.enter_context(listen(at, port))
            server = make_server(lobby)
            thread = threading.Thread(target=lambda: server.run(sockets=[sock]), daemon=True)
            served = Served(lobby, engine, server, thread, sock.getsockname()[1])
            thread.start()
            while not server.started:
                time.sleep(0.01)
            stack.callback(served.stop)
            return served

        yield begin


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """browser(url, prepare=None) opens a page."""
    from chromium import chromium

    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page
