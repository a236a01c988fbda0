"""The suite `world` on recorded shards, end to end, and what the page and report.json say of it."""

import json
import re

import pytest
import torch

import vidar.eval.action_score as action_score
import vidar.eval.suites as suites
import vidar.eval.world_suite as module
from vidar.configs.catalog import find, find_world
from vidar.data.record import record
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.data.video import read_video
from vidar.eval.held_out import recorded
from vidar.eval.protocol import WORLD
from vidar.eval.suites import SUITES, run_suite
from vidar.eval.world_eval import evaluate, summary
from vidar.model.load import load, save
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.types import UsageError, VidarError

CONTEXT, FRAMES, COUNT = 3, 16, 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    record(ShapesConfig(), None, folder, episodes=COUNT, frames=CONTEXT + FRAMES, split="heldout")
    record(ShapesConfig(), None, folder, episodes=1, frames=8, seed=50, split="heldout")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.manual_seed(0)
    made = find_world(find("world_shapes")(preset="tiny")).replace(context=CONTEXT).build()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(made, folder, dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """An untrained inverse-dynamics network for the shapes."""
    torch.manual_seed(0)
    groups = {"moves": KeyGroup(classes=(("move",),))}
    folder = tmp_path_factory.mktemp("idm") / "net"
    InverseDynamicsNetConfig(spec=SPEC, groups=groups, height=32, width=32).build().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def scored(monkeypatch):
    """The share of pixels above the middle, in the place of a score: three different numbers."""
    monkeypatch.setattr(action_score, "shipped", lambda name: None)
    share = lambda net, frames, *rest: {"moves": (frames > 127).mean(), "mean": (frames > 127).mean()}  # noqa: E731
    monkeypatch.setattr(action_score, "action_scores", share)


def test_report_page_and_film(shards, world, judge, tmp_path):
    out = tmp_path / "a" / "b"
    made = run_suite("world", str(world), out, {"data": shards, "frames": FRAMES, "seed": 5, "steps": 1, "idm": judge})
    assert sorted(f.name for f in out.iterdir()) == ["dream.json", "dream.mp4", "report.html", "report.json", "strips"]
    stored = json.loads((out / "report.json").read_text())
    assert stored == made
    protocol = WORLD.replace(frames=FRAMES, seed=5, steps=1)
    loaded = load(world)
    held = recorded(shards, "heldout", loaded.config, protocol).take()
    assert held.facts["short_episodes_left_out"] == stored["short_episodes_left_out"] == 1
    expected = summary(evaluate(loaded, held.episodes, CONTEXT, FRAMES, 5, steps=1))
    assert {name: stored[name] for name in expected} == json.loads(json.dumps(expected))
    assert stored["episodes"] == COUNT and stored["steps"] == 1 and stored["context"] == CONTEXT
    assert stored["command"] == (
        f"vidar eval {world} --suite world --out {out} --data {shards} --split heldout --idm {judge} "
        f"--frames {FRAMES} --seed 5 --steps 1"
    )
    means = {name: score["mean"] for name, score in stored["action_score"].items()}
    assert set(means) == {"real", "model", "shuffled_actions"} and stored["action_score_left_out"] is None
    frames, fps = read_video(out / "dream.mp4")
    assert fps == 10 and len(frames) == FRAMES + round(0.6 * 10)
    html = (out / "report.html").read_text()
    text = re.sub("<.*?>", "", html)
    for shown in (stored["command"], "recorded episodes instead of the fixed games", f"frames {FRAMES} instead of 64"):
        assert shown in text
    assert all(f"{value:.3f}" in html for value in means.values())
    assert "1 shorter episodes were left out" in html


def test_without_a_network_the_page_says_why(shards, world, tmp_path):
    made = module.run(str(world), tmp_path / "x", data=shards, frames=FRAMES, steps=1)
    assert made["action_score"] is None
    why = "Action scores were not computed: no inverse-dynamics model ships for world &#x27;shapes&#x27;"
    assert why in (tmp_path / "x" / "report.html").read_text()


def test_worst_episodes_come_first(shards, world, tmp_path):
    made = module.run(str(world), tmp_path / "x", data=shards, frames=FRAMES, steps=1)
    html = (tmp_path / "x" / "report.html").read_text()
    places = [(scores["model"], html.index(f"{name}: mean")) for name, scores in made["per_episode"].items()]
    assert [place for _, place in sorted(places)] == sorted(place for _, place in places)


def test_nothing_is_dreamed_for_what_does_not_fit(shards, world, judge, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("dreamed")

    monkeypatch.setattr(module, "evaluate", refuse)
    blocker = tmp_path / "file"
    blocker.write_text("")
    out = tmp_path / "x"
    for error, message, given in (
        (UsageError, "--split selects a part of recorded shards", {"split": "train"}),
        (VidarError, "no such data folder", {"data": tmp_path / "absent"}),
        (VidarError, "has no split 'train'; available: heldout", {"data": shards, "split": "train"}),
        (VidarError, "0 of 4 episodes with the 67 frames needed", {"data": shards}),
        (UsageError, "at least 16 frames", {"data": shards, "frames": 15}),
        (VidarError, "config.json", {"data": shards, "frames": FRAMES, "idm": tmp_path}),
        (UsageError, "not an InverseDynamicsNet", {"data": shards, "frames": FRAMES, "idm": world / "tokenizer"}),
    ):
        with pytest.raises(error, match=message) as caught:
            module.run(str(world), out, **given)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="file is a file, but a report needs a folder"):
        module.run(str(world), blocker / "below", data=shards, frames=FRAMES)
    assert not out.exists()


def test_suites_and_their_options(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="--suite has no 'wrld'; did you mean world"):
        run_suite("wrld", "m", tmp_path, {})
    with pytest.raises(UsageError, match="suite 'endless' has no '--split'"):
        run_suite("endless", "m", tmp_path, {"split": "x"})
    asked = []

    class Fake:
        @staticmethod
        def run(*arguments, **options):
            asked.append((arguments, options))
            return {"x": 1}

    monkeypatch.setattr(suites, "import_module", lambda name: asked.append(name) or Fake)
    assert run_suite("endless", "m", tmp_path, {"episodes": 3, "seed": 1}) == {"x": 1}
    assert asked == ["vidar.eval.endless", (("m", tmp_path), {"rollouts": 3, "seed": 1})]


@pytest.mark.parametrize("name", SUITES)
def test_every_option_of_a_suite_is_an_argument(name):
    from importlib import import_module
    from inspect import signature

    taken = list(signature(import_module(SUITES[name].module).run).parameters)
    assert set(SUITES[name].options.values()) <= set(taken[2:])


def test_paths_on_a_page_do_not_tell_where_they_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert module.shown(tmp_path / "runs" / "x") == "runs/x" and module.shown("runs/y") == "runs/y"
    assert module.command(WORLD, WORLD, ("a",), out="b c", idm=None) == "a --out 'b c'"
