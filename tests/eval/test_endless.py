"""The suite `endless`: every figure by hand-made cases; dreams that fail exactly the lines they should."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.configs.doom import world_doom
from vidar.data.episode import Episode
from vidar.eval import endless_measure as module
from vidar.eval.endless import run
from vidar.eval.endless_figures import (
    Line,
    RealRange,
    difference,
    first_run,
    looks,
    outside,
    ratio_of_means,
    real_range,
    sample,
    survival,
)
from vidar.eval.endless_measure import FrameTimes, ends, frame_times, lines, measure
from vidar.eval.endless_play import EndlessConfig, assemble, joined
from vidar.eval.endless_report import endless_page, summary
from vidar.eval.frame_metrics import sharpness
from vidar.types import UsageError, VidarError

SPEC = ActionSpec(actions=(Action(name="LEFT"), Action(name="RIGHT")))
CONTEXT, FRAMES, ROLLOUTS, STEP = 4, 400, 3, 3
LOOKS = {"brightness", "contrast", "sharpness"}


def walk(seed: int, frames: int) -> Episode:
    """A walk along a ring of coloured columns: a key moves the view by 3 columns."""
    columns = (
        np.random.default_rng(7).normal(0, 12, (16, 400, 3)) + 25 * np.sin(np.arange(400) / 400 * 2 * np.pi)[:, None]
    )
    ring = np.clip(110 + columns, 0, 160).astype(np.uint8)
    rng = np.random.default_rng(seed)
    place, pictures, rows = int(rng.integers(400)), [], np.zeros((frames, 2), np.float32)
    while len(pictures) < frames:
        key = int(rng.integers(3))
        for _ in range(int(rng.integers(3, 6 if key == 2 else 30))):
            if pictures and key < 2 and len(pictures) < frames:
                rows[len(pictures), key] = 1.0
                place += STEP * (2 * key - 1)
            pictures.append(ring[:, (place + np.arange(24)) % 400])
    return Episode(np.stack(pictures[:frames]), rows, 10.0, SPEC, f"walk-{seed:09d}", "test")


@pytest.fixture(scope="module")
def played():
    others = []
    for seed in range(100, 106):
        one = joined((walk(10 * seed + k, 150) for k in range(9)), FRAMES, 32)
        others.append(sample(one.frames, one.actions.any(-1), one.joins))
    recordings = [joined((walk(10 * e + k, 150) for k in range(9)), CONTEXT + FRAMES, 32) for e in range(ROLLOUTS)]
    return assemble(recordings, real_range(others, 0.01), SPEC.noop(), CONTEXT, 10.0, 32)


class Dream:
    """The recorded frames, changed by `change(k, frames float [B, H, W, 3])`; asks for every action."""

    def __init__(self, played, change=lambda k, frames: frames, other=0):
        self.recorded, self.change, self.other = played.frames, change, other

    def frames(self, context, actions, context_actions=None, rngs=None, steps=None):
        rows = [(rng.video + self.other) % len(self.recorded) for rng in rngs]
        assert self.other or np.array_equal(context, self.recorded[rows, :CONTEXT])
        for k, _ in enumerate(actions):
            made = self.change(k, self.recorded[rows, CONTEXT + k].astype(float))
            yield torch.from_numpy(made.round().clip(0, 255).astype(np.uint8))


class Frozen(Dream):
    """Stands still from frame 100 on."""

    def frames(self, context, *rest, **more):
        for k, frame in enumerate(super().frames(context, *rest, **more)):
            last = frame if k <= 100 else last  # noqa: F821
            yield last


def reads_keys(frames, actions, poses):
    """Balanced accuracy of the shift between neighbouring frames; where all shifts fit alike it says none."""
    values = frames.astype(float)
    values = values - values.mean((2, 3, 4), keepdims=True)
    old, new = values[:, :-1], values[:, 1:]
    fits = [
        np.abs(old - new).mean((2, 3, 4)),
        np.abs(old[:, :, :, :-STEP] - new[:, :, :, STEP:]).mean((2, 3, 4)),
        np.abs(old[:, :, :, STEP:] - new[:, :, :, :-STEP]).mean((2, 3, 4)),
    ]
    found, truth = np.argmin(fits, 0), (actions[:, 1:] @ np.array([1, 2])).astype(int)
    return {"mean": float(np.mean([(found[truth == label] == label).mean() for label in range(3)]))}


def noise(k, frames):
    return np.random.default_rng(k).uniform(0, 255, frames.shape)


def fades(k, frames):
    grey = min(1.0, k / 100)
    return frames * (1 - grey) + 110 * grey


@pytest.mark.parametrize(
    ("dream", "fails"),
    [
        (lambda p: Dream(p), set()),
        (lambda p: Dream(p, fades), {"contrast", "sharpness", "motion", "motion_late", "actions"}),
        (lambda p: Frozen(p), {"motion", "motion_late", "actions"}),
        (lambda p: Dream(p, lambda k, frames: frames + 0.2 * k), {"brightness"}),
        (lambda p: Dream(p, noise), {"contrast", "sharpness", "motion", "motion_late", "actions"}),
        (lambda p: Dream(p, other=1), {"actions"}),  # a fine game that hears no keys
    ],
    ids=("real", "fades", "freezes", "brightens", "noise", "deaf"),
)
def test_a_dream_fails_exactly_its_lines(played, dream, fails):
    found = lines(measure(dream(played), played, judge=reads_keys))
    assert {name for name, line in found.items() if line.passed is False} == fails
    assert {name for name, line in found.items() if line.passed is None} == {"cache", "frame_time"}


def test_the_real_recording_is_itself(played):
    scores = measure(Dream(played), played, judge=reads_keys)
    assert np.array_equal(scores.dreamed, played.frames[:, CONTEXT:]) and np.array_equal(scores.real, scores.dreamed)
    found = lines(scores)
    assert all(found[name].figure == found[name].real < 0.05 for name in LOOKS)
    assert all(found[name].figure == 1.0 for name in ("motion", "motion_late", "actions"))
    assert ends(scores.survival["model"]).tolist() == ends(scores.survival["real"]).tolist() == [FRAMES] * ROLLOUTS


def test_survival_of_dreams(played):
    frozen = measure(Frozen(played), played).survival["model"]
    assert (frozen["looks"] == FRAMES).all()
    down = played.pressed[:, CONTEXT:]
    for e in range(ROLLOUTS):  # the first second after the freeze in which keys are down all the time
        want = next(k for k in range(101, FRAMES) if down[e, k : k + 10].all())
        assert frozen["still"][e] == want + 1
    noisy = measure(Dream(played, lambda k, f: noise(k, f) if k >= 50 else f), played).survival["model"]
    assert (noisy["looks"] == 51).all() and (noisy["still"] == FRAMES).all()


def test_nothing_counts_across_a_join(played):
    joins = played.joins[:, CONTEXT:]
    assert joins.sum() >= 2 * ROLLOUTS
    flash = Dream(played, lambda k, f: np.where(joins[:, k, None, None, None], 255.0, f))
    assert lines(measure(flash, played))["motion"].figure > 1.05  # the frame after each join is seen, the join is not
    counted = ~joins
    scores = measure(Dream(played), played)
    assert scores.motion["real"][counted].mean() < scores.motion["real"].mean()


def test_a_leak_is_seen(played):
    class Leaks(Dream):
        def frames(self, *args, **more):
            self.kept = []
            for frame in super().frames(*args, **more):
                self.kept.append(np.ones(400_000, np.uint8))
                yield frame

    memory = lines(measure(Leaks(played), played))["memory"]
    assert memory.passed is False and memory.figure > 1.01


def test_the_cache_of_a_world_stays_and_a_moved_one_is_seen():
    torch.manual_seed(0)
    config = world_doom(preset="tiny").method.world
    world = config.replace(objective=config.objective.replace(steps=1)).build()
    rng = np.random.default_rng(0)
    one = Episode(
        rng.integers(0, 255, (68, 64, 80, 3), dtype=np.uint8), np.zeros((68, 5), np.float32), 17.5, SPEC, "a", ""
    )
    others = RealRange(dict.fromkeys(LOOKS, (0.0, 1.0)), 0.0, 1)
    one_row = assemble([joined([one], 68, 8)], others, np.zeros(5, np.float32), 4, 17.5, 8)
    found = lines(measure(world, one_row))
    assert found["cache"].figure == 0
    assert found["actions"].passed is None and "no inverse-dynamics network" in found["actions"].why
    calls = []

    def move(_, inputs):
        calls.append(0)
        if len(calls) == 50:
            ring = inputs[3].rings["main"]
            ring.k = ring.k.clone()

    handle = world.net.register_forward_pre_hook(move)
    line = lines(measure(world, one_row))["cache"]
    handle.remove()
    assert line.figure == 1 and line.passed is False
    assert not world.net._forward_pre_hooks  # measuring leaves nothing behind


def test_frame_times_compare_an_old_and_a_young_stream_in_turn(played, monkeypatch):
    """A clock that only the streams move: frame k takes 1 + slope * k ms."""
    now, order = [0.0], []
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def world(slope):
        class Slow(Dream):
            def frames(self, context, actions, *rest):
                for k, _ in enumerate(actions):
                    now[0] += 1e-3 * (1 + slope * k)
                    order.append(k)
                    yield context[:, -1]

        return Slow(played)

    even = frame_times(world(0.0), played, window=5)
    assert len(even.young) == 2 * 5 and len(even.old) == 2 * 15
    assert np.allclose(even.young, 1.0) and np.allclose(even.old, 1.0)
    assert order[: FRAMES - 15] == list(range(FRAMES - 15))
    assert order[FRAMES - 15 : FRAMES + 15] == [k for pair in zip(range(FRAMES - 15, FRAMES), range(15)) for k in pair]
    rising = frame_times(world(0.01), played, window=5, repeats=1)
    assert np.allclose(rising.young, 1 + 0.01 * np.arange(10, 15))
    assert np.allclose(rising.old, 1 + 0.01 * np.arange(FRAMES - 15, FRAMES))
    scores = measure(Dream(played), played)
    assert lines(scores, even)["frame_time"].passed is True and lines(scores, rising)["frame_time"].passed is False
    for ratio, passed in ((0.89, False), (0.91, True), (1.09, True), (1.11, False)):
        assert lines(scores, FrameTimes(np.ones(3), np.full(5, ratio)))["frame_time"].passed is passed
    with pytest.raises(UsageError, match="at least 480"):
        frame_times(world(0.0), played, window=80)


def test_first_run_by_hand():
    rows = ["0110111", "1110000", "0000000", "0000011", "1101100"]
    bad = np.array([[c == "1" for c in row] for row in rows])
    assert first_run(bad, 3).tolist() == [5, 1, 7, 7, 7]
    assert first_run(bad, 2).tolist() == [2, 1, 7, 6, 1]
    assert first_run(bad, 8).tolist() == [7] * 5


def test_survival_by_hand():
    inside = RealRange({"brightness": (0.0, 1.0), "contrast": (0.0, 1.0), "sharpness": (0.0, 1.0)}, 2.0, 1)
    fine = {name: np.full((1, 12), 0.5) for name in LOOKS}
    lively, down = np.full((1, 12), 5.0), np.ones((1, 12), bool)

    def lasts(motion=lively, pressed=down, **looks):
        found = survival({**fine, **{k: np.array([v]) for k, v in looks.items()}}, motion, pressed, inside, 3)
        return int(found["looks"][0]), int(found["still"][0])

    assert lasts() == (12, 12)
    assert lasts(contrast=[0.5] * 4 + [1.5] * 3 + [0.5] * 5) == (5, 12)
    assert lasts(contrast=[0.5] * 4 + [1.5] * 2 + [0.5] * 6) == (12, 12)  # less than a second
    assert lasts(brightness=[-1.0] + [0.5] * 11, sharpness=[0.5, 2.0, 2.0] + [0.5] * 9) == (1, 12)  # one look each
    assert lasts(brightness=[math.nan] * 12) == (1, 12)
    slow = lively.copy()
    slow[0, 6:9] = 0.0, 1.0, 2.0
    assert lasts(motion=slow) == (12, 7)
    slow[0, 10:12] = 0.0  # less than a second
    assert lasts(motion=slow) == (12, 7)
    up = down.copy()
    up[0, 7] = False  # one frame of it without a key
    assert lasts(motion=slow, pressed=up) == (12, 12)


def test_ranges_shares_and_ratios_by_hand():
    frames = np.zeros((101, 16, 16, 3), np.uint8) + np.arange(101, dtype=np.uint8)[:, None, None, None]
    pressed, joins = np.ones(101, bool), np.zeros(101, bool)
    frames[50:] += 100
    joins[50] = True  # the one jump that was never played
    one = sample(frames, pressed, joins)
    assert len(one.moved) == 99 and np.allclose(one.moved, 1.0)
    found = real_range([one, one], 0.01)
    assert found.still == 1.0 and found.frames == 202
    assert found.looks["brightness"] == pytest.approx((1.0, 199.0)) and found.looks["contrast"] == pytest.approx((0, 0))
    assert outside(np.array([[0.9, 1.0, 199.0, 199.1]]), found.looks["brightness"]).tolist() == [
        [True, False, False, True]
    ]
    real, dreamed = np.array([[2.0, 100.0, 4.0]]), np.array([[1.0, 100.0, 2.0]])
    assert ratio_of_means(dreamed, real, np.array([[True, False, True]])) == 0.5
    assert math.isnan(ratio_of_means(dreamed, real * 0, np.ones((1, 3), bool)))


def test_looks_and_difference_by_a_slow_loop():
    videos = np.random.default_rng(0).integers(0, 256, (2, 300, 8, 10, 3), dtype=np.uint8)
    assert np.allclose(looks(videos)["sharpness"], sharpness(videos).numpy())
    before = videos[:, 5]
    want = [
        [np.abs(videos[e, t].astype(int) - (videos[e, t - 1] if t else before[e])).mean() for t in range(300)]
        for e in (0, 1)
    ]
    assert np.allclose(difference(videos, before), want)


def test_a_line_that_is_no_number_fails_and_a_missing_one_is_open():
    assert Line("", math.nan, most=1.0).passed is False and Line("", None, most=1.0).passed is None
    assert [Line("", x, 0.5, 2.0).passed for x in (0.49, 0.5, 2.0, 2.01)] == [False, True, True, False]


def test_games_are_joined_whole_and_the_last_one_is_long_enough():
    games = [walk(seed, 100) for seed in range(5)]
    one = joined(iter(games), 210, 32)
    assert one.games == tuple(g.name for g in games[:3]) and np.flatnonzero(one.joins).tolist() == [0, 100, 178]
    parts = [games[0].frames, games[1].frames[:78], games[2].frames[:32]]
    assert np.array_equal(one.frames, np.concatenate(parts))
    assert not one.actions[one.joins].any() and one.poses is None
    assert joined(iter(games), 250, 32).joins.nonzero()[0].tolist() == [0, 100, 200]
    assert joined(iter(games), 80, 32).games == (games[0].name,)
    with pytest.raises(VidarError, match="500 of 600 frames could be played"):
        joined(iter(games), 600, 32)


def test_bad_input_is_one_line(played, tmp_path):
    with pytest.raises(UsageError, match="at least 64 frames, not 4 and 40"):
        measure(Dream(played), SimpleNamespace(context=4, frames=played.frames[:, :44]))
    with pytest.raises(VidarError, match="ended after 99 of 400 frames"):
        short = SimpleNamespace(frames=lambda *a, **k: list(Dream(played).frames(*a, **k))[:99])
        measure(short, played)
    with pytest.raises(UsageError, match="seeds 0 to"):
        EndlessConfig().first_of(2**32)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, but a report needs a folder"):
        run("doom", tmp_path / "file")


def test_the_report_of_an_oracle_passes_everything(played):
    scores = measure(Dream(played), played, judge=reads_keys)
    times = FrameTimes(np.ones(3), np.ones(5))
    found = lines(scores, times)
    report = summary(scores, found, times)
    assert {name for name, passed in report["passed"].items() if passed is not True} == {"cache"}
    assert report["survival"]["mean"] == report["survival"]["real_mean"] == FRAMES
    assert report == json.loads(json.dumps(report, allow_nan=False))
    facts = {"world": "ring", "params": 0, "fps": 10.0, "rollouts": 3, "frames": FRAMES, "context": 4, "hardware": "x"}
    page = endless_page({**facts, **report}, scores, found)
    assert "8 of 8" in page and "1 not measured" in page
