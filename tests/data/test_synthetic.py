"""The world of shapes: exact motion, depth order, rendering, determinism, environment."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vidar.data.explore import HoldPolicyConfig
from vidar.data.shapes_env import ShapesEnv
from vidar.data.synthetic import (
    BACKGROUND,
    COLOURS,
    DIRECTION,
    RADIUS,
    VISIBLE,
    VX,
    VY,
    Scene,
    ShapesConfig,
    X,
    Y,
)
from vidar.types import VidarError

HASH = """
import hashlib
from vidar.data.synthetic import ShapesConfig
e = ShapesConfig(height=40, width=56, frames=60).build().episode(3)
print(hashlib.sha256(e.frames.tobytes() + e.actions.tobytes() + e.extras["state"].tobytes()).hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    e = ShapesConfig(height=40, width=56, frames=60).build().episode(3)
    here = hashlib.sha256(e.frames.tobytes() + e.actions.tobytes() + e.extras["state"].tobytes()).hexdigest()
    there = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there
    other = ShapesConfig(height=40, width=56, frames=60).build().episode(4)
    assert not np.array_equal(e.frames, other.frames)


def test_action_t_moves_the_player_between_frame_t_minus_1_and_t_by_exactly_one_step():
    world = ShapesConfig(height=64, width=64, num_shapes=1).build()
    moves = np.array([[0], [2], [0], [3], [1], [0], [4]])
    e = world.episode(0, actions=moves)
    place = e.extras["state"][:, 0, X : Y + 1]
    np.testing.assert_array_equal(np.diff(place, axis=0), DIRECTION[moves[1:, 0]] * np.float32(world.config.step))
    changed = (e.frames[1:] != e.frames[:-1]).any((1, 2, 3))
    np.testing.assert_array_equal(changed, moves[1:, 0] != 0)
    np.testing.assert_array_equal(e.actions[1:], moves[1:])


def test_the_player_stops_at_the_wall():
    world = ShapesConfig(num_shapes=1).build()
    state = world.episode(1, actions=np.full((40, 1), 1)).extras["state"][-1, 0]
    assert state[X] == state[RADIUS]


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (30, 51)])
def test_bouncing_conserves_speed_and_stays_inside(size):
    config = ShapesConfig(height=size[0], width=size[1], frames=400, num_shapes=5)
    state = config.build().episode(2).extras["state"]
    speed = np.abs(state[:, 1:, VX : VY + 1])
    np.testing.assert_array_equal(speed, np.broadcast_to(speed[0], speed.shape))
    assert len(np.unique(np.sign(state[:, 1, VX]))) > 1  # it did bounce
    assert (state[..., X] >= state[..., RADIUS]).all() and (state[..., X] <= size[1] - state[..., RADIUS]).all()
    assert (state[..., Y] >= state[..., RADIUS]).all() and (state[..., Y] <= size[0] - state[..., RADIUS]).all()
    start, radius = state[0, 1:].astype(float), state[0, 1:, RADIUS].astype(float)
    for axis, length in ((0, size[1]), (1, size[0])):  # closed form: a straight line, folded at the walls
        span = length - 2 * radius
        line = start[:, X + axis] - radius + np.arange(400)[:, None] * start[:, VX + axis]
        folded = radius + span - np.abs(line % (2 * span) - span)
        np.testing.assert_allclose(state[:, 1:, X + axis], folded, atol=1e-4)


def test_a_blinker_changes_exactly_when_it_hits_a_side_wall():
    state = ShapesConfig(frames=300, num_blinkers=2).build().episode(5).extras["state"]
    hit = np.sign(state[1:, :, VX]) != np.sign(state[:-1, :, VX])
    toggled = state[1:, :, VISIBLE] != state[:-1, :, VISIBLE]
    np.testing.assert_array_equal(toggled[:, 2:], hit[:, 2:])
    assert toggled[:, 2:].any() and not toggled[:, :2].any()


def test_render_reproduces_the_stored_frames_bit_for_bit_from_state_and_meta():
    config = ShapesConfig(height=33, width=47, num_shapes=8)
    e = config.build().episode(7)
    scene = Scene(config, tuple(e.meta["kinds"]), tuple(e.meta["colours"]))
    for frame, state in zip(e.frames, e.extras["state"]):
        np.testing.assert_array_equal(scene.render(state), frame)
    state = e.extras["state"][0]
    for move, expected in zip(e.actions[1:, 0], e.extras["state"][1:]):
        state = scene.next_state(state, int(move))
        np.testing.assert_array_equal(state, expected)


def test_nearer_shapes_hide_farther_ones():
    config = ShapesConfig(num_shapes=3)
    scene = Scene(config, ("circle", "square", "square"), ("white", "red", "blue"))
    state = np.zeros((3, 6), np.float32)
    state[:, X : Y + 1], state[:, RADIUS], state[:, VISIBLE] = 16, (4, 7, 10), 1
    frame = scene.render(state)
    np.testing.assert_array_equal(frame[16, 16], COLOURS["white"])
    np.testing.assert_array_equal(frame[10, 16], COLOURS["red"])
    np.testing.assert_array_equal(frame[7, 16], COLOURS["blue"])
    np.testing.assert_array_equal(frame[2, 2], [BACKGROUND] * 3)
    state[1, VISIBLE] = 0
    np.testing.assert_array_equal(scene.render(state)[10, 16], COLOURS["blue"])


def test_anti_aliased_areas_are_those_of_geometry():
    r = 40.0
    areas = {
        "circle": np.pi * r**2,
        "square": (2 * r) ** 2,
        "triangle": 3 * np.sqrt(3) / 4 * r**2,
        "ring": np.pi * r**2 * (1 - 0.5**2),
    }
    for kind, area in areas.items():
        scene = Scene(ShapesConfig(height=128, width=128, num_shapes=1), (kind,), ("white",))
        frame = scene.render(np.array([[63.3, 64.1, 0, 0, r, 1]], np.float32)).astype(float)
        cover = (frame[..., 0] - BACKGROUND) / (COLOURS["white"][0] - BACKGROUND)
        assert cover.sum() == pytest.approx(area, rel=0.004), kind
        assert ((cover > 0.01) & (cover < 0.99)).any()


def test_captions_name_the_shapes_and_the_main_move():
    scene = Scene(ShapesConfig(num_shapes=3), ("ring", "circle", "square"), ("white", "red", "blue"))
    assert scene.caption([1, 1, 0, 0, 0, 2]) == "a red circle and a blue square bounce; the white ring moves left"
    assert scene.caption([0, 0]).endswith("the white ring stays")


def test_illegal_actions_are_named():
    with pytest.raises(VidarError, match=r"'move' row 2 is 7, legal is 0\.\.4"):
        ShapesConfig().build().episode(0, actions=np.array([[0], [1], [7]]))


def test_the_environment_passes_the_checker_and_is_the_world():
    check_env(ShapesEnv(), skip_render_check=False)
    e = ShapesConfig().build().episode(9, policy=HoldPolicyConfig().build())
    env = ShapesEnv()
    frame, info = env.reset(seed=9)
    np.testing.assert_array_equal(frame, e.frames[0])
    for t in range(1, len(e.frames)):
        frame, reward, _, truncated, info = env.step(int(e.actions[t, 0]))
        np.testing.assert_array_equal(frame, e.frames[t])
        np.testing.assert_array_equal(info["state"], e.extras["state"][t])
        assert reward == e.extras["rewards"][t] and truncated == (t == len(e.frames) - 1)
