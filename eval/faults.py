"""Faults of worlds, planted in real play at eight strengths, so that a metric can be asked whether it sees them.

Every fault is a function of the real play of one player from E starts and of a strength from 0, which changes nothing,
to 8. All pictures are made in whole numbers, and all draws come from Philox with the seed of the scene and do not
depend on the strength: a stronger fault contains the weaker one. Choice: all strengths were set by looking at them,
before any metric was asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vidar.actions import ActionSpec
from vidar.data.players import keys_of, opposite
from vidar.eval.ruler_measure import pairs
from vidar.types import UsageError

STRENGTHS = 8
ONE = 1 << 16  # fixed point of weights
SIGMA = 0.25  # pixels of blur per strength
HUE = 15  # degrees per strength at the end of a clip
PERIOD, STRIPE = 4, 8  # pixels of the grid and of the stripes
MIXED = 16  # a strength mixes in 1 / MIXED of the grid
CONTRAST = 8  # grey levels of the stripes per strength
FLICKER = 20  # a strength changes the brightness by 1 / FLICKER
ZOOM = 16  # a strength enlarges by 1 / ZOOM
LOOP = 1.0  # seconds


@dataclass(frozen=True)
class Scene:
    """The real play of one player.

    frames uint8 [E, T, H, W, 3]; first uint8 [E, H, W, 3]: the frames at the starts; table float32 [E, T, A]; poses
    float32 [E, 1 + T, 4] from the starts on; play: the frames of the real game for another table; seed: of all draws.
    """

    frames: np.ndarray
    first: np.ndarray
    table: np.ndarray
    poses: np.ndarray
    spec: ActionSpec
    fps: float
    play: Callable[[np.ndarray], np.ndarray]
    seed: tuple[int, ...] = (0,)

    def random(self) -> np.random.Generator:
        """The draws of a fault, the same for every strength."""
        return np.random.Generator(np.random.Philox(self.seed))


@dataclass(frozen=True)
class Fault:
    """what: its definition, with the strength s. make(scene, s) -> frames uint8 [E, T, H, W, 3], for s from 1 to 8."""

    what: str
    make: Callable[[Scene, int], np.ndarray]

    def __call__(self, scene: Scene, strength: int) -> np.ndarray:
        """The frames of the scene with the fault. Raises UsageError for a strength outside 0..8 or a single start."""
        if not 0 <= strength <= STRENGTHS or len(scene.frames) < 2:
            told = f"strength {strength} and {len(scene.frames)} starts"
            raise UsageError(f"{told}: a fault has the strengths 0 to {STRENGTHS} and needs 2 starts or more")
        return self.make(scene, strength) if strength else scene.frames.copy()


def blur(scene: Scene, strength: int) -> np.ndarray:
    """Weights in fixed point; the edge of the picture is repeated."""
    weights = gaussian(SIGMA * strength)

    def blurred(frame: np.ndarray) -> np.ndarray:
        return _rounded(_along(_along(frame.astype(np.int64), weights, 0), weights, 1), ONE**2)

    return np.stack([np.stack([blurred(frame) for frame in clip]) for clip in scene.frames])


def freeze(scene: Scene, strength: int) -> np.ndarray:
    """Number -1 is the frame at the start."""
    count = scene.frames.shape[1]
    last = count - round(strength * count / STRENGTHS) - 1
    return _numbered(scene, np.minimum(np.arange(count), last))


def loop(scene: Scene, strength: int) -> np.ndarray:
    """Frame t >= begin shows frame begin - n + (t - begin) mod n."""
    count, length = scene.frames.shape[1], max(1, round(LOOP * scene.fps))
    begin = count - round(strength * max(0, count - length) / STRENGTHS)
    numbers = np.arange(count)
    return _numbered(scene, np.where(numbers < begin, numbers, begin - length + (numbers - begin) % length))


def hue_drift(scene: Scene, strength: int) -> np.ndarray:
    """A rotation of the colours about the grey axis; grey stays grey."""
    count = scene.frames.shape[1]
    angles = np.deg2rad(HUE * strength) * np.arange(1, count + 1) / count
    ahead, side = np.cos(angles), np.sin(angles) / np.sqrt(3)
    parts = (1 + 2 * ahead) / 3, (1 - ahead) / 3 - side, (1 - ahead) / 3 + side
    same, next_, last = (np.rint(part * ONE).astype(np.int64)[:, None, None] for part in parts)

    def turned(clip: np.ndarray) -> np.ndarray:
        colours = [clip[..., c].astype(np.int64) for c in range(3)]
        mixed = [same * colours[c] + next_ * colours[(c + 1) % 3] + last * colours[(c + 2) % 3] for c in range(3)]
        return _rounded(np.stack(mixed, -1), ONE)

    return np.stack([turned(clip) for clip in scene.frames])


def late_actions(scene: Scene, strength: int) -> np.ndarray:
    """Frame t shows frame t - s; before them, the frame at the start."""
    return _numbered(scene, np.maximum(np.arange(scene.frames.shape[1]) - strength, -1))


def mirrored_actions(scene: Scene, strength: int) -> np.ndarray:
    """Which eighths of which start: the first s of a permutation of them."""
    count, keys = scene.frames.shape[1], {key.name: key for key in keys_of(scene.spec)}
    order = scene.random().permuted(np.tile(np.arange(STRENGTHS), (len(scene.frames), 1)), axis=1)  # [E, 8]
    chosen = np.argsort(order, axis=1)[:, np.arange(count) * STRENGTHS // count] < strength  # [E, T]
    lefts = ((key, opposite(name, list(keys))) for name, key in keys.items() if "LEFT" in name.upper())
    swapped = [
        both for left, right in lefts if right is not None for both in ((left, keys[right]), (keys[right], left))
    ]
    table, rest = scene.table.copy(), scene.spec.noop()
    for key, _ in swapped:
        table[chosen, key.column] = rest[key.column]
    for key, other in swapped:
        table[chosen & (scene.table[..., key.column] == key.value), other.column] = other.value
    return scene.frames.copy() if np.array_equal(table, scene.table) else scene.play(table)


def teleport(scene: Scene, strength: int) -> np.ndarray:
    """The cuts are the first s of a permutation of the ends of eight of nine equal parts; start e goes to e + 1, ...

    With two starts there is one other place, and a cut after the first changes nothing.
    """
    starts, count = scene.frames.shape[:2]
    random, shown = scene.random(), scene.frames.copy()
    for e in range(starts):
        cuts = np.sort(random.permutation(STRENGTHS)[:strength] + 1) * count // (STRENGTHS + 1)
        for number, cut in enumerate(cuts):
            shown[e, cut:] = scene.frames[(e + 1 + number % (starts - 1)) % starts, cut:]
    return shown


def room_swap(scene: Scene, strength: int) -> np.ndarray:
    """Which pieces: the first s/8 of a permutation of those of all starts; each shows a start of its own."""
    starts, length = len(scene.frames), max(1, round(scene.fps))
    pieces = [
        (e, *piece) for e in range(starts) for piece in _pieces(seen_again(scene.poses[e], scene.fps)[1:], length)
    ]
    random, shown = scene.random(), scene.frames.copy()
    away = random.integers(1, starts, len(pieces))
    for number in random.permutation(len(pieces))[: round(strength * len(pieces) / STRENGTHS)]:
        e, begin, end = pieces[number]
        shown[e, begin:end] = scene.frames[(e + away[number]) % starts, begin:end]
    return shown


def grid(scene: Scene, strength: int) -> np.ndarray:
    """Dots of 2 x 2 pixels, whose hue goes once around the colours across the picture, over the same colours at 1/4."""
    height, width = scene.frames.shape[2:4]
    y, x = np.mgrid[:height, :width]
    phase = (x / width + y / height)[..., None] + np.arange(3) / 3
    dots = np.where((x % PERIOD < PERIOD // 2) & (y % PERIOD < PERIOD // 2), 4, 1)[..., None]
    garbage = np.rint(127.5 * (1 + np.cos(2 * np.pi * phase))).astype(np.int64) * dots // 4
    mixed = scene.frames.astype(np.int64) * (MIXED - strength) + garbage * strength
    return _rounded(mixed, MIXED)


def stripes(scene: Scene, strength: int) -> np.ndarray:
    """Added to all colours."""
    bright = np.where(np.arange(scene.frames.shape[3]) % STRIPE < STRIPE // 2, 1, -1)[:, None]
    return _rounded(scene.frames.astype(np.int64) + CONTRAST * strength * bright, 1)


def flicker(scene: Scene, strength: int) -> np.ndarray:
    """Even frames are brighter, odd frames are darker."""
    sign = np.where(np.arange(scene.frames.shape[1]) % 2 == 0, 1, -1)[:, None, None, None]
    return _rounded(scene.frames.astype(np.int64) * (FLICKER + strength * sign), FLICKER)


def wrong_scale(scene: Scene, strength: int) -> np.ndarray:
    """The middle of the picture, resized bicubically."""
    height, width = scene.frames.shape[2:4]
    cut = 0.5 - 0.5 / (1 + strength / ZOOM)
    box = (cut * width, cut * height, (1 - cut) * width, (1 - cut) * height)

    def zoomed(frame: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box))

    return np.stack([np.stack([zoomed(frame) for frame in clip]) for clip in scene.frames])


FAULTS: Mapping[str, Fault] = {
    "blur": Fault("a Gaussian of s/4 pixels, on every frame", blur),
    "freeze": Fault("the last s/8 of the clip repeats one frame", freeze),
    "loop": Fault("in the last s/8 of the clip, but for its first second, one second is repeated", loop),
    "hue drift": Fault("the hue turns by up to 15 s degrees until the end of the clip", hue_drift),
    "late actions": Fault("what the game shows comes s frames later", late_actions),
    "mirrored actions": Fault("in s of eight parts of the clip the game gets left for right", mirrored_actions),
    "teleport": Fault("s cuts to the play of other starts", teleport),
    "room swap": Fault("s/8 of the seconds in which a view is seen again show another start", room_swap),
    "grid": Fault("a rainbow grid of a period of 4 pixels is mixed in, share s/16", grid),
    "stripes": Fault("vertical stripes of 4 pixels, 8 s levels brighter and darker", stripes),
    "flicker": Fault("every other frame is s/20 brighter, the others as much darker", flicker),
    "wrong scale": Fault("everything is larger by the factor 1 + s/16", wrong_scale),
}


def gaussian(sigma: float) -> list[int]:
    """Integrals of a Gaussian over pixels, from -r to r, in units of 1 / ONE, of which they are the whole."""
    reach = int(np.ceil(3 * sigma))
    ends = [math.erf((n - 0.5) / (sigma * math.sqrt(2))) / 2 for n in range(-reach, reach + 2)]
    whole = [round((b - a) * ONE) for a, b in zip(ends, ends[1:])]
    whole[reach] += ONE - sum(whole)
    return whole


def seen_again(poses: np.ndarray, fps: float) -> np.ndarray:
    """Poses float32 [N, 4] -> bool [N]: the frames whose view has been seen before, see `pairs`."""
    again = np.zeros(len(poses), bool)
    again[[now for _, now, _ in pairs(poses, fps)]] = True
    return again


def _pieces(chosen: np.ndarray, length: int) -> list[tuple[int, int]]:
    """Runs of True in bool [T], cut into pieces of at most `length`, as (begin, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [
        (begin, min(begin + length, end))
        for first, end in zip(edges[::2], edges[1::2])
        for begin in range(first, end, length)
    ]


def _numbered(scene: Scene, numbers: np.ndarray) -> np.ndarray:
    """The frames with these numbers [T]; -1 is the frame at the start."""
    return np.concatenate([scene.first[:, None], scene.frames], 1)[:, numbers + 1]


def _along(values: np.ndarray, weights: Sequence[int], axis: int) -> np.ndarray:
    """Weighted sums of 2 r + 1 neighbours along an axis, whole numbers."""
    reach, size = len(weights) // 2, values.shape[axis]
    wide = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)], mode="edge")
    first = np.moveaxis(wide, axis, 0)
    total = sum((w * first[n : n + size] for n, w in enumerate(weights)), np.zeros((), np.int64))
    return np.moveaxis(total, 0, axis)


def _rounded(values: np.ndarray, unit: int) -> np.ndarray:
    """Whole multiples of 1 / unit -> uint8, rounded to the nearest and cut to 0..255."""
    return np.clip((values + unit // 2) // unit, 0, 255).astype(np.uint8)
