"""What a run draws follows its batches, whether they were used or not: noise by sample numbers, torch's by batches."""

import json
import math
import os
import signal
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from vidar.config import Config
from vidar.rng import Rng
from vidar.train import checkpoint
from vidar.train.config import TrainConfig
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.train.optim import OptimConfig
from vidar.types import Loss

SIZE = 4


@dataclass(frozen=True)
class Batch:
    x: Tensor
    number: Tensor
    names: list[str]


class ClipsOfConfig(Config):
    """bad: batches that cannot be used. apart: between the numbers of neighbouring batches."""

    bad: tuple[int, ...] = ()
    apart: int = SIZE

    def build(self):
        return ClipsOf(self)


class ClipsOf:
    kill = -1  # the batch at which the run is asked to stop

    def __init__(self, config):
        self.config = config

    def batch(self, index):
        number = index * self.config.apart + torch.arange(SIZE)
        x = torch.stack([Rng(7, int(n)).normal("start", shape=(2,)).float() for n in number])
        if index in self.config.bad:
            x[0] = math.nan
        if index == self.kill:
            os.kill(os.getpid(), signal.SIGTERM)
        return Batch(x, number, [f"clip{n}" for n in number.tolist()])


class DenoiseConfig(Config):
    def build(self):
        return Denoise()


class Denoise:
    """A linear map with dropout takes noise away; notes what it was given."""

    noise: dict[int, list[Tensor]] = {}  # by sample number
    torch_draws: dict[int, float] = {}  # by the first number of a batch

    def build_model(self):
        return nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 2))

    def step(self, model, batch, rngs, ranks):
        noise = torch.stack([rng.normal("level", shape=(2,)).float() for rng in rngs])
        for number, row in zip(batch.number.tolist(), noise):
            self.noise.setdefault(number, []).append(row)
        self.torch_draws[int(batch.number[0])] = float(torch.rand(1))
        return Loss((model(batch.x + noise) - batch.x).square().mean())

    def export(self, model, directory):
        directory.mkdir(exist_ok=True)


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    monkeypatch.setattr(Denoise, "noise", {})
    monkeypatch.setattr(Denoise, "torch_draws", {})


def run(**data):
    optim = OptimConfig(lr=0.05, steps=12, weight_decay=0.0, warmup_steps=4)
    plain = {"ema_decay": 0.9, "precision": "fp32", "log_every": 1, "save_every_s": 1e9}
    return TrainConfig(name="toy", method=DenoiseConfig(), data=ClipsOfConfig(**data), optim=optim, **plain)


def losses(out):
    return {record["step"]: record["loss"] for record in read_log(out / "log.jsonl") if "loss" in record}


def test_a_resume_after_skipped_batches_goes_on_with_the_next_batch(tmp_path, monkeypatch):
    """Two batches are skipped before the stop: bit for bit the run that was not interrupted."""
    config = run(bad=(2, 5))
    whole = fit(config, tmp_path / "whole", device="cpu")
    drawn = dict(Denoise.torch_draws)
    Denoise.torch_draws.clear()
    monkeypatch.setattr(ClipsOf, "kill", 8)
    part = fit(config, tmp_path / "part", device="cpu")
    monkeypatch.setattr(ClipsOf, "kill", -1)
    assert (part.stopped, part.step, part.skipped) == ("SIGTERM", 7, 2)
    state = json.loads((part.checkpoint / "state.json").read_text())
    assert (state["step"], state["cursor"]) == (7, 9)
    rest = fit(config, tmp_path / "part", resume="auto", device="cpu")
    assert losses(tmp_path / "part") == losses(tmp_path / "whole") and Denoise.torch_draws == drawn
    assert rest.skipped == whole.skipped == 2
    for name in ("model", "ema", "optimizer"):
        ours, theirs = (checkpoint.load_file(r.checkpoint / f"{name}.safetensors") for r in (rest, whole))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_dropout_and_noise_of_a_batch_do_not_depend_on_what_was_skipped(tmp_path):
    """torch's generator is seeded by the batch: those after a skipped one draw what they would have drawn."""
    fit(run(), tmp_path / "all", device="cpu")
    drawn, noise = dict(Denoise.torch_draws), dict(Denoise.noise)
    Denoise.torch_draws.clear()
    Denoise.noise.clear()
    fit(run(bad=(2, 5)), tmp_path / "skipping", device="cpu")
    assert len(drawn) == 12 == len(set(drawn.values()))
    assert all(Denoise.torch_draws[number] == value for number, value in drawn.items())
    assert all(torch.equal(Denoise.noise[number][0], rows[0]) for number, rows in noise.items())


@pytest.mark.parametrize("apart", [4096, 2**16, 2**32, 2**40])
def test_every_sample_number_draws_its_own_noise(tmp_path, apart):
    """Numbers n and n + apart are different draws, and each is that of its key."""
    fit(run(apart=apart), tmp_path, device="cpu")
    assert len(Denoise.noise) == 12 * SIZE
    for number, (row,) in Denoise.noise.items():
        assert torch.equal(row, Rng(0, number).normal("level", shape=(2,)).float())
    rows = torch.stack([row for (row,) in Denoise.noise.values()])
    assert len(torch.unique(rows, dim=0)) == len(rows)
