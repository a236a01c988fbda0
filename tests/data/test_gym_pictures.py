"""Which pictures of an environment are recorded, and that every layout of them gives the same frames."""

import gymnasium
import numpy as np
import pytest
from gym_toy import Toy, picture
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from PIL import Image

from vidar.data.gym import GymRecorder
from vidar.types import VidarError

WANTED = np.stack([picture(t) for t in range(4)])
GREY = WANTED[..., :1].repeat(3, -1)


def frames(env, choice=None, count=4):
    return GymRecorder(env, frames=count, picture=choice).episode(0).frames


def stack(make, axis=0):
    """The last 4 values of a function of t, the newest last."""
    return lambda t: np.stack([make(max(0, t - back)) for back in (3, 2, 1, 0)], axis)


def opaque(t):
    return np.concatenate([picture(t), np.full((40, 48, 1), 255, np.uint8)], -1)


LAYOUTS = {
    "uint8 [H, W, 3]": picture,
    "int64": lambda t: picture(t).astype(np.int64),
    "float 0 .. 1": lambda t: picture(t) / 255,
    "float 0 .. 1 a little above": lambda t: (picture(t) / np.float32(254.9)).astype(np.float32),
    "float 0 .. 255": lambda t: picture(t).astype(np.float32),
    "channels first": lambda t: np.moveaxis(picture(t), 2, 0),
    "batch of one": lambda t: picture(t)[None],
    "RGBA": opaque,
    "stack of 4": stack(picture),
    "stack of 4, channels first": stack(lambda t: np.moveaxis(picture(t), 2, 0)),
    "flipped twice": lambda t: picture(t)[::-1, ::-1].copy()[::-1, ::-1],
}
GREYS = {
    "grey [H, W]": lambda t: picture(t)[..., 0],
    "grey [H, W, 1]": lambda t: picture(t)[..., :1],
    "grey [1, H, W]": lambda t: picture(t)[None, ..., 0],
    "grey float": lambda t: picture(t)[..., 0] / 255,
    "grey stack of 4": stack(lambda t: picture(t)[..., 0]),
}


@pytest.mark.parametrize("name", [*LAYOUTS, *GREYS])
@pytest.mark.parametrize("choice", [None, "observation"])
def test_an_observation_of_any_layout_gives_the_same_frames(name, choice):
    env = Toy(observe={**LAYOUTS, **GREYS}[name])
    wanted = WANTED if name in LAYOUTS else GREY
    got = frames(env, choice)
    assert got.dtype == np.uint8 and got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1 if "above" in name else 0)


@pytest.mark.parametrize(
    "draw",
    [
        *(LAYOUTS[name] for name in LAYOUTS if "stack" not in name),
        lambda t: [picture(9), picture(t)],
        lambda t: Image.fromarray(picture(t)),
        lambda t: Image.fromarray(picture(t)).convert("RGBA"),
        lambda t: np.moveaxis(opaque(t), 2, 0),
    ],
)
def test_a_rendered_picture_of_any_layout_gives_the_same_frames(draw):
    got = frames(Toy("rgb_array", draw=draw))
    np.testing.assert_allclose(got, WANTED, atol=1)


def test_a_list_of_frames_is_asked_for_once_a_step():
    listed, plain = (gymnasium.make("CartPole-v1", render_mode=mode) for mode in ("rgb_array_list", "rgb_array"))
    np.testing.assert_array_equal(frames(listed, count=6), frames(plain, count=6))


def test_the_wrapper_that_stacks_frames_is_known():
    """Three grey frames would pass for one picture in colours."""
    grey = lambda t: picture(t)[..., 0]  # noqa: E731
    np.testing.assert_array_equal(frames(FrameStackObservation(Toy(observe=grey), 3)), GREY)
    np.testing.assert_array_equal(frames(FrameStackObservation(Toy(observe=picture), 3)), WANTED)
    stacked = lambda t: np.stack([grey(max(0, t - back)) for back in (2, 1, 0)])  # noqa: E731
    np.testing.assert_array_equal(frames(Toy("rgb_array", observe=stacked)), WANTED)  # rendered
    with pytest.raises(VidarError, match="RGB or of 3 stacked frames"):
        frames(Toy(observe=stacked))


def random(shape, high, dtype=np.uint8):
    return lambda t: np.random.default_rng(t).integers(0, high, shape).astype(dtype)


