"""What an environment observes or renders as frames uint8 [H, W, 3].

Taken are colours, grey and RGBA (alpha is dropped), channels first or last, uint8, bool, other whole numbers, floats,
and stacks of frames (the newest counts). An observation is recorded by itself only where it is certainly a picture;
in doubt the environment renders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

SMALLEST = 32  # pixels; Choice: grids of symbols are smaller (MiniGrid: up to 25 x 25)
FEW = 32  # Choice: whole numbers that are all smaller stand for symbols, not for brightness
MOST_STACKED = 16  # frames; Choice: a longer first axis of an observation [K, H, W] is something else
GREY = "grey"
FORCE = "picture='observation' (--picture observation) records the observation"
CHOOSE = "choose one: picture='NAME' (--picture NAME)"

Leaf = tuple[Any, spaces.Space[Any] | None]  # a part of an observation and its space


class NotAPicture(Exception):
    """Why a value is not one picture."""


def pixels(value: Any, stacked: bool = False, rendered: bool = False) -> np.ndarray:
    """The newest picture of a value, numbers [H, W, C] with C 1 or 3. Raises NotAPicture.

    stacked: the first axis of an array holds frames. rendered: the value was rendered, so a first axis of 4 is RGBA; in
    an observation it is 4 grey frames.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise NotAPicture("an empty list is not a picture")
        return pixels(value[-1], False, rendered)
    array = np.asarray(value.convert("RGB") if isinstance(value, Image.Image) else value)
    if array.dtype.kind not in "buif" or 0 in array.shape:
        raise NotAPicture(f"{named(value)} is not a picture")
    if array.ndim > (2 if stacked else 3):
        return pixels(array[-1], False, rendered)
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        if len(array) in (1, 3) or (rendered and len(array) == 4):
            array = np.moveaxis(array, 0, 2)
        elif len(array) <= MOST_STACKED and not rendered:
            array = array[-1][..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise NotAPicture(f"{named(value)} is not a picture")
    return array[..., :3] if array.shape[2] == 4 else array


def doubt(value: Any, space: spaces.Space[Any] | None, stacked: bool = False) -> str | None:
    """Why an observation may be no picture in colours (GREY if it is a grey one), or None if it certainly is one."""
    try:
        found, array = pixels(value, stacked), np.asarray(value)
    except NotAPicture:
        return "no picture"
    whole = np.issubdtype(found.dtype, np.integer)
    if min(found.shape[:2]) < SMALLEST:
        return f"a side below {SMALLEST} pixels, as of a grid of symbols"
    if whole and isinstance(space, spaces.Box) and space.high.max() < 255:
        return f"a space that ends at {space.high.max()}, as of symbols"
    if (found == np.rint(found)).all() and found.max() < FEW:
        return f"only whole numbers below {FEW}, as of symbols"
    if not stacked and array.ndim == 3:
        if array.shape[2] == 4 and not (array[..., 3] == (255 if whole else 1)).all():
            return "4 channels, of RGBA or of 4 stacked frames"
        if array.shape[2] != 3 and len(array) == 3 and (array[0] == array[1]).all():
            return "3 channels, of RGB or of 3 stacked frames"
    return GREY if found.shape[2] == 1 else None


class Brightness:
    """Numbers as uint8, by one scale for a whole recording.

    uint8 stays; other whole numbers are in 0 .. 255. Floats are in 0 .. 1 or in 0 .. 255, which the first frame that is
    not black decides, or in -1 .. 1 if `signed`.
    """

    def __init__(self, signed: bool = False) -> None:
        self.signed, self.most = signed, 0.0  # most: the largest float of a picture, 0: not decided yet

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Numbers [..] -> uint8 [..]. Raises NotAPicture for values outside the range, or outside the earlier one."""
        if values.dtype == np.uint8:
            return values
        if values.dtype == bool:
            return values.astype(np.uint8) * np.uint8(255)
        if not np.isfinite(values).all():
            raise NotAPicture("the picture holds NaN or infinite values")
        low, high = float(values.min()), float(values.max())
        least, most = (-1.0, 1.0) if self.signed else (0.0, 255.0)
        if values.dtype.kind == "f" and not self.signed:
            if self.most == 0 and high > 0:
                self.most = 1.0 if high <= 1.001 else 255.0
            most = self.most or 1.0
        slack = 0.001 * most if values.dtype.kind == "f" else 0.0  # interpolation overshoots a little
        if low < least - slack or high > most + slack:
            raise NotAPicture(f"the picture holds values from {low:g} to {high:g}, expected {least:g} .. {most:g}")
        scaled = (values.astype(np.float64) - least) * (255 / (most - least))
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


class Screen:
    """The pictures of one environment. The first frame decides where they come from, and that stays.

    choice: "render", "observation", the name of a part of the observation (keys joined by a dot), or None: the
    observation if it has exactly one picture in colours, else what the environment renders, else a grey observation.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], choice: str | None) -> None:
        self.env, self.choice = env, choice
        self.part: str | None = None  # of the observation; None: rendered
        self.stacked, self.brightness = stacks_frames(env), Brightness()
        self.decided = False

    @property
    def origin(self) -> str:
        """Where the pictures come from: "render", "observation" or the name of a part of it."""
        return "render" if self.part is None else self.part or "observation"

    def __call__(self, observation: Any) -> np.ndarray:
        """The current picture, uint8 [H, W, 3], a new array. Raises NotAPicture."""
        leaves = parts(observation, getattr(self.env, "observation_space", None))
        draw = cache(self._rendered)  # once: a list of frames is handed out once
        if not self.decided:
            self.part = self._decide(leaves, draw)
            space = None if self.part is None else leaves[self.part][1]
            self.brightness.signed = (
                isinstance(space, spaces.Box) and bool((space.low == -1).all()) and bool((space.high == 1).all())
            )
            self.decided = True
        if self.part is None:
            found = pixels(draw(), rendered=True)
        elif self.part in leaves:
            found = pixels(leaves[self.part][0], self.stacked)
        else:
            raise NotAPicture(f"the observation has lost its part {self.part!r}")
        frame = self.brightness(found)
        return np.array(np.broadcast_to(frame, (*frame.shape[:2], 3)), order="C")

    def _decide(self, leaves: dict[str, Leaf], draw: Callable[[], Any]) -> str | None:
        """The part of the observation to record, None: render."""
        if self.choice in leaves:
            return self.choice
        if self.choice == "render":
            return None
        if self.choice not in (None, "observation"):
            raise NotAPicture(f"the observation has no part {self.choice!r}; it has {listed(leaves)}")
        if self.choice == "observation" and len(leaves) == 1:
            return next(iter(leaves))
        doubts = {name: doubt(one, space, self.stacked) for name, (one, space) in leaves.items()}
        sure = [name for name, why in doubts.items() if why is None]
        grey = [name for name, why in doubts.items() if why == GREY]
        if not sure and self.choice is None and _is_picture(draw()):
            return None
        found = sure or grey
        if len(found) > 1:
            raise NotAPicture(f"the observation holds {len(found)} pictures, {listed(found)}; {CHOOSE}")
        if not found:
            raise NotAPicture(self._reasons(leaves, doubts, draw()))
        return found[0]

    def _rendered(self) -> Any:
        try:
            return self.env.render()
        except NotImplementedError:  # of an environment without pictures
            return None

    def _reasons(self, leaves: dict[str, Leaf], doubts: dict[str, str | None], rendered: Any) -> str:
        seen = ", ".join(f"{name} {named(one)} ({doubts[name]})".strip() for name, (one, _) in leaves.items())
        mode = getattr(self.env, "render_mode", None)
        remedy = FORCE if len(leaves) == 1 else CHOOSE
        if mode != "rgb_array":
            remedy = f"make it with render_mode='rgb_array', or {remedy}"
        return f"it observes {seen}, and renders {named(rendered)}; {remedy}"


