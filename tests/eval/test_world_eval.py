from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidar.eval.frame_metrics import MOST_DB
from vidar.eval.world_eval import evaluate, interval, latency, ratio_interval, sharpness_ratio, summary
from vidar.types import UsageError, VidarError

CONTEXT, FRAMES = 3, 16


class Oracle:
    """Knows the law of the turning game; refuses a context that its own actions do not explain."""

    shift = 0  # an error of this many frames in the alignment of the actions

    def frames(self, context, actions, context_actions=None, rngs=None, steps=None):
        frame = context.numpy()
        for t in range(1, frame.shape[1]):
            for row in range(len(frame)):
                step = 3 * int(context_actions[row, t, 1] - context_actions[row, t, 0])
                assert np.array_equal(np.roll(frame[row, t - 1], step, axis=1), frame[row, t])
        now, source = frame[:, -1], iter(actions)
        for _ in range(self.shift):
            next(source)
        for action in source:
            step = (3 * (action[:, 1] - action[:, 0])).int().tolist()
            now = np.stack([np.roll(one, by, axis=1) for one, by in zip(now, step)])
            yield torch.from_numpy(now)


class Late(Oracle):
    shift = 1

    def frames(self, context, actions, *rest, **more):
        padded = (a for part in (actions, [torch.zeros(len(context), 2)]) for a in part)
        yield from super().frames(context, padded, *rest, **more)


class Still:
    """Repeats the last context frame."""

    def frames(self, context, actions, context_actions=None, rngs=None, steps=None):
        for _ in actions:
            yield context[:, -1]


class Noise:
    """Hears no keys: noise of its own for every row and frame."""

    def frames(self, context, actions, context_actions=None, rngs=None, steps=None):
        for unit, _ in enumerate(actions):
            draws = [rng.uniform("start", unit=unit, shape=context.shape[2:]) for rng in rngs]
            yield (torch.stack(draws) * 255).to(torch.uint8)


def test_the_oracle_is_perfect_and_wrong_actions_are_not(turning):
    scores = evaluate(Oracle(), turning(5, 25), CONTEXT, FRAMES)
    assert (scores.psnr["model"] == MOST_DB).all() and np.allclose(scores.ssim["model"], 1.0)
    assert np.array_equal(scores.dreamed, scores.real)
    assert (scores.psnr["shuffled_actions"].mean(1) < 60).all()
    assert scores.gains["shuffled_actions"].mean > 20 and scores.gains["copy_last"].mean > 20
    assert np.array_equal(scores.looks["sharpness"]["model"], scores.looks["sharpness"]["real"])


def test_wrong_actions_are_those_of_the_next_episode_after_the_same_context(turning):
    episodes = turning(4, 19)
    scores = evaluate(Oracle(), episodes, CONTEXT, FRAMES)
    for e, episode in enumerate(episodes):
        now, others = episode.frames[CONTEXT - 1], episodes[(e + 1) % 4].actions
        for k in range(FRAMES):
            now = np.roll(now, 3 * int(others[CONTEXT + k, 1] - others[CONTEXT + k, 0]), axis=1)
            assert np.array_equal(scores.shuffled[e, k], now)


def test_actions_late_by_one_frame_are_noticed(turning):
    scores = evaluate(Late(), turning(5, 25), CONTEXT, FRAMES)
    assert scores.psnr["model"].mean() < 60


def test_frames_and_actions_are_those_after_the_context(turning):
    episodes = turning(3, 30)
    scores = evaluate(Oracle(), episodes, CONTEXT, FRAMES)
    for e, episode in enumerate(episodes):
        assert np.array_equal(scores.real[e, 0], episode.frames[CONTEXT])
        assert np.array_equal(scores.actions[e], episode.actions[CONTEXT : CONTEXT + FRAMES])
    assert scores.real.shape[:2] == (3, FRAMES)


def test_a_still_world_is_copy_last_exactly(turning):
    scores = evaluate(Still(), turning(4, 19), CONTEXT, FRAMES)
    assert np.array_equal(scores.psnr["model"], scores.psnr["copy_last"])
    gain = scores.gains["copy_last"]
    assert (gain.mean, gain.low, gain.high, gain.frames) == (0.0, 0.0, 0.0, (1, 16))
    assert np.array_equal(scores.ssim["model"], scores.ssim["copy_last"])


def test_a_deaf_world_has_the_same_noise_under_wrong_actions_and_in_any_batch(turning):
    episodes = turning(5, 19)
    one = evaluate(Noise(), episodes, CONTEXT, FRAMES, seed=7)
    assert np.array_equal(one.psnr["model"], one.psnr["shuffled_actions"])
    assert one.gains["shuffled_actions"].frames == (4, 16)
    two = evaluate(Noise(), episodes, CONTEXT, FRAMES, seed=7, batch=2)
    assert np.array_equal(one.dreamed, two.dreamed)
    assert len({row.tobytes() for row in one.dreamed}) == 5
    assert not np.array_equal(one.dreamed, evaluate(Noise(), episodes, CONTEXT, FRAMES, seed=8).dreamed)


