"""From a model to a page and its key: the real game is where the key says, lengths and sides are balanced."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch

from vidar.configs.catalog import find, find_world
from vidar.configs.doom import world_doom
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import decode_video
from vidar.eval.blind import planned, run
from vidar.eval.blind_clips import RECORDED, dreams, from_data, from_game
from vidar.eval.blind_page import GAP
from vidar.eval.frame_metrics import psnr
from vidar.eval.held_out import game_of, recorded
from vidar.eval.protocol import WORLD
from vidar.eval.ruler_play import RulerConfig
from vidar.model.load import load, save
from vidar.types import UsageError, VidarError

CONTEXT, COUNT = 3, 5
LENGTHS = (0.5, 1.5)  # 5 and 15 frames at 10 frames/s


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    record(ShapesConfig(), None, folder, episodes=COUNT, frames=CONTEXT + 2 + 16, split="heldout")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two tiny worlds whose networks do something; the second has a longer context."""
    folder = tmp_path_factory.mktemp("models")
    recipe = find_world(find("world_shapes")(preset="tiny"))
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        world = recipe.replace(context=CONTEXT + 2 * seed).build()
        with torch.no_grad():
            for weight in world.net.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        save(world, folder / name, dtype=torch.float32)
    return folder


def shown(folder):
    """key.json, and trial -> (left, right, start or None), uint8 [T, H, W, 3]."""
    key, html = json.loads((folder / "key.json").read_text()), (folder / "blind.html").read_text()
    page = json.loads(re.search(r'id="page">(.*?)</script>', html, re.S)[1])
    assert page["id"] == key["page"] and page["kind"] == key["kind"]
    found = {}
    for trial in page["trials"]:
        pair, start = (
            None if uri is None else decode_video(base64.b64decode(uri.split(",")[1]))
            for uri in (trial["pair"], trial["start"])
        )
        wide = (pair.shape[2] - GAP) // 2
        found[trial["id"]] = pair[:, 1::4, 1:wide:4], pair[:, 1::4, wide + GAP + 1 :: 4], start
    return key, found


def same(video, clip):
    return float(psnr(video[None], clip[None], 255.0).mean()) > 25  # dreams of noise, after the codec; others: 13 dB


def test_the_real_game_is_where_the_key_says(shards, models, tmp_path):
    out = tmp_path / "a" / "b"
    made = run(str(models / "one"), out, clips=COUNT, seconds=LENGTHS, seed=4, data=shards)
    key, trials = shown(out)
    assert key == made and sorted(file.name for file in out.iterdir()) == ["blind.html", "key.json"]
    world = load(models / "one")
    source = from_data(world.config, shards, "heldout", COUNT, 15, CONTEXT)
    dreamed = dreams(world, source, 4)
    assert sorted(trial["start"] for trial in key["trials"].values()) == sorted(source.names)
    assert list(key["trials"]) == list(trials)
    for name, trial in key["trials"].items():
        number = list(source.names).index(trial["start"])
        left, right, start = trials[name]
        real, other = (left, right) if trial["answer"] == "left" else (right, left)
        first, length = source.starts[number].frames[-1:], trial["frames"]
        assert length == round(10 * trial["seconds"]) and len(left) == 1 + length and start is None
        assert same(real, np.concatenate([first, source.real[number, :length]]))
        assert same(other, np.concatenate([first, dreamed[number, :length]]))
        assert not same(other, real)
    assert sorted(trial["seconds"] for trial in key["trials"].values()) == [0.5, 0.5, 0.5, 1.5, 1.5]
    assert key["models"] == {"dream": str(models / "one")} and "--data" in key["command"]
    before = (out / "blind.html").read_bytes()
    run(str(models / "one"), out, clips=COUNT, seconds=LENGTHS, seed=4, data=shards)
    assert (out / "blind.html").read_bytes() == before  # and it may be repeated


def test_two_models_go_on_from_the_same_start(shards, models, tmp_path):
    made = run(str(models / "one"), tmp_path, against=str(models / "two"), clips=4, seconds=(1.0,), seed=1, data=shards)
    key, trials = shown(tmp_path)
    assert made["models"] == {"A": str(models / "one"), "B": str(models / "two")} and key["kind"] == "models"
    one, two = load(models / "one"), load(models / "two")
    source = from_data(one.config, shards, "heldout", 4, 10, CONTEXT + 2)
    first, second = dreams(one, source, 1), dreams(two, source, 1)
    for name, trial in key["trials"].items():
        number = list(source.names).index(trial["start"])
        left, right, start = trials[name]
        a, b = (left, right) if trial["answer"] == "left" else (right, left)
        assert same(a[1:], first[number]) and same(b[1:], second[number]) and not same(a[1:], second[number])
        assert len(start) == CONTEXT + 2 and same(a[:1], source.starts[number].frames[-1:])


