"""`vidar train`, `config`, `systems`, `budget`, `order`."""

import json
from pathlib import Path

import pytest
from PIL import Image

import vidar.configs
from vidar.config import load_file
from vidar.configs.catalog import recipes, resolve_recipe

SMALL = ["optim.steps=2", "optim.warmup_steps=1", "seed=3", "sample_every=0"]


@pytest.mark.parametrize("name", recipes())
def test_config_round_trip(run, tmp_path, name):
    code, out, _ = run("config", name, "preset=tiny", "optim.lr=0.25")
    assert code == 0
    (tmp_path / "c.yaml").write_text(out)
    config = load_file(tmp_path / "c.yaml")
    assert config == resolve_recipe(name, ["preset=tiny", "optim.lr=0.25"]) and config.optim.lr == 0.25
    assert resolve_recipe(str(tmp_path / "c.yaml"), ["optim.lr=0.5"]) == resolve_recipe(
        name, ["preset=tiny", "optim.lr=0.5"]
    )


def test_train_both_stages_and_dream(run, tmp_path, shards, clip):
    data, runs = f"data={shards}", tmp_path / "runs"
    code, out, err = run("train", "tokenizer_shapes", "preset=tiny", data, *SMALL, "--out", runs / "t", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert load_file(runs / "t" / "config.yaml").seed == 3  # a field of the run that is no argument of the recipe
    assert made["step"] == 2 and made["model"] == str(runs / "t" / "model")
    words = ["preset=tiny", data, f"tokenizer={runs / 't' / 'model'}", "batch=2", *SMALL]
    config = tmp_path / "w.yaml"
    config.write_text(run("config", "world_shapes", *words)[1])
    assert run("train", config, "--out", runs / "w", "--device", "cpu")[0] == 0  # a recipe and its YAML are the same
    code, _, err = run("train", config, "--out", runs / "w")
    assert code == 2 and "already holds a run" in err
    assert run("train", config, "--out", runs / "w", "--resume", "auto")[0] == 0
    words = ["--context", clip, "--frames", 1, "--out", tmp_path / "x.mp4"]
    assert run("generate", runs / "w" / "model", *words)[0] == 0


@pytest.mark.parametrize(
    "words, named",
    [
        (["world_shape"], "did you mean world_shapes"),
        (["world_shapes", "batchs=3"], "did you mean batch"),
        (["world_shapes", "optim.lrr=3"], "did you mean lr"),
        (["world_shapes", "preset=huge"], "preset: Input should be 'demo' or 'tiny'"),
        (["world_shapes", "frames=many"], "frames"),
        (["world_shapes", "frames"], "key=value"),
        (["world_shapes", "height=60"], "height 60 does not divide by 8; use 56 or 64"),
        (["world_doom", "method.world.height=60"], "height 60 does not divide by 16; use 48 or 64"),
        (["world_shapes", "method.world.patch=2"], "net.backbone.in_width"),
        (["world_shapes", "data.clip_frames=3"], "data.clip_frames is 3"),
        (["outcome", "world=nowhere"], "nowhere: no such world"),
        (["outcome", "world=doom", "method.head.columns=4"], "has 4 x 5 x 32 and TURN_LEFT"),
        (["none.yaml"], "none.yaml: no such config file"),
        (["world_shapes", "--device", "nowhere"], "nowhere"),
    ],
)
def test_train_refuses(run, tmp_path, words, named):
    code, _, err = run("train", *words, "--out", tmp_path / "out")
    assert code == 2 and named in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_train_checks_the_data(run, tmp_path, shards):
    code, _, err = run("train", "world_shapes", f"data={tmp_path / 'none'}", "--out", tmp_path / "out")
    assert code == 1 and "none: no such data folder" in err
    code, _, err = run("train", "world_doom", f"data={shards}", "--out", tmp_path / "out")
    assert code == 2 and "32 x 32" in err and "64 x 80" in err
    code, _, err = run("train", "world_shapes", f"data={shards}", "data.split=test", "--out", tmp_path / "out")
    assert code == 2 and "no split 'test'; it has train" in err
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_no_run(run, tmp_path):
    (tmp_path / "c.yaml").write_text("type: vidar.orders.frame.FrameOrderConfig\n")
    code, _, err = run("train", tmp_path / "c.yaml")
    assert code == 2 and "FrameOrderConfig is not a training run" in err
    (tmp_path / "c.yaml").write_text("type: os.path.join\n")
    assert run("train", tmp_path / "c.yaml")[0] == 2


def test_systems(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("systems", "--json")
    rows = json.loads(out)
    assert code == 0 and sorted(row["recipe"] for row in rows) == list(recipes())
    world = next(row for row in rows if row["recipe"] == "world_doom")
    assert world["order"] == "endless units of 20 sites, ring 140" and world["status"] == "shipped"
    assert world["figure"].startswith("+3.15 dB") and world["measurements"][0]["command"] == "vidar demo"
    code, out, _ = run("systems")
    words = " ".join(out.split())
    assert all(row["recipe"] in words and " ".join(row["what"].split()) in words for row in rows)
    assert max(map(len, out.splitlines())) <= 80 and "+3.15 dB over copy-last" in out
    code, out, _ = run("systems", "--markdown")
    assert code == 0 and out in (Path(vidar.configs.__file__).parent / "README.md").read_text()


def test_systems_by_word(run):
    code, out, _ = run("systems", "world_doom")
    assert code == 0 and "$ vidar eval doom --suite endless" in out and "vidar train world_doom" in out
    assert "world_doom_scm" not in out
    rows = json.loads(run("systems", "pictures", "--json")[1])
    assert {row["recipe"] for row in rows} >= {"var", "infinity", "infinitystar_shapes"} and len(rows) < 10
    code, out, err = run("systems", "zzz")
    assert code == 2 and not out and "no system has 'zzz'" in err and err.count("\n") == 1


def test_budget(run):
    code, out, _ = run("budget", "world_shapes", "preset=tiny", "--json")
    assert code == 0 and json.loads(out)["cache_bytes"]["total"] == 2 * 2 * (3 * 16) * 2 * 16 * 2


def test_order(run, tmp_path):
    code, out, _ = run("order", "world_shapes", "--units", 3, "--out", tmp_path / "o.png", "--explain", 2, 0)
    assert code == 0 and Image.open(tmp_path / "o.png").width > 300
    assert out.splitlines()[:2] == [str(tmp_path / "o.png"), "unit 2 is in wave 2, unit 0 in wave 0"]


@pytest.mark.parametrize(
    "words, named",
    [
        (["rinng", "--explain", "0", "0"], "did you mean ring"),
        (["ring"], "--out"),
        (["ring", "--explain", "0", "99"], "there is no unit 99"),
        (["tokenizer_doom", "--explain", "0", "0"], "only worlds have one"),
        (["world_shapes", "--units", "0", "--explain", "0", "0"], "0 units"),
    ],
)
def test_order_refuses(run, words, named):
    code, _, err = run("order", *words)
    assert code == 2 and named in err and err.count("\n") == 1
