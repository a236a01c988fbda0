from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.data.explore import ReplayPolicy
from vidar.data.video import read_video
from vidar.eval import held_out as module
from vidar.eval.demo import demo
from vidar.eval.frame_metrics import psnr
from vidar.eval.held_out import game_config
from vidar.eval.protocol import DEMO, WORLD
from vidar.eval.provenance import hardware, versions
from vidar.eval.ruler_play import RulerConfig
from vidar.eval.side_by_side import COLUMNS, LIT, film
from vidar.eval.world_eval import evaluate
from vidar.model.load import save
from vidar.types import UsageError, VidarError

EPISODES, FRAMES = 2, 16
PLAYERS = RulerConfig(
    reference=2, others=2, clips=1, starts=2, seconds=1.0, long_seconds=1.0, only=("idle", "recorded play")
)
LISTS = ("model", "copy_last", "mean_frame", "shuffled_actions")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "tiny"
    torch.manual_seed(0)
    config = world_doom(preset="tiny").method.world
    save(config.replace(context=4, objective=config.objective.replace(steps=1)).build(), folder)
    return folder


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    pytest.importorskip("vizdoom")
    out = tmp_path_factory.mktemp("out") / "a" / "demo"
    return out, demo(out, model=tiny, episodes=EPISODES, frames=FRAMES, seed=3, players=PLAYERS)


def test_files_and_report(made, tiny):
    out, report = made
    assert sorted(file.name for file in out.iterdir()) == [
        "dream.json",
        "dream.mp4",
        "report.html",
        "report.json",
        "ruler",
        "strips",
    ]
    stored = json.loads((out / "report.json").read_text())
    assert stored == report
    assert stored["world"] == "doom" and stored["fps"] == 17.5 and stored["params"] > 10_000
    assert stored["episodes"] == EPISODES == len(stored["seeds"]) and stored["frames"] == FRAMES
    assert set(stored["psnr"]) == set(LISTS) and all(len(stored["psnr"][name]) == FRAMES for name in LISTS)
    assert all(len(stored["sharpness"][name]) == FRAMES for name in ("model", "real"))
    assert 0 < stored["latency_ms"]["p50"] <= stored["latency_ms"]["p95"]
    assert min(stored["seeds"]) >= WORLD.first_game + 30_000  # seed 3: no game of the training data, nor of other seeds
    for gain in stored["gains"].values():
        assert gain["low"] <= gain["mean"] <= gain["high"]
    assert stored["versions"]["torch"] == versions()["torch"] and stored["threads"] == torch.get_num_threads()
    assert set(stored["ssim"]) == set(LISTS) and stored["sharpness_ratio"] > 0 and stored["means"]["frames"] == [1, 16]
    assert stored["gains"]["copy_last"]["frames"] == [1, 16] and stored["gains"]["shuffled_actions"]["frames"] == [
        4,
        16,
    ]
    assert (stored["action_score"] is None) == bool(stored["action_score_left_out"])
    assert stored["command"] == f"vidar demo --out {out} --model {tiny} --episodes 2 --frames 16 --seed 3"
    side = json.loads((out / "dream.json").read_text())
    assert side["seeds"] == stored["seeds"] and side["world"]["type"].endswith("VideoModelConfig")


def test_copy_last_of_the_report_by_playing_the_games_again(made):
    """A second engine, its actions replayed, and a slow loop: the numbers are about the real game."""
    _, report = made
    config = game_config(world_doom(preset="tiny").method.world.replace(context=4), DEMO.replace(frames=FRAMES))
    with config.build() as game:
        episodes = [game.episode(seed) for seed in report["seeds"]]
        again = game.episode(report["seeds"][0], ReplayPolicy(episodes[0].actions))
    assert np.array_equal(again.frames, episodes[0].frames)
    for k in range(FRAMES):
        values = [float(psnr(e.frames[None, 3:4], e.frames[None, 4 + k : 5 + k], 255.0)) for e in episodes]
        assert report["psnr"]["copy_last"][k] == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_film_and_page(made):
    out, report = made
    frames, fps = read_video(out / "dream.mp4")
    assert len(frames) == FRAMES + round(0.6 * 17.5) and fps == 17.5
    html = (out / "report.html").read_text()
    assert html.count("data:video/mp4;base64,") == 1
    assert not re.search(r'https?:|(src|srcset|href)="(?!data:|#)', re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", html))
    assert f"first frame {report['psnr']['model'][0]:.1f} dB" in html and report["hardware"] in html


def test_film_shows_the_keys_that_cause_the_frame(turning):
    class Still:
        def frames(self, context, actions, *rest):
            yield from (context[:, -1] for _ in actions)

    episodes = turning(5, 19)
    scores = evaluate(Still(), episodes, 3, 16)
    shown = list(film(scores, episodes[0].spec, 10.0, scale=4, hold=0.0))
    assert len(shown) == 2 * 16 and len({frame.shape for frame in shown}) == 1  # 4 episodes and 1 more
    first = list(film(scores, episodes[0].spec, 10.0, scale=4, hold=0.0, episodes=4))
    assert len(first) == 16 and all(map(np.array_equal, first, shown))
    height, width = 16 * 4, 24 * 4
    left, top, card = 12 + 12, 12 + 12 // 2 + 24 + 2, (2 * width + 6 + 24, height + 24 + 26 + 36)
    assert np.array_equal(shown[5][top : top + height : 4, left : left + width : 4], episodes[0].frames[3 + 5])
    at = left + width + 6
    assert np.array_equal(shown[5][top : top + height : 4, at : at + width : 4], episodes[0].frames[2])
    for place in range(4):
        x, y = 12 + place % COLUMNS * (card[0] + 12), 12 + place // COLUMNS * (card[1] + 12)
        for k in range(16):
            keys = shown[k][y + card[1] - 12 - 26 : y + card[1] - 12, x : x + card[0]]
            lit = [(keys[:, a:b] == LIT).all(-1).any() for a, b in ((12, 38), (44, 90))]
            assert lit == [bool(value) for value in episodes[place].actions[3 + k]]


def test_nothing_is_played_for_bad_arguments(tiny, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("played")

    monkeypatch.setattr(module, "play", refuse)
    blocker = tmp_path / "file"
    blocker.write_text("x")
    for out in (blocker, blocker / "below"):
        with pytest.raises(UsageError, match="file is a file, .*--out"):
            demo(out, model=tiny)
    for bad in ({"episodes": 1}, {"frames": 15}, {"seed": -1}, {"seed": 10**6}):
        with pytest.raises(UsageError, match="at least"):
            demo(tmp_path / "x", model=tiny, **bad)
    with pytest.raises(UsageError, match="no such world"):
        demo(tmp_path / "x", model=tmp_path / "absent")
    assert not (tmp_path / "x").exists()


def test_missing_game_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vizdoom", None)
    with pytest.raises(VidarError, match=r"vidar-world\[vizdoom\]"):
        demo(tmp_path / "x", model="doom")


def test_a_world_of_another_game_is_refused(tiny, tmp_path):
    pytest.importorskip("vizdoom")
    other = tmp_path / "other"
    config = world_doom(preset="tiny").method.world
    save(config.replace(fps=10.0, context=4).build(), other)
    with pytest.raises(VidarError, match="a world of this game is needed"):
        demo(tmp_path / "x", model=other)
    assert not (tmp_path / "x").exists()


def test_hardware_names_no_host():
    import platform

    assert hardware() and platform.node() not in hardware() and "/" not in hardware()
