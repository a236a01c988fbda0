"""Modules that count: told of every optimiser step, never of one that was not made; a codebook moves as its oracle."""

import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from made_up import MadeUp, MadeUpConfig
from torch import nn

from vidar.actions import Action, ActionSpec
from vidar.data.loader import ClipsConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import still
from vidar.tokenizers.vq import VQ, VQConfig
from vidar.train import checkpoint
from vidar.train.config import TrainConfig
from vidar.train.engine import HasRunningStats
from vidar.train.fit import build, fit
from vidar.train.log import read_log
from vidar.train.loop import train_step
from vidar.train.methods.autoencode import Autoencode, AutoencodeConfig
from vidar.train.optim import OptimConfig
from vidar.types import Loss

CPU = torch.device("cpu")
VECTORS = VQConfig(channels=4, size=8, decay=0.75, revive_after=3)


def pyramids(quantiser=VECTORS):
    autoencoder = AutoencoderConfig(widths=(8, 8), num_res_blocks=(1, 0), latent_channels=4, time_kernel=3)
    pyramid = MultiScaleConfig(quantiser=quantiser, sizes=still(((1, 1), (2, 2))), beta=0.25)
    return PyramidAutoencoderConfig(autoencoder=autoencoder, pyramid=pyramid)


class PoisonedConfig(AutoencodeConfig):
    """The loss is not a number, or its gradient is not, for the batches that begin with these samples."""

    loss: int = -1
    gradient: int = -1

    def build(self):
        return Poisoned(self)


class Poisoned(Autoencode):
    def step(self, model, batch, rngs, ranks):
        found, first = super().step(model, batch, rngs, ranks), int(batch.number[0])
        if first == self.config.loss:
            return Loss(found.total * math.nan)
        if first == self.config.gradient:
            weight = self.product(model).decoder.head.conv.weight
            return Loss(found.total + (weight.sum() * 0.0).square().sqrt())
        return found


def run(steps=6, method=None, **changes):
    spec = ActionSpec(actions=(Action(name="push"),))
    data = MadeUpConfig(like=ClipsConfig(path="", clip_frames=3, batch=2), spec=spec, size=(16, 16))
    return TrainConfig(
        name="counts",
        method=method or AutoencodeConfig(tokenizer=pyramids()),
        data=data,
        optim=OptimConfig(lr=1e-3, steps=steps, warmup_steps=2),
        precision="fp32",
        log_every=1,
        **changes,
    )


def weights(result, name="model"):
    return checkpoint.load_file(result.checkpoint / f"{name}.safetensors")


