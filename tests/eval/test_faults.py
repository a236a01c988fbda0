"""Every fault in closed form, on planted scenes: what it does to which frame, and that it grows with its strength."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vidar.data.vizdoom import action_spec
from vidar.eval.fault_metrics import METRICS
from vidar.eval.faults import FAULTS, ONE, STRENGTHS, Scene, gaussian, seen_again
from vidar.types import UsageError

STARTS, FRAMES, FPS = 3, 72, 12.0
SPEC = action_spec(["TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"])
STRONGER = ("blur", "hue drift", "grid", "stripes", "flicker", "wrong scale")
LONGER = ("freeze", "loop", "teleport", "room swap")


def turning(table: np.ndarray) -> np.ndarray:
    """A toy game: start e is a ring of smooth colours that turns 2 columns a frame with the keys TURN_*."""
    x = np.arange(120)
    shown = []
    for e, rows in enumerate(table):
        ring = [110 + 40 * np.sin(2 * np.pi * (e + k + 1) * x / 120 + k) for k in range(3)]
        wall = np.repeat(np.stack(ring, -1)[None], 32, axis=0) + 20 * (np.arange(32)[:, None, None] % 8 < 4)
        places = np.cumsum(2 * (rows[:, 1] - rows[:, 0])).astype(int)
        shown.append(np.stack([np.roll(wall, -place, axis=1)[:, :48] for place in places]).astype(np.uint8))
    return np.stack(shown)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Start e turns right for 2 s and left for 2 s, and again; its poses are those of a turn of 3 degrees a frame."""
    table = np.zeros((STARTS, FRAMES, SPEC.width), np.float32)
    right = np.arange(FRAMES) // 24 % 2 == 0
    table[:, right, 1], table[:, ~right, 0] = 1, 1
    poses = np.zeros((STARTS, 1 + FRAMES, 4), np.float32)
    poses[:, 1:, 3] = 3.0 * np.cumsum(table[..., 1] - table[..., 0], 1)
    frames = turning(table)
    return Scene(frames, turning(table * 0)[:, 0], table, poses, SPEC, FPS, turning, (7, 1))


def changed(scene: Scene, shown: np.ndarray) -> np.ndarray:
    """Mean change of each frame in grey levels, [E, T]."""
    return np.abs(shown.astype(int) - scene.frames).mean((2, 3, 4))


def test_there_are_twelve_and_claims_name_them() -> None:
    """Each with its definition."""
    assert len(FAULTS) == 12 and all(fault.what for fault in FAULTS.values())
    assert all(metric.claims <= set(FAULTS) for metric in METRICS.values())


@pytest.mark.parametrize("name", FAULTS)
def test_strength_0_is_the_real_clip_and_all_others_are_not(scene: Scene, name: str) -> None:
    """Equal to the byte at 0, another clip at 1 to 8; the same bytes twice; the scene is left alone."""
    before = scene.frames.copy()
    assert np.array_equal(FAULTS[name](scene, 0), scene.frames)
    for strength in range(1, STRENGTHS + 1):
        shown = FAULTS[name](scene, strength)
        assert shown.dtype == np.uint8 and shown.shape == scene.frames.shape
        assert not np.array_equal(shown, scene.frames)
        assert np.array_equal(shown, FAULTS[name](scene, strength))
    assert np.array_equal(scene.frames, before)
    with pytest.raises(UsageError, match="strength 9 and 3 starts"):
        FAULTS[name](scene, 9)
    with pytest.raises(UsageError, match="strength 1 and 1 starts"):
        FAULTS[name](replace(scene, frames=scene.frames[:1]), 1)


@pytest.mark.parametrize("name", STRONGER)
def test_the_clip_changes_more_with_every_strength(scene: Scene, name: str) -> None:
    """By the mean over all frames."""
    means = [changed(scene, FAULTS[name](scene, strength)).mean() for strength in range(STRENGTHS + 1)]
    assert all(after > before for before, after in zip(means, means[1:])), means


@pytest.mark.parametrize("name", LONGER)
def test_more_frames_change_with_strength(scene: Scene, name: str) -> None:
    """Never fewer, and in the end more than at first."""
    counts = [(changed(scene, FAULTS[name](scene, strength)) > 0).sum() for strength in range(STRENGTHS + 1)]
    assert all(after >= before for before, after in zip(counts, counts[1:])) and counts[-1] > counts[1] > 0, counts


