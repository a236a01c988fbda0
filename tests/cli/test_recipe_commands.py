"""`vidar train`, `config`, `systems`, `budget`, `order`."""

import inspect
import json
import re
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
    following = f"vidar train world_shapes preset=tiny {data} tokenizer={runs / 't' / 'model'}"
    assert made["now"] == following and "only 2 steps: expect noise or blur" in err
    words = ["preset=tiny", data, f"tokenizer={runs / 't' / 'model'}", "batch=2", *SMALL]
    config = tmp_path / "w.yaml"
    config.write_text(run("config", "world_shapes", *words)[1])
    code, out, _ = run("train", config, "--out", runs / "w", "--device", "cpu")  # a recipe and its YAML are the same
    assert code == 0 and out.splitlines()[-1] == f"now: vidar play {runs / 'w' / 'model'}"
    code, _, err = run("train", config, "--out", runs / "w")
    assert code == 2 and "already holds a run" in err
    own = (runs / "w" / "model" / "starts" / "01.mp4").read_bytes()
    (runs / "w" / "model" / "start.mp4").write_bytes(own)  # a start that the user has chosen stays
    assert run("train", config, "--out", runs / "w", "--resume", "auto", "optim.steps=3")[0] == 0
    assert (runs / "w" / "model" / "start.mp4").read_bytes() == own
    for words in (["--context", clip], []):  # its own start clip
        assert run("generate", runs / "w" / "model", *words, "--frames", 1, "--out", tmp_path / "x.mp4")[0] == 0
    job = tmp_path / "jobs.jsonl"
    job.write_text('{"id": "a", "seed": 1, "frames": 2}')
    assert run("synth", runs / "w" / "model", "--jobs", job, "--out", tmp_path / "videos")[0] == 0


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
    code, out, _ = run("systems", "--all")
    words = " ".join(out.split())
    assert all(row["recipe"] in words and " ".join(row["what"].split()) in words for row in rows)
    assert max(map(len, out.splitlines())) <= 80 and "+3.15 dB over copy-last" in out
    code, out, _ = run("systems", "--markdown")
    assert code == 0 and out in (Path(vidar.configs.__file__).parent / "README.md").read_text()


def test_systems_are_short_and_begin_with_a_beginning(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("systems")
    lines, words = out.splitlines(), out.replace(",", " ").split()
    assert code == 0 and lines[0] == "Begin here" and "vidar play doom" in lines[1]
    assert all(words.count(name) >= 1 for name in recipes()) and len(lines) < 50 and max(map(len, lines)) <= 80
    assert "+3.15 dB" not in out


def test_systems_by_status(run):
    code, out, _ = run("systems", "--status", "shipped", "--json")
    assert code == 0 and {row["recipe"] for row in json.loads(out)} == {
        "world_doom",
        "tokenizer_doom",
        "decoder_doom",
        "idm",
        "pose",
    }
    code, out, _ = run("systems", "worlds", "--status", "measured")
    assert code == 0 and "+1.16 dB over copy-last" in out and "world_doom_one_call" in out
    assert "world_own" not in out and "tokenizer_shapes" not in out
    assert run("systems", "world_own", "--status", "shipped")[0] == 2
    assert run("systems", "--status", "good")[0] == 2


def test_systems_by_word(run):
    code, out, _ = run("systems", "world_doom")
    assert code == 0 and "$ vidar eval doom --suite endless" in out and "vidar train world_doom" in out
    assert "world_doom_scm" not in out
    code, out, _ = run("systems", "doom")
    assert "+3.15 dB over copy-last" in out and "$ vidar eval" not in out  # many: a list
    code, out, _ = run("systems", "doom", "--all")
    assert "$ vidar eval doom --suite endless" in out and out.count("train it") > 5
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


def written(value):
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", recipes())
def test_help_of_a_recipe_lists_its_parameters(run, name):
    code, out, err = run("train", name, "--help")
    assert code == 0 and not err and out.startswith(f"Usage: vidar train {name} ")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if re.match("  [^ ]", line)}
    for parameter in inspect.signature(recipes()[name]).parameters.values():
        assert rows[parameter.name][0] == written(parameter.default)
        assert len(rows[parameter.name]) > 2, f"configs/parameters.py has no line about {parameter.name}"
    assert rows["optim.lr"][0] == str(recipes()[name]().optim.lr)


def test_help_of_a_recipe_wherever_the_flag_stands(run):
    wanted = run("train", "world_own", "--help")
    assert run("train", "-h", "world_own") == wanted == run("train", "world_own", "minutes=3", "--help")
    assert run("config", "world_own", "--help") == wanted
    code, _, err = run("train", "world_owm", "--help")
    assert code == 2 and "did you mean world_own" in err
    code, out, _ = run("train", "--help")
    assert code == 0 and "--resume" in out


def test_several_processes_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run("train", "world_shapes", "--out", tmp_path / "out")
    assert code == 2 and "WORLD_SIZE is 2: vidar trains in one process" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