def test_lengths_and_sides_are_balanced_and_random():
    plan = planned(40, (1.6, 3.2), 0)
    assert sorted(plan.seconds) == [1.6] * 20 + [3.2] * 20 and plan.first_left.sum() == 20 and len(set(plan.ids)) == 40
    short = np.array(plan.seconds) == 1.6
    assert 4 <= (plan.first_left & short).sum() <= 16  # hypergeometric: mean 10, deviation 1.6
    assert planned(40, (1.6, 3.2), 0).ids == plan.ids and planned(40, (1.6, 3.2), 1).ids != plan.ids
    left = np.mean([planned(6, (1.0,), seed).first_left for seed in range(400)], 0)
    assert np.abs(left - 0.5).max() < 4 * 0.5 / 400**0.5  # no place prefers a side: 4 standard deviations


def test_recorded_clips_have_their_own_keys(shards, models):
    world = load(models / "one").config
    source = from_data(world, shards, "heldout", COUNT, 10, CONTEXT)
    episodes = recorded(shards, "heldout", world, WORLD.replace(episodes=COUNT, frames=16)).take().episodes
    for number, episode in enumerate(episodes):
        assert np.array_equal(source.table[number], episode.actions[CONTEXT : CONTEXT + 10])
        assert np.array_equal(source.real[number], episode.frames[CONTEXT : CONTEXT + 10])
        assert np.array_equal(source.starts[number].actions, episode.actions[:CONTEXT])
    assert source.table.std() > 0


def test_the_game_is_played_by_recorded_play_and_by_players():
    world = world_doom(preset="tiny").method.world.replace(context=4)
    source = from_game(world, 6, 20, 4, RulerConfig(lead=8))
    assert source.table.shape[:2] == (6, 20) and source.real.shape == (6, 20, world.height, world.width, 3)
    assert list(source.players[::2]) == [RECORDED] * 3 and source.players[1] == "idle" and len(set(source.names)) == 6
    assert not source.table[1].any() and source.table[0].any()
    assert all(len(start.frames) == 8 for start in source.starts)
    with game_of(world, "my_way_home", 28).build() as game:  # the keys stand beside the frames that they cause
        game.game.set_episode_timeout(0)
        episode = game.episode(source.starts[0].seed)
    assert np.array_equal(episode.frames[8:], source.real[0]) and np.array_equal(episode.actions[8:], source.table[0])
    again = from_game(world, 6, 20, 4, RulerConfig(lead=8))
    assert np.array_equal(again.real, source.real) and again.names == source.names
    longer = from_game(world, 2, 24, 12, RulerConfig(lead=8))
    assert all(len(start.frames) == 12 for start in longer.starts)


def test_nothing_is_written_for_what_does_not_fit(shards, models, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key.json").write_text('{"my": "key"}')
    doom = tmp_path / "doom"
    save(world_doom(preset="tiny").method.world.build(), doom, dtype=torch.float32)
    one, given = str(models / "one"), {"data": shards, "clips": 4, "seconds": (0.5,)}
    for place, error, message, options in (
        (out, UsageError, "one clip or more", {**given, "clips": 0}),
        (out, UsageError, "lengths that differ", {**given, "seconds": (0.5, 0.5)}),
        (out, UsageError, "lengths that differ", {**given, "seconds": ()}),
        (out, UsageError, "--seconds 31: a clip has more than 0 and at most 30", {**given, "seconds": (31.0,)}),
        (out, UsageError, "fewer than 4 frames at 10 frames/s", {**given, "seconds": (0.3,)}),
        (out, UsageError, "2 clips cannot have 3 lengths", {**given, "clips": 2, "seconds": (0.5, 1.0, 1.5)}),
        (out, UsageError, "has 5 episodes that are long enough; ask for --clips 5", {**given, "clips": 6}),
        (out, UsageError, "--split selects a part", {"split": "train"}),
        (out, VidarError, "not worlds of one game: frame size", {**given, "against": str(doom)}),
        (tmp_path / "mine", UsageError, "key.json: exists, and vidar did not write it", given),
    ):
        with pytest.raises(error, match=message) as caught:
            run(one, place, **options)
        assert "\n" not in str(caught.value)
    assert not out.exists()