def test_blur_spreads_a_point_like_a_gaussian(scene: Scene) -> None:
    """The weights are integrals over pixels, their variance is sigma^2 + 1/12 (Sheppard), and flat areas stay."""
    for sigma in (0.5, 1.0, 2.0):
        weights = np.array(gaussian(sigma)) / ONE
        places = np.arange(len(weights)) - len(weights) // 2
        assert weights.sum() == 1 and np.array_equal(weights, weights[::-1])
        assert (weights * places**2).sum() == pytest.approx(sigma**2 + 1 / 12, rel=0.03)  # the tails end at 3 sigma
    assert gaussian(0.25)[0] / ONE == pytest.approx(0.5 * math.erfc(0.5 / 0.25 / math.sqrt(2)), abs=1 / ONE)
    point = np.zeros_like(scene.frames)
    point[..., 16, 24, :] = 255
    shown = FAULTS["blur"](replace(scene, frames=point), 4)
    weights = np.array(gaussian(1.0)) / ONE
    expected = np.floor(255 * np.outer(weights, weights) + 0.5)
    assert np.array_equal(shown[1, 2, 13:20, 21:28, 0], expected)
    flat = np.full_like(scene.frames, 93)
    assert np.array_equal(FAULTS["blur"](replace(scene, frames=flat), 8), flat)


@pytest.mark.parametrize("strength", [1, 3, 8])
def test_freeze_and_late_actions_shift_frames(scene: Scene, strength: int) -> None:
    """The last s/8 of a clip is the frame before; late actions are a shift by s frames, filled with the first frame."""
    frozen, begin = FAULTS["freeze"](scene, strength), FRAMES - FRAMES * strength // 8
    before = scene.first if begin == 0 else scene.frames[:, begin - 1]
    assert np.array_equal(frozen[:, :begin], scene.frames[:, :begin])
    assert (frozen[:, begin:] == before[:, None]).all()
    late = FAULTS["late actions"](scene, strength)
    assert np.array_equal(late[:, strength:], scene.frames[:, :-strength])
    assert (late[:, :strength] == scene.first[:, None]).all()


@pytest.mark.parametrize("strength", [2, 8])
def test_loop_has_a_period_of_a_second(scene: Scene, strength: int) -> None:
    """From its beginning on, every frame is the one a second before; before that, nothing changes."""
    shown, length = FAULTS["loop"](scene, strength), round(FPS)
    begin = FRAMES - (FRAMES - length) * strength // 8
    assert np.array_equal(shown[:, :begin], scene.frames[:, :begin])
    assert np.array_equal(shown[:, begin:], shown[:, begin - length : FRAMES - length])


