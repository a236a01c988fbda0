"""GameWorld's controllability by hand, and the way from controls to the rows of a world and back."""

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec, mu_law_degrees
from vidar.eval.controllability import (
    KEYS,
    Controls,
    camera_precision,
    held,
    joined,
    keyboard_precision,
    read_controls,
    role,
    rows_of,
)
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.types import UsageError


def keys(*frames):
    """Keys that are down in each frame."""
    down = np.array([[key in frame.split() for key in KEYS] for frame in frames])
    return Controls(down, np.zeros((len(frames), 2)))


def test_keyboard_by_hand():
    commanded = keys("forward", "forward", "back", "", "forward back", "left jump", "attack", "right")
    seen = keys("forward", "back", "", "", "", "left", "attack jump", "left right")
    found = keyboard_precision(commanded, seen)
    # forward_back: f=f, f!=b, b!=none, none, both = none, and none in the last three: 6 of 8
    # left_right: right five, left=left, none=none, right != none (both): 7 of 8
    # attack: all 8; jump: missed once, seen once too often: 6 of 8
    each = {"forward_back": 6 / 8, "left_right": 7 / 8, "attack": 1.0, "jump": 6 / 8}
    assert found == {**each, "mean": sum(each.values()) / 4}
    assert keyboard_precision(commanded, seen, ("left_right", "jump"))["mean"] == (7 / 8 + 6 / 8) / 2
    assert keyboard_precision(commanded, commanded) == dict.fromkeys(found, 1.0)


def test_camera_by_hand():
    moved = [(0, 0), (0, 0.05), (0, -0.05), (-0.05, 0.05), (0.011, 0), (0.01, 0)]
    commanded = Controls(np.zeros((6, 6), bool), np.array(moved))
    assert camera_precision(commanded, commanded) == 1.0
    seen = np.array([(0.009, -0.01), (0.01, 0.02), (0, 0.05), (-0.02, 0.0), (0.05, 0.01), (0, 0)])
    # none; right; right for left; up for up-right; down; both within the dead zone
    assert camera_precision(commanded, Controls(commanded.keys, seen)) == 4 / 6
    nine = [Controls(np.zeros((1, 6), bool), np.array([[0.05 * p, 0.05 * y]])) for p in (-1, 0, 1) for y in (-1, 0, 1)]
    same = [[camera_precision(a, b) for b in nine] for a in nine]
    assert np.array_equal(same, np.eye(9))  # nine different directions


def test_numbers_of_frames_must_agree():
    with pytest.raises(UsageError, match="2 commanded frames and 1 seen"):
        keyboard_precision(keys("", ""), keys(""))
    with pytest.raises(UsageError, match="not 0"):
        camera_precision(keys("")[0:0], keys("")[0:0])


DOOM = ActionSpec(
    actions=tuple(Action(name=name) for name in ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"))
)
MOUSE = ActionSpec(
    actions=(
        Action(name="forward"),
        Action(name="camera_x", kind="camera", size=81),
        Action(name="mouse_dy", kind="continuous", low=-2.0, high=2.0),
        Action(name="weapon", kind="choice", size=3),
    )
)


def test_rows_of_a_world_with_keys():
    rows = rows_of(held(("forward", "left"), (0, 1), 3), DOOM)
    assert rows.dtype == np.float32 and rows.tolist() == [[0, 1, 1, 1, 0]] * 3
    assert rows_of(held((), (0, -1), 1), DOOM).tolist() == [[1, 0, 0, 0, 0]]
    assert rows_of(held((), (0, 0), 1), DOOM).tolist() == [[0] * 5]
    assert rows_of(held(("back",), (0, 0), 1), DOOM) is None and rows_of(held((), (1, 0), 1), DOOM) is None


def test_rows_of_a_world_with_a_mouse():
    rows = rows_of(held(("forward",), (-1, 1), 2), MOUSE)
    assert rows[:, 0].tolist() == [1, 1] and rows[:, 3].tolist() == [0, 0]
    assert mu_law_degrees(rows[:, 1], 81) == pytest.approx(np.degrees(0.05), rel=0.2)  # within a bin
    assert rows[:, 2] == pytest.approx(-0.1)  # 0.05 of half of the range of 4
    assert rows_of(held((), (0, 0), 1), MOUSE).tolist() == [[0, 40, 0, 0]]
    MOUSE.validate_actions(rows, "rows")


def test_roles():
    names = {"MOVE_BACKWARD": ("back", 1), "LOOK_UP": ("pitch", -1), "TURN_LEFT": ("yaw", -1), "LEFT": ("left", 1)}
    assert {name: role(Action(name=name)) for name in names} == names
    assert role(Action(name="RELOAD")) is None and role(Action(name="weapon", kind="choice", size=3)) is None


def test_a_reader_sees_what_its_groups_mean():
    """Labels of the network -> controls, with the frames that it can judge and the tasks that it knows."""
    groups = {
        "turning": KeyGroup(classes=(("TURN_LEFT",), ("TURN_RIGHT",))),
        "forward": KeyGroup(classes=(("MOVE_FORWARD",),)),
    }
    net = InverseDynamicsNetConfig(spec=DOOM, groups=groups, height=16, width=16, before=2, after=1).build().eval()
    frames = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    for bias, turn, forward in ((1, -0.05, True), (2, 0.05, False), (0, 0.0, True)):
        with torch.no_grad():
            net.out.weight.zero_()
            net.out.bias.copy_(torch.nn.functional.one_hot(torch.tensor(bias), 5) + torch.tensor([0, 0, 0, 0, forward]))
            net.out.bias[3] += not forward
        reading = read_controls(net, frames)
        assert reading.rows == slice(2, 8) and len(reading.controls) == 6
        assert reading.tasks == ("forward_back",) and reading.camera
        assert (reading.controls.camera == [0, turn]).all() and (reading.controls.keys[:, 0] == forward).all()
        assert not reading.controls.keys[:, 1:].any()
    with pytest.raises(UsageError, match="frames of 20x16, the reader needs 16x16"):
        read_controls(net, np.zeros((9, 16, 20, 3), np.uint8))
    assert len(joined([reading.controls, reading.controls])) == 12
