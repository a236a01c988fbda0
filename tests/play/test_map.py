"""The map of what a world remembers: what it is made of, how often it comes, and that other worlds send nothing."""

import json
import time

import numpy as np
import pytest
import torch
from hand_clock import HandClock
from play_client import Player
from remembering import remembering

from vidar.play import messages
from vidar.play.engine import CHART, PlayEngine, Start
from vidar.rollout.memory import Chart

KEYS = np.eye(5, dtype=np.float32)[[2, 0, 2, 2, 1, 2, 3, 2, 2, 4]]


@pytest.fixture(scope="module")
def world():
    return remembering()


def charts(world, frames, seed):
    """The map at each frame of a dream, from a rollout of its own."""
    streams, found = world.rollout(1), []
    streams.begin(0, frames, None, seed)
    for row in KEYS:
        streams.decoding(streams.group(torch.from_numpy(row)[None, None])).frames()
        draw = streams.charts()[0]
        assert draw is not None
        found.append(draw())
    return found


def test_the_message_is_small_plain_numbers():
    chart = Chart((3, -4, 90), ((1, 2, 30), (5, 6, 359)), ((8, -16), (0, 24)), 8)
    told = {"t": "chart", "frame": 7, "pose": [3, -4, 90], "cell": 8}
    assert json.loads(messages.chart_message(7, chart)) == {
        **told,
        "walls": [8, -16, 0, 24],
        "views": [1, 2, 30, 5, 6, 359],
    }
    most = Chart((-9999, 9999, 359), ((-9999, 9999, 359),) * 128, ((-9992, 9992),) * 600, 8)
    assert len(messages.chart_message(2**31, most)) < 10_000


def test_maps_come_at_times_and_are_those_of_the_dream(world, first_frames):
    """Also where a frame was made before it was due, and next to a player who stands still."""
    want, clock = charts(world, first_frames, 3), HandClock()
    engine = PlayEngine(world, 1, now=clock)
    slot, found = engine.sit(Start(first_frames, None, 3)), []
    for row in KEYS:
        slot.press(row)
        slot.asked = clock()
        engine.round()
        found.append(slot.charted)
        clock.at += 0.4 * CHART
    assert [one.number for one in found] == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10]
    assert all(one.chart == want[one.number - 1] for one in found)
    assert len(want[-1].views) >= 1 and want[0].pose != want[-1].pose
    slot.pause(True)
    for _ in range(2):  # a frame of a paused dream has its own map, however soon it comes
        slot.step()
        slot.asked = clock()
        engine.round()
    assert slot.charted.number == 12
    slot.reset(Start(first_frames, None, 4))
    assert slot.charted is None


def test_a_session_is_sent_maps_of_a_memory_and_nothing_else_of_others(serve, world):
    for own in (world, world.without_memory()):
        served = serve(world=own, fps=20.0)
        with Player(served.port) as player:
            hello = player.hear("hello")
            if own.memory is None:
                player.frame(lambda header: header.frame > 15)
                assert "map" not in hello and "chart" not in player.told
            else:
                first = player.hear("chart")
                assert hello["map"] is True and set(first) == {"t", "frame", "pose", "cell", "walls", "views"}
                began, maps = time.monotonic(), 0
                while time.monotonic() - began < 2:
                    maps += player.until(lambda message: True) is not None and player.told["chart"] is not first
                    first = player.told["chart"]
                assert 2 <= maps <= 2 / CHART + 1
        served.stop()