def test_hue_drift_turns_the_hue_and_keeps_grey(scene: Scene) -> None:
    """120 degrees exchange the colours; grey and the mean of the three stay; half of the way is half of the angle."""
    frames = np.zeros_like(scene.frames)
    frames[..., 0], frames[..., 1], frames[..., 2] = 90, 60, 30
    shown = FAULTS["hue drift"](replace(scene, frames=frames), 8)
    assert (shown[:, -1] == [30, 90, 60]).all()
    assert np.abs(shown.astype(int).mean(-1) - 60).max() <= 1
    half = FAULTS["hue drift"](replace(scene, frames=frames), 4)
    assert np.array_equal(half[:, -1], shown[:, FRAMES // 2 - 1])
    grey = np.full_like(frames, 77)
    assert np.array_equal(FAULTS["hue drift"](replace(scene, frames=grey), 8), grey)


def test_mirrored_actions_are_the_game_under_exchanged_keys(scene: Scene) -> None:
    """At 8 left and right are exchanged everywhere; at s in s of eight parts, which stay mirrored at s + 1."""
    asked: list[np.ndarray] = []

    def play(table: np.ndarray) -> np.ndarray:
        asked.append(table)
        return turning(table)

    watched = replace(scene, play=play)
    shown = [FAULTS["mirrored actions"](watched, strength) for strength in range(1, STRENGTHS + 1)]
    assert np.array_equal(shown[-1], turning(scene.table[..., [1, 0, 2, 4, 3]]))
    parts = [(table != scene.table).any(-1).reshape(STARTS, 8, FRAMES // 8) for table in asked]
    for strength, part in enumerate(parts, 1):
        assert (part.all(2) == part.any(2)).all() and (part.any(2).sum(1) == strength).all()
    assert all((weak <= strong).all() for weak, strong in zip(parts, parts[1:]))
    still = replace(watched, table=scene.table * 0)
    asked.clear()
    assert np.array_equal(FAULTS["mirrored actions"](still, 8), scene.frames) and not asked


def test_teleport_cuts_to_other_starts(scene: Scene) -> None:
    """Until the first cut the own play, then the same moment of another start; there are s cuts."""
    source: list[np.ndarray] = []
    for strength in range(1, STRENGTHS + 1):
        shown = FAULTS["teleport"](scene, strength)
        same = (shown[:, None] == scene.frames[None]).all((3, 4, 5))  # [E, start, T]
        assert (same.sum(1) == 1).all()
        source.append(same.argmax(1))
        cuts = np.diff(source[-1], axis=1, prepend=np.arange(STARTS)[:, None]) != 0
        assert (cuts.sum(1) == strength).all()
        first = cuts.argmax(1)
        assert all((source[-1][e, first[e] :] != e).all() for e in range(STARTS))


def test_room_swap_is_where_views_come_back(scene: Scene) -> None:
    """Only frames whose view was seen 2 s before are swapped, all of them at 8, with the play of another start."""
    again = np.stack([seen_again(poses, FPS)[1:] for poses in scene.poses])
    angles = scene.poses[0, :, 3]
    slowly = [
        any(
            abs(angles[now] - angles[before]) <= 4 and abs(angles[now] - angles[(now + before) // 2]) >= 30
            for before in range(now - 23)
        )
        for now in range(1, FRAMES + 1)
    ]
    assert np.array_equal(again[0], slowly) and not again[0, :30].any() and again.sum() > 60
    shown = FAULTS["room swap"](scene, 8)
    assert np.array_equal((shown != scene.frames).any((2, 3, 4)), again)
    weak = FAULTS["room swap"](scene, 3)
    swapped = (weak != scene.frames).any((2, 3, 4))
    assert (swapped <= again).all() and 0 < swapped.sum() < again.sum()
    still = replace(scene, poses=scene.poses * 0)
    assert np.array_equal(FAULTS["room swap"](still, 8), scene.frames)


def test_grid_stripes_and_flicker_add_what_they_say(scene: Scene) -> None:
    """Grid: periods of 4 pixels at share s/16; stripes: +- 8 s with a period of 8; flicker: the brightness +- s/20."""
    grey = replace(scene, frames=np.full_like(scene.frames, 100))
    mixed = FAULTS["grid"](grey, 8).astype(int)
    bare = 2 * mixed - 100
    assert (bare >= -1).all() and (bare <= 256).all() and (mixed == mixed[:1, :1]).all()
    dots = (np.indices((32, 48)) % 4 < 2).all(0)
    assert bare[0, 0][dots].sum() == pytest.approx(4 * bare[0, 0][~dots].sum() / 3, rel=0.05)
    striped = FAULTS["stripes"](grey, 5).astype(int) - 100
    assert (striped == np.where(np.arange(48) % 8 < 4, 40, -40)[:, None]).all()
    flickered = FAULTS["flicker"](grey, 6)
    assert (flickered[:, ::2] == 130).all() and (flickered[:, 1::2] == 70).all()


def test_wrong_scale_enlarges_the_middle(scene: Scene) -> None:
    """A ramp becomes a flatter ramp around the same middle, by the factor 1 + s/16."""
    ramp = np.broadcast_to((4 * np.arange(48))[:, None], scene.frames.shape).astype(np.uint8)
    shown = FAULTS["wrong scale"](replace(scene, frames=ramp), 8)[0, 0, 16, :, 0].astype(float)
    middle = (np.arange(48) - 23.5) / 1.5 * 4 + 94
    assert np.abs(shown - middle)[4:-4].max() <= 1
