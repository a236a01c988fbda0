"""Scores of reward and end: by hand, on recorded frames, on dreams; the suite reports them."""

import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.data.shards import ShardWriter
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.eval.outcome import Judged, Play, end_score, on_dreams, on_recorded, plays, r_squared, reward_score, together
from vidar.eval.paired import read_paired
from vidar.eval.suites import run_suite
from vidar.model.load import save
from vidar.model.model import VideoModel
from vidar.nn.outcome import OutcomeNetConfig
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

RIGHT, UP = 2, 3


def with_head(change):
    torch.manual_seed(0)
    plain = world_shapes(preset="tiny").method.world.replace(context=4).build()
    head = OutcomeNetConfig(spec=SPEC, rows=4, columns=4, channels=8, width=8, kept=2, hidden=8).build()
    with torch.no_grad():
        for parameter in plain.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        change(head)
    return VideoModel(plain.config, plain.tokenizer, plain.net, outcome=head)


def obeying(head):
    """Right is worth 2, up ends the game."""
    layer = head.hidden[0]
    layer.weight.zero_(), layer.bias.zero_()
    layer.weight[0, RIGHT - 5], layer.weight[1, UP - 5] = 20.0, 20.0  # of the 5 moves, which come last
    head.out.weight[0, 0], head.out.weight[1, 1] = 0.1, 1.0


@pytest.fixture(scope="module")
def world():
    return with_head(obeying)


def play(seed, length):
    """Rewards and ends that follow the moves, as the head of `obeying` has it."""
    moves = np.random.default_rng(seed).integers(0, 5, (length, 1)).astype(np.float32)
    moves[0], moves[-1] = 0, UP
    episode = ShapesConfig().build().episode(seed, actions=moves)
    return Play(episode.frames, moves, 2.0 * (moves[:, 0] == RIGHT), (moves[:, 0] == UP).astype(float))


def test_r_squared_by_hand():
    truth = np.array([0.0, 0, 3, 5])
    assert r_squared(truth, truth) == 1 and r_squared(truth, np.full(4, 2.0)) == 0
    assert math.isclose(r_squared(truth, np.array([1.0, 0, 3, 4])), 1 - 2 / 18)
    assert math.isnan(r_squared(np.ones(3), np.ones(3))) and math.isnan(r_squared(np.zeros(0), np.zeros(0)))


def test_scores_by_hand():
    nan = math.nan
    steps = Judged(
        reward=np.array([1.0, 3, nan, 2]),
        last=np.array([0.0, 1, 3, nan]),
        found=np.array([1.0, 2, 9, 9]),
        ended=np.array([0.0, 1, nan, 1]),
        probability=np.array([0.7, 0.6, 0.9, 0.5]),
    )
    reward, end = reward_score(steps), end_score(steps)
    assert (reward.world, reward.last, reward.count) == (1 - 1 / 2, 1 - 5 / 2, 2)
    assert end.table.tolist() == [[0, 1], [1, 1]]
    assert (end.precision, end.recall, end.balanced_accuracy) == (1 / 2, 1 / 2, 1 / 4)
    nobody = end_score(replace(steps, ended=np.full(4, nan)))
    assert nobody.table.sum() == 0 and all(map(math.isnan, (nobody.precision, nobody.recall, nobody.balanced_accuracy)))


def test_recorded_and_dreamed_steps_stand_beside_their_own_actions(world):
    shown = play(0, 30)
    for steps, count in ((on_recorded(world, shown), 29), (together(on_dreams(world, [shown])), 32)):
        assert reward_score(steps).world > 0.999 and reward_score(steps).last < 0.5 and len(steps.found) == count
        score = end_score(steps)
        assert score.precision == score.recall == score.balanced_accuracy == 1.0 and score.table.min() == 0
    assert np.array_equal(on_recorded(world, shown).last, shown.rewards[:-1])