class Tally(nn.Module):
    """A weight, and a buffer that `update` sets to what was counted."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("taken", torch.zeros(()))
        self.seen, self.calls = 0.0, []

    def update(self):
        self.calls.append(self.seen)
        self.taken.fill_(self.seen)
        self.seen = 0.0

    def forget(self):
        self.calls.append(None)
        self.seen = 0.0


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_counting_modules_are_told_of_every_step_and_of_none_that_was_not_made(tmp_path, bad):
    class Method:
        def build_model(self):
            return nn.ModuleDict({"inner": nn.Sequential(Tally())})  # has an `update` of its own, and is not told

        def step(self, model, batch, rngs, ranks):
            tally, index = model["inner"][0], int(batch.number[0]) // 2
            tally.seen += index + 1
            total = tally.weight.square()
            if index == 2:
                total = total * math.nan if bad == "loss" else total + (tally.weight * 0).square().sqrt()
            return Loss(total)

    class MethodConfig(AutoencodeConfig):
        def build(self):
            return Method()

    job = build(run(method=MethodConfig()), tmp_path, CPU)
    tally = job.model["inner"][0]
    assert job.engine.counting == [tally] and not isinstance(job.model, HasRunningStats)
    for step in range(4):
        made = train_step(job, job.data.batch(step), 1e-3)
        assert (made is None) == (step == 2)
        assert torch.equal(job.engine.averaged()["inner"][0].taken, tally.taken), (
            "the average takes the buffers of this step"
        )
    assert tally.calls == [1, 2, None, 4]


def oracle(steps, config=VECTORS):
    """Codebook, hits, mass and updates after steps of vectors [n, C], in loops over codes."""
    start = config.build()
    codes, total = start.codebook.double().numpy().copy(), start.total.double().numpy().copy()
    mass, hits, idle = np.ones(config.size), np.zeros(config.size), np.zeros(config.size, int)
    for step, calls in enumerate(steps):
        x = np.concatenate(calls)
        nearest = ((x[:, None] - codes[None]) ** 2).sum(-1).argmin(1)
        for v in range(config.size):
            mine = x[nearest == v]
            mass[v] = config.decay * mass[v] + (1 - config.decay) * len(mine)
            total[v] = config.decay * total[v] + (1 - config.decay) * mine.sum(0)
            idle[v] = 0 if len(mine) else idle[v] + 1
            keep = 0.9 if step else 0.0
            hits[v] = keep * hits[v] + (1 - keep) * len(mine)
        codes = total / mass[:, None]
    return {"codebook": codes, "hits": hits, "mass": mass, "idle": idle, "updates": np.array(len(steps))}


@pytest.mark.parametrize("poison", [{}, {"loss": 4}, {"gradient": 4}], ids=["clean", "loss", "gradient"])
def test_the_codebook_moves_as_its_oracle_says(tmp_path, monkeypatch, one_thread, poison):
    seen, steps, config = [], [], VECTORS.replace(revive_after=None)
    quantise, take = VQ.quantise, VQ.update

    def noted(self, x):
        if self.training:
            seen.append(x.detach().reshape(-1, x.shape[-1]).double().numpy().copy())
        return quantise(self, x)

    def taken(self):
        assert all(not np.array_equal(call, other) for call in seen for other in sum(steps, []))
        steps.append(seen[-2:])  # one call per scale, of this step alone
        seen.clear()
        take(self)

    monkeypatch.setattr(VQ, "quantise", noted)
    monkeypatch.setattr(VQ, "update", taken)
    result = fit(run(method=PoisonedConfig(tokenizer=pyramids(config), **poison)), tmp_path, device="cpu")
    found, want = weights(result), oracle(steps, config)
    assert len(steps) == 6 and result.skipped == len(poison)
    prefix = "pyramid.quantiser."
    for name, value in want.items():
        assert np.allclose(found[prefix + name].double(), value, rtol=1e-4, atol=1e-6), name
    assert np.abs(want["codebook"] - config.build().codebook.numpy()).max() > 0.05 and (want["hits"] > 0).sum() > 1
    averaged = weights(result, "ema")
    assert torch.equal(averaged[prefix + "codebook"], found[prefix + "codebook"])


JUDGE = DiscriminatorConfig(width=4, start=2, warmup=2, r1=1.0, r1_every=3, lecam=0.1)
FORMS = {
    "codebook": AutoencodeConfig(tokenizer=pyramids()),
    "adversaries": AutoencodeConfig(
        tokenizer=pyramids().autoencoder, gan=JUDGE.replace(r1_every=2), video_gan=JUDGE, latent_noise=0.3
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [3, 4])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch, one_thread, form, step):
    config, batch = run(steps=8, method=FORMS[form]), MadeUp.batch
    whole = fit(config, tmp_path / "whole", device="cpu")

    def killing(self, index):
        if index == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, index)

    monkeypatch.setattr(MadeUp, "batch", killing)
    part = fit(config, tmp_path / "part", device="cpu")
    monkeypatch.undo()
    assert part.stopped == "SIGTERM" and part.step == step + 1
    rest = fit(config, tmp_path / "part", resume="auto", device="cpu")
    for name in ("model", "ema", "optimizer"):
        ours, theirs = weights(rest, name), weights(whole, name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("part", "whole")]
    keep = [[{k: v for k, v in r.items() if k in TIMELESS} for r in log if "loss" in r] for log in logs]
    assert keep[0] == keep[1] and len(keep[0]) == 8
    if form == "adversaries":
        assert [r["step"] for r in keep[0] if "r1" in r] == [1, 3, 5, 7]
        assert [r["step"] for r in keep[0] if "video_r1" in r] == [1, 4, 7]
        assert int(weights(rest)["video_discriminator.updates"]) == 8
        assert "anchors" in json.dumps(sorted(weights(rest)))


TIMELESS = {"step", "loss", "grad_norm", "adversary", "video_adversary", "r1", "video_r1", "lecam", "video_lecam"}
