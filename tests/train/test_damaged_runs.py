"""Random damage of a run folder: a resumed run names it, or ends with the same weights."""

import os
import shutil

import numpy as np
import pytest
from test_loop import config, weights

from vidar.train import checkpoint
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.types import VidarError

RUN = config(steps=6, save_every_s=0, keep_checkpoints=3)


def stopped(folder):
    """A run of 6 steps as it was after 5, with two checkpoints, and the weights that it ended with."""
    result = fit(RUN, folder, device="cpu")
    want = weights(result, "ema")
    shutil.rmtree(result.checkpoint)
    return folder, want


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("runs") / "run")


def resumed(out, want) -> str:
    damaged = [str(path) for path in checkpoint.damaged(out / "checkpoints")]
    try:
        result = fit(RUN, out, resume="auto", device="cpu")
    except VidarError as error:
        assert "\n" not in str(error) and str(out) in str(error)
        return "refused"
    told = [one["checkpoint"] for one in read_log(out / "log.jsonl") if one.get("event") == "damaged"]
    found = weights(result, "ema")
    return "same" if told == damaged and all(found[name].equal(want[name]) for name in want) else "other"


def deep(file):
    file.write_text("[" * 100_000)


def pipe(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("make", [deep, pipe])
@pytest.mark.parametrize("name", ["COMPLETE", "state.json", "../../data.json", "../../log.jsonl", "../../config.yaml"])
def test_a_file_that_no_reader_expects_is_named_or_harmless(known, tmp_path, name, make):
    """Nested deeper than Python reads, or a pipe, whose reader would wait for ever."""
    run, want = known
    shutil.copytree(run, tmp_path / "run")
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    make(newest / name)
    assert resumed(tmp_path / "run", want) in ("same", "refused")


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_named_or_harmless(known, damage, tmp_path, seed):
    run, want = known
    shutil.copytree(run, tmp_path / "run")
    what = damage(tmp_path / "run", np.random.default_rng(seed))
    assert resumed(tmp_path / "run", want) in ("same", "refused"), what