SYMBOLS = {
    "MiniGrid": (random((7, 7, 3), 11), None),
    "a full grid": (random((25, 25, 3), 11), None),
    "a small board": (random((19, 19, 3), 256), None),
    "few values": (random((64, 64, 3), 30), None),
    "few values as floats": (random((64, 64, 3), 30, np.float32), None),
    "one-hot planes": (random((40, 48, 3), 2, np.float32), None),
    "one-hot planes, channels first": (random((3, 40, 48), 2, bool), spaces.MultiBinary((3, 40, 48))),
    "a space that ends early": (random((40, 48, 3), 100), spaces.Box(0, 99, (40, 48, 3), np.uint8)),
    "a map": (random((40, 48), 256), None),
    "many planes": (random((40, 48, 9), 256), None),
    "a state": (random((4,), 9, np.float32), None),
    "4 channels": (random((40, 48, 4), 256), None),
    "text": (lambda t: "you are in a maze", spaces.Text(20)),
    "nothing": (lambda t: None, spaces.Discrete(1)),
    "a number": (lambda t: t, spaces.Discrete(9)),
}


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols_are_never_recorded_as_a_picture(name):
    observe, space = SYMBOLS[name]
    np.testing.assert_array_equal(frames(Toy("rgb_array", observe=observe, space=space)), WANTED)
    if name != "a map":  # grey without anything rendered
        with pytest.raises(VidarError, match="gym:Toy: seed 0, step 0: it observes .*render_mode='rgb_array'") as error:
            frames(Toy(observe=observe, space=space))
        assert "\n" not in str(error.value)


def test_a_picture_in_colours_is_recorded_as_it_is_observed():
    """At the environment's own resolution, whatever it renders."""
    large = lambda t: np.zeros((400, 600, 3), np.uint8)  # noqa: E731
    for observe in (picture, LAYOUTS["channels first"], LAYOUTS["float 0 .. 1"], opaque):
        np.testing.assert_array_equal(frames(Toy("rgb_array", observe=observe, draw=large)), WANTED)
    assert frames(Toy("rgb_array", observe=picture, draw=large), "render").shape == (4, 400, 600, 3)
    small = Toy("rgb_array", observe=random((7, 7, 3), 11))
    assert frames(small, "observation").shape == (4, 7, 7, 3)


def test_the_picture_of_a_dict_is_found_or_chosen_by_name():
    one = {"state": np.zeros(3, np.float32), "rgb": picture(1), "depth": picture(1)[..., :1]}
    np.testing.assert_array_equal(frames(Toy(observe=lambda t: {**one, "rgb": picture(t)})), WANTED)
    np.testing.assert_array_equal(frames(Toy(observe=lambda t: (t, {"eye": picture(t)}))), WANTED)
    both = Toy("rgb_array", observe=lambda t: {"left": picture(t), "arm": {"eye": picture(9)}})
    with pytest.raises(VidarError, match=r"holds 2 pictures, left, arm.eye; choose one: .*--picture NAME"):
        frames(both)
    np.testing.assert_array_equal(frames(both, "left"), WANTED)
    assert (frames(both, "arm.eye") == picture(9)).all()
    np.testing.assert_array_equal(frames(both, "render"), WANTED)
    with pytest.raises(VidarError, match="no part 'right'; it has left, arm.eye"):
        frames(both, "right")
    goal = lambda t: {"observation": picture(t), "goal": picture(9)}  # noqa: E731
    np.testing.assert_array_equal(frames(Toy(observe=goal), "observation"), WANTED)


def test_one_scale_holds_for_a_recording():
    dark = lambda t: np.full((40, 48, 3), (0.0, 0.0, 0.5, 1.0)[t] if t < 4 else 200.0)  # noqa: E731
    got = frames(Toy("rgb_array", draw=dark), count=4)
    assert got[:, 0, 0, 0].tolist() == [0, 0, 128, 255]
    with pytest.raises(VidarError, match="step 4: the picture holds values from 200 to 200, expected 0 .. 1"):
        frames(Toy("rgb_array", draw=dark), count=5)
    bright = lambda t: np.full((40, 48, 3), (0.0, 200.0, 0.0, 1.0)[t])  # noqa: E731
    assert frames(Toy("rgb_array", draw=bright))[:, 0, 0, 0].tolist() == [0, 200, 0, 1]
    for bad in (np.nan, -3.0, 300.0):
        with pytest.raises(VidarError, match="NaN|holds values from"):
            frames(Toy("rgb_array", draw=lambda t, bad=bad: np.full((40, 48, 3), bad)))
    with pytest.raises(VidarError, match="holds values from 0 to 300, expected 0 .. 255"):
        frames(Toy("rgb_array", draw=lambda t: np.arange(40 * 48 * 3).reshape(40, 48, 3) % 301))
    signed = Toy(observe=lambda t: picture(t) / 127.5 - 1, space=spaces.Box(-1, 1, (40, 48, 3)))
    np.testing.assert_array_equal(frames(signed), WANTED)


@pytest.mark.parametrize("draw", [lambda t: [], lambda t: "ansi", lambda t: np.zeros((0, 4, 3)), lambda t: None])
def test_what_is_no_picture_is_named(draw):
    with pytest.raises(VidarError, match=r"gym:Toy: seed 0, step 0: .*(renders|is not a picture)"):
        frames(Toy("rgb_array", draw=draw))
    with pytest.raises(VidarError, match="is not a picture"):
        frames(Toy("rgb_array", draw=draw), "render")