def test_the_windows_of_a_dream_are_its_begin_and_its_end(world):
    found = on_dreams(world, [play(1, 30), play(2, 20), play(3, 19)])
    first, second, third = found  # 30: two; 20 = 4 of context and 16: one; 19: none
    assert np.array_equal(first.reward, play(1, 30).rewards[4:20])
    assert np.array_equal(second.reward, play(1, 30).rewards[14:30])
    assert np.array_equal(third.reward, play(2, 20).rewards[4:20])
    with pytest.raises(VidarError, match="no episode is long enough"):
        together(on_dreams(world, [play(3, 19)]))


def test_what_is_judged_of_a_dream_are_the_latents_it_dreamed():
    world = with_head(lambda head: torch.nn.init.normal_(head.out.weight))
    shown = play(4, 30)
    second = on_dreams(world, [shown])[1]
    actions = torch.from_numpy(shown.actions[14 - 4 :])
    codes = world.encode(torch.from_numpy(shown.frames[10:14].copy())[None])
    made = world.codes(codes, iter(actions[None, 4:].unbind(1)), actions[None, :4], [Rng(0, 1)])
    codes = torch.cat([codes[0, -1:], torch.cat(list(islice(made, 16)))])
    wanted = world.outcomes(torch.stack([codes[:-1], codes[1:]], 1), actions[4:])[0]
    np.testing.assert_allclose(second.found, wanted.numpy(), rtol=1e-3, atol=1e-4)
    real = world.encode(torch.from_numpy(shown.frames.copy())[None])[0]
    wanted = world.outcomes(torch.stack([real[:-1], real[1:]], 1), torch.from_numpy(shown.actions[1:]))[0]
    np.testing.assert_allclose(on_recorded(world, shown).found, wanted.numpy(), rtol=1e-5)
    assert np.abs(second.found - on_recorded(world, shown).found[13:]).max() > 1e-2


def test_the_suite_reports_both(world, tmp_path):
    save(world, tmp_path / "world")
    with ShardWriter(tmp_path / "data", "heldout", SPEC) as writer:
        for seed in range(3):
            shown = play(seed, 24)
            extras = {"rewards": shown.rewards.astype(np.float32), "ended": shown.ended.astype(bool)}
            extras = extras if seed < 2 else {"rewards": extras["rewards"]}  # of before `ended`
            writer.write(replace(ShapesConfig().build().episode(seed, actions=shown.actions), extras=extras))
    made = run_suite("outcome", str(tmp_path / "world"), tmp_path / "out", {"data": tmp_path / "data"})
    assert made == json.loads((tmp_path / "out" / "report.json").read_text()) and made["episodes"] == 3
    rewards = made["recorded"]["reward"], made["dreamed"]["reward"]
    assert [score["steps"] for score in rewards] == [69, 96] and all(score["r2"] > 0.999 for score in rewards)
    assert rewards[0]["r2_of_last_reward"] < 0.5
    ends = sum(int(play(seed, 24).ended.sum()) for seed in (0, 1))
    end = made["recorded"]["end"]
    assert (end["found"], end["missed"], end["false_alarms"], end["other_steps"]) == (ends, 0, 0, 46 - ends)
    paired = read_paired(tmp_path / "out").figures
    errors = paired.values["squared error of the reward, recorded frames"]
    known = np.concatenate([play(seed, 24).rewards[1:] for seed in range(3)])
    assert np.isclose(np.mean(errors), (1 - rewards[0]["r2"]) * known.var(), atol=2e-4) and len(errors) == 3
    assert paired.left_out["Brier score of the end, recorded frames"] == "not measured for 1 of 3 starts"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "balanced accuracy" in page and f"<td>{rewards[1]['r2']}</td>" in page
    with pytest.raises(VidarError, match="not those of world 'shapes'"):
        list(
            plays(
                VideoModel(world.config.replace(height=64), world.tokenizer, world.net),
                str(tmp_path / "data"),
                "heldout",
            )
        )
    with pytest.raises(VidarError, match="has no head for reward and end"):
        run_suite("outcome", "doom", tmp_path / "out", {"data": tmp_path / "data"})
    with pytest.raises(UsageError, match="needs recorded play .*--data"):
        run_suite("outcome", str(tmp_path / "world"), tmp_path / "out", {})