def _is_picture(rendered: Any) -> bool:
    try:
        return pixels(rendered, rendered=True).size > 0
    except NotAPicture:
        return False


def parts(value: Any, space: spaces.Space[Any] | None, path: str = "") -> dict[str, Leaf]:
    """The arrays of an observation with their spaces, by name: "" for a plain one, else the keys joined by a dot."""
    if isinstance(value, Mapping):
        inner = {str(key): one for key, one in value.items()}
    elif isinstance(value, tuple):
        inner = {str(number): one for number, one in enumerate(value)}
    else:
        return {path: (value, space)}
    known: dict[Any, Any] = {}
    if isinstance(space, spaces.Dict | spaces.Tuple):
        known = dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
    lookup = {str(key): one for key, one in known.items()}
    found: dict[str, Leaf] = {}
    for key, one in inner.items():
        found |= parts(one, lookup.get(key), f"{path}.{key}" if path else key)
    return found


def stacks_frames(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether a wrapper stacks observations along a new first axis."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.FrameStackObservation):
            return True
        env = env.env
    return False


def named(value: Any) -> str:
    """A value in a few words: "uint8 [7, 7, 3]", "a str", "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple) or not hasattr(value, "__array__"):
        return f"a {type(value).__name__}"
    array = np.asarray(value)
    return f"{array.dtype} {list(array.shape)}"


def listed(names: Mapping[str, Any] | list[str]) -> str:
    """The first few names in one line."""
    return ", ".join(list(names)[:8]) or "none, as it is one array"
