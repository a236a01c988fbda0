"""The rule of the walk against a game of tics played by loops, and against the real game."""

import math

import numpy as np
import pytest

from vidar.configs.idm import GROUPS
from vidar.data.explore import ReplayPolicy
from vidar.data.vizdoom import VizdoomConfig
from vidar.eval.following import key_signals
from vidar.eval.walking import Walking


def played(seed, frames, tics, wall=None):
    """Poses [1, 1+T, 4] and keys of a player who turns and walks at random; a wall stops x at `wall`."""
    random = np.random.default_rng(seed)
    keys = {
        axis: np.repeat(random.integers(-1, 2, (1, frames // 5 + 1)), 5, 1)[:, :frames] for axis in ("ahead", "left")
    }
    turns = random.uniform(-8, 8, frames)
    place, velocity, angle, poses = np.zeros(2), np.zeros(2), 170.0, [[0, 0, 0, 170.0]]
    for t in range(frames):
        for _ in range(tics):
            angle += turns[t] / tics
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            ahead, left = 25 / 32 * keys["ahead"][0, t], 24 / 32 * keys["left"][0, t]
            velocity = velocity + [ahead * cos - left * sin, ahead * sin + left * cos]
            place = place + velocity
            if wall is not None and place[0] > wall:
                place[0], velocity[0] = wall, 0.0
            velocity = velocity * 0.90625
        poses.append([*place, 0, (angle + 180) % 360 - 180])
    return np.array([poses]), keys


@pytest.mark.parametrize("tics", [1, 2, 4])
def test_the_open_is_free(tics):
    poses, keys = played(0, 60, tics)
    exact = Walking(tics=tics, tolerance=1e-9)
    assert exact.free(poses, keys).all() and exact.free(poses, keys).shape == (1, 60)
    assert not exact.replace(friction=0.9).free(poses, keys).all()
    assert not exact.replace(left=0.7).free(poses, keys).all()


def test_a_wall_is_seen_where_it_stops():
    poses, keys = played(1, 80, 2)
    wall = float(poses[0, :, 0].max()) / 2
    poses, keys = played(1, 80, 2, wall)
    free = Walking().free(poses, keys)[0]
    at_wall = np.isclose(poses[0, 1:, 0], wall)
    assert at_wall.any() and not free[1:][at_wall[1:] & ~at_wall[:-1]].any()  # where it is reached
    assert free[: np.argmax(at_wall)].all()


def test_the_real_game_obeys_the_rule_in_the_open():
    """Runs of the game from its start: most steps are free, and those before a wall are so by far."""
    pytest.importorskip("vizdoom")
    with VizdoomConfig(frames=40).build() as game:
        table = np.zeros((40, game.spec.width), np.float32)
        table[1:12, game.spec.names.index("MOVE_FORWARD")] = 1
        table[5:16, game.spec.names.index("TURN_LEFT")] = 1
        table[12:18, game.spec.names.index("MOVE_LEFT")] = 1
        poses = np.stack([game.episode(seed, ReplayPolicy(table)).extras["pose"] for seed in range(6)])
        keys = key_signals(np.repeat(table[None, 1:], 6, 0), game.spec, GROUPS)
    loose, tight = (Walking(tolerance=limit).free(poses, keys) for limit in (0.5, 0.1))
    assert 0.5 < loose.mean() < 1 and (loose & ~tight).mean() < 0.1  # hardly anything lies between
    moved = np.linalg.norm(np.diff(poses[..., :2], axis=1), axis=-1)
    assert not loose[(moved < 0.5) & (keys["ahead"] == 1)].any()  # a key without a step is a wall
