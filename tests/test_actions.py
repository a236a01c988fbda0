import json

import numpy as np
import pytest
import yaml

from vidar.actions import Action, ActionSpec, mu_law_bins
from vidar.config import from_dict, to_dict
from vidar.types import UsageError, VidarError

SPEC = ActionSpec(
    actions=(
        Action(name="jump", keys=("space",)),
        Action(name="move", kind="choice", size=3, keys=("s", "a", "d")),
        Action(name="yaw", kind="camera", size=11, noop=5),
        Action(name="gas", kind="continuous", low=0, high=2),
    )
)


def test_round_trip_and_derived_things():
    assert from_dict(to_dict(SPEC)) == SPEC and SPEC.width == 4
    assert SPEC.space().contains(SPEC.noop())
    assert ActionSpec(actions=SPEC.actions[:1]).space().n == 1
    assert ActionSpec(actions=SPEC.actions[:2]).space().nvec.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([2, 0, 5, 0], "x.npy: action 'jump' row 1 is 2, legal is 0..1 whole"),
        ([0, 1.5, 5, 0], "action 'move' row 1 is 1.5, legal is 0..2 whole"),
        ([0, 0, 11, 0], "action 'yaw' row 1"),
        ([0, 0, 5, float("nan")], "action 'gas' row 1 is nan, legal is 0..2"),
    ],
)
def test_illegal_values_are_named(row, message):
    with pytest.raises(VidarError, match=message.replace(".", r"\.")):
        SPEC.validate_actions(np.array([SPEC.noop(), row]), "x.npy")


def test_wrong_width_is_named():
    with pytest.raises(VidarError, match=r"x\.npy: actions have shape 5x3, expected T x 4 \(jump, move, yaw, gas\)"):
        SPEC.validate_actions(np.zeros((5, 3)), "x.npy")


def test_bad_specs():
    with pytest.raises(UsageError, match="repeat"):
        ActionSpec(actions=(Action(name="a"), Action(name="a")))
    with pytest.raises(UsageError, match="has 4 bins, which must be odd; write size: 11"):
        Action(name="c", kind="camera", size=4)


def test_mu_law_matches_hand_values():
    """v = degrees / 20; sign(v) ln(1 + 10 |v|) / ln 11, in 11 bins: 20 degrees is bin 10, 2 degrees is 6.45 -> 6."""
    assert mu_law_bins(np.array([-20.0, 0.0, 2.0, 20.0, 90.0]), 11).tolist() == [0, 5, 6, 10, 10]
    v = np.linspace(-1, 1, 11)  # the middles of the bins
    degrees = np.sign(v) * np.expm1(np.abs(v) * np.log1p(10)) / 10 * 20
    assert mu_law_bins(degrees, 11).tolist() == list(range(11))


def test_a_camera_rests_in_its_middle_bin_unless_told_otherwise():
    assert Action(name="yaw", kind="camera", size=11).noop == 5 and Action(name="yaw", kind="camera", size=1).noop == 0
    assert Action(name="yaw", kind="camera", size=11, noop=0).noop == 0
    assert Action(name="yaw", kind="camera", size=11) == Action(name="yaw", kind="camera", size=11, noop=5)
    assert Action(name="move", kind="choice", size=11).noop == 0
    text = "type: vidar.actions.ActionSpec\nactions: [{type: vidar.actions.Action, name: yaw, kind: camera, size: 7}]"
    assert from_dict(yaml.safe_load(text)).noop().tolist() == [3]


def test_specs_of_earlier_versions_mean_the_same():
    """Such files write every field but axis: noop 0 of a camera stays 0, and a spec without axis is written as then."""
    fields = {"kind": "camera", "size": 3, "low": -1.0, "high": 1.0, "noop": 0.0, "keys": []}
    old = {"type": "vidar.actions.Action", "name": "yaw", **fields}
    action = from_dict(old)
    assert action.noop == 0 and action.axis is None and json.loads(json.dumps(to_dict(action))) == old
    tilted = action.replace(axis="y")
    assert to_dict(tilted)["axis"] == "y" and from_dict(to_dict(tilted)) == tilted != action


NAMES = {
    "x": ["dx", "yaw", "camera_dx", "mouse_dx", "mouseX", "camera_x", "camera_yaw", "TURN_LEFT_RIGHT_DELTA", "gas"]
    + ["body", "fly", "ready", "axis_0", "yaw_delta", "DX", "deltaX", "joystick", "play", "camera"],
    "y": ["dy", "pitch", "camera_dy", "mouse_dy", "mouseY", "camera_y", "camera_pitch", "LOOK_UP_DOWN_DELTA", "DY", "y"]
    + [
        "deltaY",
        "mouse.dy",
        "mouse-y",
        "mousedy",
        "look_vertical",
        "delta_pitch",
        "dpitch",
        "cam_dy",
        "movementY",
        "dy1",
    ],
}


@pytest.mark.parametrize(("axis", "name"), [(axis, name) for axis, names in NAMES.items() for name in names])
def test_the_usual_names_of_mouse_columns_are_known(axis, name):
    for kind in ({"kind": "camera", "size": 3}, {"kind": "continuous"}):
        assert Action(name=name, **kind).mouse_axis == axis
        assert Action(name=name, axis="x", **kind).mouse_axis == "x" != Action(name=name, axis="y", **kind).mouse_axis


def test_an_axis_of_a_button_is_refused():
    for bad, words in (
        ({"axis": "y"}, "'a' is binary; axis is for"),
        ({"kind": "camera", "size": 3, "axis": "z"}, "axis"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            Action(name="a", **bad)
        assert "\n" not in str(error.value)
