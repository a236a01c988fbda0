"""Figures per start: their means are those of the report, and they see what became worse."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from vidar.eval.endless_figures import real_range, sample
from vidar.eval.endless_measure import ends, measure
from vidar.eval.endless_play import assemble, joined
from vidar.eval.outcome import Judged
from vidar.eval.suite_figures import endless_strips, of_endless, of_outcome, of_world, world_strips
from vidar.eval.world_eval import evaluate, sharpness_ratio, summary

CONTEXT, FRAMES = 3, 20


class Recorded:
    """Dreams what was recorded, a little darker every frame by `fade`."""

    def __init__(self, episodes, fade=0.0):
        self.clips, self.fade = np.stack([episode.frames for episode in episodes]), fade

    def frames(self, context, actions, context_actions=None, rngs=None, steps=None):
        for k, _ in enumerate(actions):
            seen = self.clips[[rng.video for rng in rngs], context.shape[1] + k]
            yield torch.from_numpy((seen * (1 - self.fade) ** (k + 1)).astype(np.uint8))


def test_world_figures_are_those_of_the_report(turning):
    episodes = turning(4, CONTEXT + FRAMES)
    scores = evaluate(Recorded(episodes, 0.02), episodes, CONTEXT, FRAMES)
    found, told = of_world(scores, CONTEXT, 10.0), summary(scores)
    means = {name: np.mean(values) for name, values in found.values.items()}
    assert abs(means["PSNR, dB, frames 1-16"] - told["means"]["psnr"]) < 1e-4
    assert abs(means["SSIM, frames 1-16"] - told["means"]["ssim"]) < 1e-4
    assert abs(means["PSNR, dB, frames 1-20"] - np.mean(told["psnr"]["model"])) < 1e-4
    assert abs(means["PSNR over the wrong keys, dB, frames 4-16"] - told["gains"]["shuffled_actions"]["mean"]) < 1e-4
    away = means["sharpness, share away from the game's, frames 1-16"]
    assert abs(away - (1 - sharpness_ratio(scores.looks["sharpness"]))) < 0.01  # all darker: signs do not cancel
    assert found.pairing["starts"] == [f"turning-{n}" for n in range(4)] and found.pairing["context"] == CONTEXT
    assert [n for n, b in found.better.items() if b == "lower"] == [list(found.values)[-1]]


def test_pairing_is_the_same_for_other_models_and_sees_other_frames(turning):
    episodes = turning(4, CONTEXT + FRAMES)
    pairings = [
        of_world(evaluate(Recorded(shown, fade), shown, CONTEXT, FRAMES), CONTEXT, 10.0).pairing
        for shown, fade in ((episodes, 0.0), (episodes, 0.1))
    ]
    assert pairings[0] == pairings[1]
    episodes[1].frames[CONTEXT + 2, 0, 0, 0] ^= 1
    other = of_world(evaluate(Recorded(episodes), episodes, CONTEXT, FRAMES), CONTEXT, 10.0).pairing
    assert {key for key in other if other[key] != pairings[0][key]} == {"real_frames"}


def test_endless_figures_see_a_fading_dream(turning, tmp_path):
    games = lambda seed: iter(turning(seed + 9, 80)[seed:])  # noqa: E731
    recordings = [joined(games(9 * e), CONTEXT + 100, 16) for e in range(3)]
    samples = [sample(one.frames, one.actions.any(-1), one.joins) for one in recordings]
    played = assemble(recordings, real_range(samples, 0.01), np.zeros(2, np.float32), CONTEXT, 10.0, 16)
    real, faded = (measure(Recorded(recordings, fade), played) for fade in (0.0, 0.03))
    fine, worse = of_endless(real), of_endless(faded)
    assert fine.pairing == worse.pairing and len(fine.pairing["starts"]) == 3
    assert worse.values["frames survived"] == ends(faded.survival["model"]).tolist()
    assert max(worse.values["frames survived"]) < 100
    late = "late frames outside the real range of brightness"
    assert worse.values[late] == [1.0] * 3 and max(fine.values[late]) < 0.2
    motion = "motion, grey levels away from the game's"
    assert fine.values[motion] == [0.0] * 3 and min(worse.values[motion]) > 1
    assert fine.better["frames survived"] == "higher" and set(list(fine.better.values())[1:]) == {"lower"}
    entries = endless_strips(real, tmp_path)
    assert list(entries["strips"]) == fine.pairing["starts"] and entries["strip_heads"][-1] == "frame 100"
    for file in entries["strips"].values():
        assert Image.open(tmp_path / file).size == (8 * 28 - 4, 2 * 20 - 4)


def steps(reward, found, ended, probability):
    return Judged(*(np.array(values, float) for values in (reward, reward, found, ended, probability)))


def test_outcome_figures_by_hand_and_unknown_ones_left_out():
    nan = np.nan
    one = steps([1, nan, 3], [1.5, 9, 3], [0, 1, nan], [0.2, 0.5, 0.9])
    two = steps([2, 2, 2], [2, 2, 1], [0, 0, 0], [0, 0, 0.3])
    found = of_outcome(["x", "y"], {"recorded": [one, two], "dreamed": [one, None]}, 4, 10.0)
    assert np.allclose(found.values["squared error of the reward, recorded frames"], [0.125, 1 / 3])
    assert np.allclose(found.values["Brier score of the end, recorded frames"], [(0.04 + 0.25) / 2, 0.03])
    assert set(found.left_out) == {
        "squared error of the reward, dreamed frames",
        "Brier score of the end, dreamed frames",
    }
    assert set(found.better.values()) == {"lower"}


def test_strips_show_game_above_dream(turning, tmp_path):
    episodes = turning(2, CONTEXT + FRAMES)
    scores = evaluate(Recorded(episodes, 0.1), episodes, CONTEXT, FRAMES)
    sheet = np.asarray(Image.open(tmp_path / world_strips(scores, tmp_path)["strips"]["turning-1"]))
    assert np.array_equal(sheet[:16, :24, :3], scores.real[1, 0])
    assert np.array_equal(sheet[20:, -24:, :3], scores.dreamed[1, -1])