def test_numbers_are_means_over_the_episodes_by_a_slow_loop(turning):
    episodes = turning(4, 21)
    report = summary(evaluate(Noise(), episodes, CONTEXT, FRAMES))
    dreamed = evaluate(Noise(), episodes, CONTEXT, FRAMES).dreamed
    for k in range(FRAMES):
        decibels = {"model": [], "copy_last": [], "mean_frame": []}
        for e, episode in enumerate(episodes):
            real = episode.frames[CONTEXT + k].astype(float)
            others = [x.frames[: CONTEXT + FRAMES] for n, x in enumerate(episodes) if n != e]
            answers = {
                "model": dreamed[e, k],
                "copy_last": episode.frames[CONTEXT - 1],
                "mean_frame": np.concatenate(others).astype(float).mean(0),
            }
            for name, answer in answers.items():
                error = ((answer.astype(float) - real) ** 2).mean()
                decibels[name].append(min(MOST_DB, 10 * math.log10(255**2 / error)) if error else MOST_DB)
        for name, values in decibels.items():
            assert report["psnr"][name][k] == pytest.approx(sum(values) / len(values), abs=1e-4)
    assert {name: len(values) for name, values in report["psnr"].items()} == dict.fromkeys(
        ("model", "copy_last", "mean_frame", "shuffled_actions"), FRAMES
    )
    assert {name: len(values) for name, values in report["ssim"].items()} == dict.fromkeys(report["psnr"], FRAMES)
    assert report["means"]["psnr"] == pytest.approx(np.mean(report["psnr"]["model"]), abs=1e-3)
    assert report["means"]["frames"] == [1, 16] and report["sharpness_ratio"] > 0
    assert len(report["sharpness"]["model"]) == len(report["sharpness"]["real"]) == FRAMES


def test_gains_are_paired_over_the_stated_frames(turning):
    scores = evaluate(Noise(), turning(4, 19), CONTEXT, FRAMES)
    for name, first, last in (("copy_last", 1, 16), ("shuffled_actions", 4, 16)):
        each = [
            sum(scores.psnr["model"][e][k] - scores.psnr[name][e][k] for k in range(first - 1, last))
            / (last - first + 1)
            for e in range(4)
        ]
        assert scores.gains[name].mean == pytest.approx(sum(each) / 4)
        half = 3.182446 * np.std(each, ddof=1) / 2  # t of 3 degrees of freedom, by a table
        assert scores.gains[name].high == pytest.approx(sum(each) / 4 + half, abs=1e-4)


def test_interval_closed_form():
    mean, half = interval(np.array([[1.0], [3.0]]))
    assert mean[0] == 2.0 and half[0] == pytest.approx(12.7062, abs=1e-3)  # t of 1 degree of freedom x sd / sqrt 2 = 1


def test_sharpness_ratio_is_a_ratio_of_means_over_the_frames_of_the_protocol():
    dream, real = np.full((2, 20), 9.0), np.full((2, 20), 7.0)
    dream[:, :16], real[0, :16], real[1, :16] = 1.0, 1.0, 3.0
    assert sharpness_ratio({"model": dream, "real": real}) == 0.5  # 1 over 2, not the mean of 1 and 1/3


def test_ratio_interval_closed_form():
    below = np.array([[2.0], [4.0], [6.0]])
    ratio, half = ratio_interval(0.5 * below, below)
    assert (ratio[0], half[0]) == (0.5, 0.0)  # the ratio is the same in every episode
    ratio, half = ratio_interval(np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]]))
    assert ratio[0] == 1.0 and half[0] == pytest.approx(12.7062 / 2, abs=1e-3)  # as the interval of 1, 3, over 2


def test_progress_counts_all_frames_of_both_rollouts(turning):
    seen = []
    evaluate(Still(), turning(3, 19), CONTEXT, FRAMES, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (96, 96) and seen == sorted(seen)


def test_latency_counts_frames_after_the_warm_up(turning):
    import time

    class Slow(Still):
        def frames(self, context, actions, *rest):
            for number, frame in enumerate(super().frames(context, actions)):
                time.sleep(0.05 if number < 2 else 0.002)
                yield frame

    times = latency(Slow(), turning(1, 8)[0], CONTEXT, frames=20, warm_up=2)
    assert times.shape == (20,) and 2.0 <= np.median(times) < 30


def test_bad_input_is_named(turning):
    episodes = turning(3, 19)
    with pytest.raises(UsageError, match="at least 2 episodes"):
        evaluate(Still(), episodes[:1], CONTEXT, FRAMES)
    with pytest.raises(UsageError, match="16 frames"):
        evaluate(Still(), episodes, CONTEXT, 15)
    with pytest.raises(VidarError, match="turning-0: has 19 frames, but 20 are needed"):
        evaluate(Still(), episodes, CONTEXT, FRAMES + 1)
    flat = [replace(e, frames=e.frames[:, :10]) for e in episodes]
    with pytest.raises(VidarError, match="turning-0: frames of 10 x 24; the metrics need at least 11 pixels a side"):
        evaluate(Still(), flat, CONTEXT, FRAMES)
    small = replace(episodes[1], frames=episodes[1].frames[:, :8])
    with pytest.raises(VidarError, match="turning-1: its frames differ"):
        evaluate(Still(), [episodes[0], small], CONTEXT, FRAMES)
