"""Names of keys, the axes of the mouse, and what stays in a player's input."""

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.play.engine import PlayEngine, Start
from vidar.play.key_codes import CODES, code_of, is_known
from vidar.play.keys import DEGREES_PER_PIXEL, InputState, Keys, with_keys


def test_names_of_keys():
    named = {"w": "KeyW", "W": "KeyW", "7": "Digit7", " ": "Space", "ctrl": "ControlLeft", "Control": "ControlLeft"}
    named |= {"alt": "AltLeft", "shift": "ShiftLeft", "meta": "MetaLeft", "esc": "Escape", "up": "ArrowUp"}
    named |= {"mouseleft": "MouseLeft", "mouse_right": "MouseRight", "controlright": "ControlRight", ";": "Semicolon"}
    assert {key: code_of(key) for key in named} == named
    assert all(code_of(code) == code_of(code.upper()) == code for code in CODES) and len(set(CODES)) == len(CODES)
    assert code_of("Foo") == "Foo" and not is_known("Foo") and is_known("f5")


def test_a_value_of_a_choice_may_have_no_key():
    walk = Action(name="walk", kind="choice", size=3, keys=("", "w", "s"))
    keys = Keys(ActionSpec(actions=(walk, Action(name="jump", keys=("Foo", "MouseLeft")))))
    assert keys.codes == ("KeyW", "KeyS", "Foo", "MouseLeft") and keys.unknown() == ["Foo"]
    assert keys.names() == [
        {"code": "KeyW", "action": "walk 1"},
        {"code": "KeyS", "action": "walk 2"},
        {"code": "Foo", "action": "jump"},
        {"code": "MouseLeft", "action": "jump"},
    ]
    assert keys.row(0b1010).tolist() == [2, 1]


def test_actions_without_keys_get_free_ones():
    """A gymnasium game names no keys: its choices are 0, 1, 2, ...; what names its keys keeps them."""
    push = Action(name="action", kind="choice", size=3)
    keys = Keys(ActionSpec(actions=(push,)))
    assert [(one["code"], one["action"]) for one in keys.names()] == [(f"Digit{n}", f"action {n}") for n in range(3)]
    assert [keys.row(mask)[0] for mask in (0, 1, 2, 4)] == [0, 0, 1, 2] and not keys.unknown()
    spec = ActionSpec(
        actions=(Action(name="w", keys=("w", "1")), push, Action(name="fire"), Action(name="x", kind="camera", size=5))
    )
    assert Keys(spec).codes == ("KeyW", "Digit1", "Digit0", "Digit2", "Digit3", "Digit4")
    assert with_keys(ActionSpec(actions=spec.actions[:1])) == ActionSpec(actions=spec.actions[:1])


def test_a_world_never_has_more_keys_than_a_mask_has_bits():
    many = [Action(name=f"b{n}") for n in range(40)]
    named = tuple(Action(name=f"n{n}", keys=(code,)) for n, code in enumerate(CODES[30:50]))
    for actions in (many, [Action(name="wide", kind="choice", size=50), *many], [*named, *many]):
        codes = Keys(ActionSpec(actions=tuple(actions))).codes
        assert len(codes) == 32 and len(set(codes)) == 32
        assert not {"KeyP", "KeyN", "KeyR", "KeyF"} & set(codes)  # the shortcuts of the page


@pytest.mark.parametrize("kind", ["camera", "continuous"])
@pytest.mark.parametrize(
    "name, axis, moved",
    [("dx", None, "x"), ("mouse_dy", None, "y"), ("pitch", None, "y"), ("turn", "y", "y"), ("dy", "x", "x")],
)
def test_the_mouse_moves_the_column_of_its_axis_and_rests_in_the_middle(kind, name, axis, moved):
    more = {"size": 11} if kind == "camera" else {"low": -5, "high": 5}
    keys = Keys(ActionSpec(actions=(Action(name=name, kind=kind, axis=axis, **more),)))
    rest = 5 if kind == "camera" else 0
    assert keys.row(0).tolist() == [rest]  # a mouse that does not move turns nothing
    along, across = {"x": ((9, 0), (0, 9)), "y": ((0, 9), (9, 0))}[moved]
    assert keys.row(0, *along)[0] > rest and keys.row(0, *across)[0] == rest
    if kind == "continuous":
        assert keys.row(0, *along)[0] == pytest.approx(9 * DEGREES_PER_PIXEL)


def test_a_held_key_is_held_until_it_is_let_go():
    inputs = InputState(Keys(ActionSpec(actions=(Action(name="run", keys=("w",)),))))
    assert not inputs.holding
    inputs.hold(0b10, 0, 0, 1)  # no key of this world
    assert not inputs.holding
    inputs.hold(0b11, 0, 0, 2)
    assert inputs.holding and inputs.row().tolist() == [1]
    inputs.hold(0, 3, 0, 3)
    assert not inputs.holding


def test_slow_motion_of_a_camera_adds_up_and_never_turns_by_itself():
    yaw, pitch = (Action(name=name, kind="camera", size=11) for name in ("yaw", "pitch"))
    slide = Action(name="slide", kind="continuous", low=0, high=1)
    inputs = InputState(Keys(ActionSpec(actions=(yaw, pitch))))
    rows = []
    for step in range(8):
        inputs.hold(0, 1.0, 0.0, step)  # 0.15 degrees a frame: the first bin begins at 0.54
        rows.append(inputs.row().tolist())
        inputs.used()
    assert rows == 2 * [*3 * [[5, 5]], [6, 5]]
    inputs.hold(0, 3.0, -3.0, 9)
    for _ in range(5):  # the mouse lies still
        inputs.used()
        assert inputs.row().tolist() == [5, 5]
    inputs = InputState(Keys(ActionSpec(actions=(yaw, slide))))
    inputs.hold(0, -3.0, 0.0, 1)
    inputs.used()
    inputs.hold(0, 3.0, 0.0, 2)
    assert inputs.row()[1] == pytest.approx(3 * DEGREES_PER_PIXEL)  # a column at its end collects nothing


def test_a_paused_dream_takes_no_motion_with_it(tiny, first_frames):
    engine = PlayEngine(tiny, 1)
    slot = engine.sit(Start(first_frames, None, 0))
    look = Keys(ActionSpec(actions=(Action(name="yaw", kind="camera", size=11),)))
    slot.inputs = InputState(look)
    slot.hold(0, dx=500)
    assert slot.inputs.row().tolist() == [10]
    slot.pause(True)
    slot.pause(False)
    assert np.array_equal(slot.inputs.row(), look.spec.noop())
