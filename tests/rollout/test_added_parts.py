"""A new objective, order, cache policy and guidance, from a file outside the package, through all that vidar does."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import own_parts
import pytest
import torch
from made_up import made_up
from tiny import Here, pictures

import vidar.config
from vidar.configs.doom import world_doom
from vidar.data.episode import Episode
from vidar.data.video import read_video, write_video
from vidar.eval.world_eval import evaluate
from vidar.model.load import load
from vidar.model.start_hashes import START
from vidar.play.engine import PlayEngine, Start
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.placement import Ready
from vidar.synth.ray_workers import RayWorkers
from vidar.synth.workers import LocalWorkers
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.train.methods.world import SingleConfig
from vidar.types import UsageError

SEGMENT = 14


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(vidar.config, "_TRUSTED", {*vidar.config._TRUSTED})
    vidar.config.trust("own_parts")


def with_parts(config):
    world = config.method.world
    width = world.channels
    backbone = world.net.backbone.replace(in_width=width, out_width=width, level=None)
    method = config.method.replace(
        world=world.replace(
            order=own_parts.DilatedOrderConfig(window=4),
            objective=own_parts.NextFrameConfig(),
            net=world.net.replace(backbone=backbone),
            policy=own_parts.ForgetOddConfig(),
            guidance=own_parts.ClippedGuideConfig(),
        ),
        stream=SingleConfig(),
        own_context=None,
        guidance=1.0,
    )
    return config.replace(method=method)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trained for 80 steps, exported; a start of five frames beside it."""
    place = tmp_path_factory.mktemp("own")
    config = with_parts(made_up(world_doom, place / "tokenizer", repeat=True))
    vidar.config.trust("own_parts")
    torch.set_num_threads(1)
    done = fit(
        config.replace(optim=config.optim.replace(steps=80, lr=3e-2, warmup_steps=1), check_memory=False), place / "run"
    )
    losses = [line["loss"] for line in read_log(place / "run" / "log.jsonl") if "loss" in line]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    write_video(done.model / START, pictures(5, 0), 17.5)
    return done.model


def test_it_generates_and_is_refused_where_nobody_trusts_it(folder, monkeypatch):
    world = load(folder, dtype=torch.float32)
    assert type(world.config.objective) is own_parts.NextFrameConfig and world.config.system().order.approximate
    frames = world.generate(num_frames=6, seed=1).frames
    assert frames.shape == (1, 6, 64, 80, 3) and np.array_equal(frames, world.generate(num_frames=6, seed=2).frames)
    monkeypatch.setattr(vidar.config, "_TRUSTED", {"vidar"})
    with pytest.raises(UsageError, match="refused: only configs under vidar. and of trusted packages are loaded"):
        load(folder)


def test_it_is_played(folder):
    """An engine without a clock shows what the same keys generate."""
    world = load(folder, dtype=torch.float32)
    context, keys = read_video(folder / START)[0], np.random.default_rng(0).integers(0, 2, (5, 5)).astype(np.float32)
    engine = PlayEngine(world, 1)
    slot = engine.sit(Start(context, None, 3))
    shown = []
    for row in keys:
        slot.press(row)
        engine.round()
        shown.append(slot.shown.frame.copy())
    assert np.array_equal(np.stack(shown), world.generate(context, keys, seed=3).frames[0])


def test_videos_of_it_are_synthesised(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Here, "worlds", {})
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(json.dumps({"id": f"v{n}", "frames": 2 * SEGMENT, "seed": n}) + "\n" for n in range(2)))
    made = []
    for out, place in (("a", Here), ("b", LocalWorkers)):
        request = SynthRequest(model=str(folder), jobs=str(jobs), out=str(tmp_path / out), rows=2, segment=SEGMENT)
        made.append(synthesise(request, place=place)["jobs"])
        assert len(read_video(tmp_path / out / "v1.mp4")[0]) == 2 * SEGMENT
    assert [job["segments"] for job in made[0]] == [job["segments"] for job in made[1]]


def vidar_in(place, *words):
    """The command line, in a process that finds `own_parts` on its path."""
    paths = os.pathsep.join([str(Path(own_parts.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "vidar.cli", *words]
    return subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)


def test_the_command_line_is_told_whom_to_trust(folder, tmp_path):
    words = ["generate", str(folder), "--frames", "2", "--seed", "1", "--out", "made.mp4"]
    refused = vidar_in(tmp_path, *words)
    assert refused.returncode == 2 and "vidar --trust PACKAGE" in refused.stderr and refused.stderr.count("\n") == 1
    unknown = vidar_in(tmp_path, "--trust", "not_there", *words)
    assert unknown.returncode == 2 and "package 'not_there' is not found" in unknown.stderr
    made = vidar_in(tmp_path, "--trust", "own_parts", *words)
    assert made.returncode == 0, made.stderr
    assert len(read_video(tmp_path / "made.mp4")[0]) == 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the ray extra")
def test_actors_trust_whom_the_caller_trusts(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(own_parts.__file__).parent))
    place = RayWorkers(1, str(folder), "cpu", 1, "local")
    try:
        events = []
        while not events:
            events = place.wait()
        assert isinstance(events[0], Ready)
    finally:
        place.close()


def test_it_is_evaluated(folder):
    world, rng = load(folder, dtype=torch.float32), np.random.default_rng(1)
    keys = [rng.integers(0, 2, (21, 5)).astype(np.float32) for _ in range(2)]
    games = [
        Episode(pictures(21, n), rows, 17.5, world.config.actions, f"game{n}", "made up") for n, rows in enumerate(keys)
    ]
    scores = evaluate(world, games, 5, 16)
    assert scores.dreamed.shape == (2, 16, 64, 80, 3) and np.isfinite(scores.psnr["model"]).all()
    assert not np.array_equal(scores.dreamed, scores.shuffled)  # it hears its actions
