"""The loop on a toy method: y = 2 x0 - 3 x1 + 1 by linear regression."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vidar.train.clock
from vidar.config import Config
from vidar.rng import Rng
from vidar.train import checkpoint, loop
from vidar.train.config import TrainConfig
from vidar.train.fit import build, fit
from vidar.train.log import read_log
from vidar.train.optim import OptimConfig
from vidar.types import Loss, UsageError, VidarError


@dataclass(frozen=True)
class Batch:
    x: Tensor
    y: Tensor
    number: Tensor
    names: list[str]


class ToyDataConfig(Config):
    size: int = 8
    bad: tuple[int, ...] = ()
    omit: int = 10**9
    pause: float = 0.0

    def build(self):
        return ToyData(self)


class ToyData:
    kill: tuple[int, int] = (-1, 0)  # this process, at an index, with a signal

    def __init__(self, config):
        self.config = config

    def batch(self, index):
        config = self.config
        index += index >= config.omit
        number = torch.arange(index * config.size, (index + 1) * config.size)
        x = torch.stack([Rng(7, int(n)).normal("start", shape=(2,)).float() for n in number])
        y = x @ torch.tensor([2.0, -3.0]) + 1.0
        if index in config.bad:
            y[0] = math.nan
        if index == self.kill[0]:
            os.kill(os.getpid(), self.kill[1])
        time.sleep(config.pause)
        return Batch(x, y, number, [f"clip{n}" for n in number.tolist()])


class ToyMethodConfig(Config):
    dropout: float = 0.0
    noise: float = 0.0

    def build(self):
        return ToyMethod(self)


class ToyMethod:
    def __init__(self, config):
        self.config = config

    def build_model(self):
        return nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(2, 1))

    def step(self, model, batch, rngs, ranks):
        noise = torch.stack([rng.normal("level").float() for rng in rngs]) * self.config.noise
        error = model(batch.x)[:, 0] - batch.y - noise
        return Loss(error.square().mean(), {"mae": error.abs().mean().detach()})

    def sample(self, model, batch, path):
        path.with_suffix(".json").write_text(json.dumps([model[1].bias.item(), model.training, batch.number.tolist()]))

    def export(self, model, directory):
        directory.mkdir(exist_ok=True)
        (directory / "bias.json").write_text(json.dumps(model[1].bias.tolist()))


def config(steps=30, method=None, data=None, **changes):
    optim = OptimConfig(lr=0.05, steps=steps, weight_decay=0.0, warmup_steps=4, clip=100.0)
    plain = {"ema_decay": 0.9, "precision": "fp32", "log_every": 1, "save_every_s": 1e9}
    return TrainConfig(
        name="toy",
        method=method or ToyMethodConfig(),
        data=data or ToyDataConfig(),
        **{"optim": optim, **plain, **changes},
    )


def losses(out):
    return {record["step"]: record["loss"] for record in read_log(out / "log.jsonl") if "loss" in record}


def weights(result, name="model"):
    return checkpoint.load_file(result.checkpoint / f"{name}.safetensors")


def test_finds_the_known_optimum(tmp_path):
    optim = OptimConfig(lr=0.05, steps=400, weight_decay=0.0, warmup_steps=10)
    result = fit(config(optim=optim, log_every=50), tmp_path / "run", device="cpu")
    for name in ("model", "ema"):
        found = weights(result, name)
        assert torch.allclose(found["1.weight"], torch.tensor([[2.0, -3.0]]), atol=2e-3)
        assert torch.allclose(found["1.bias"], torch.tensor([1.0]), atol=2e-3)
    assert json.loads((result.model / "bias.json").read_text())[0] == pytest.approx(1.0, abs=2e-3)
    assert result.step == 400 and result.stopped is None and result.skipped == 0


@pytest.mark.parametrize("log_every", [1, 4])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch, log_every):
    run = config(method=ToyMethodConfig(dropout=0.3, noise=0.5), log_every=log_every)
    whole = fit(run, tmp_path / "whole", device="cpu")
    monkeypatch.setattr(ToyData, "kill", (12, signal.SIGTERM))
    part = fit(run, tmp_path / "part", device="cpu")
    monkeypatch.undo()
    assert part.stopped == "SIGTERM" and part.step == 13 and part.model is None
    torch.manual_seed(123)  # the global generator must not matter
    rest = fit(run, tmp_path / "part", resume="auto", device="cpu")
    ours, theirs = losses(tmp_path / "part"), losses(tmp_path / "whole")
    assert len(theirs) == -(-30 // log_every) and {step: ours[step] for step in theirs} == theirs
    assert ours.keys() - theirs.keys() <= {13}  # the line of the signal
    for name in ("model", "ema", "optimizer"):
        ours, theirs = weights(rest, name), weights(whole, name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_resume_drops_log_lines_past_the_checkpoint(tmp_path):
    fit(config(steps=5), tmp_path, device="cpu")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 99.0}\n{"step": 7, "lo')
    fit(config(steps=8), tmp_path, resume="auto", device="cpu")
    steps = [record["step"] for record in read_log(tmp_path / "log.jsonl") if "loss" in record]
    assert steps == list(range(1, 9)) and 99.0 not in losses(tmp_path).values()


def test_non_finite_batch_is_skipped_and_named(tmp_path):
    result = fit(config(steps=6, data=ToyDataConfig(bad=(2,))), tmp_path, device="cpu")
    records = read_log(tmp_path / "log.jsonl")
    skipped = [record for record in records if record.get("event") == "skipped"]
    assert len(skipped) == 1 and skipped[0]["names"] == [f"clip{n}" for n in range(16, 24)]
    assert result.skipped == 1 and result.step == 6
    state = json.loads((result.checkpoint / "state.json").read_text())
    assert state["cursor"] == 7 and all(torch.isfinite(v).all() for v in weights(result).values())


def test_skipping_equals_never_having_seen_the_batch(tmp_path):
    skipping = fit(config(steps=6, data=ToyDataConfig(bad=(3,))), tmp_path / "bad", device="cpu")
    omitting = fit(config(steps=6, data=ToyDataConfig(omit=3)), tmp_path / "omit", device="cpu")
    assert skipping.skipped == 1 and omitting.skipped == 0
    for name in ("model", "ema", "optimizer"):
        ours, theirs = weights(skipping, name), weights(omitting, name)
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_ten_non_finite_batches_in_a_row_stop_the_run(tmp_path):
    with pytest.raises(VidarError, match="10 non-finite batches in a row at step 2 .*clip16.*optim.lr") as error:
        fit(config(data=ToyDataConfig(bad=tuple(range(2, 12)))), tmp_path / "ten", device="cpu")
    assert "\n" not in str(error.value)
    nine = ToyDataConfig(bad=(*range(2, 11), *range(12, 21)))
    result = fit(config(data=nine), tmp_path / "nine", device="cpu")
    assert result.skipped == 18 and result.step == 30


def test_infinite_gradient_of_a_finite_loss_is_skipped(tmp_path):
    class Root(ToyMethod):
        def step(self, model, batch, rngs, ranks):
            zero = (model(batch.x)[:, 0] * 0.0).sum()
            bad = torch.sqrt(zero.square())  # 0, and its gradient is 0 * inf
            return Loss(bad if int(batch.number[0]) == 8 else super().step(model, batch, rngs, ranks).total)

    class RootConfig(ToyMethodConfig):
        def build(self):
            return Root(self)

    result = fit(config(steps=4, method=RootConfig()), tmp_path, device="cpu")
    assert result.skipped == 1 and all(torch.isfinite(v).all() for v in weights(result).values())


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock takes 10 ms."""
    ticks = itertools.count()
    for module in (loop, vidar.train.clock):
        monkeypatch.setattr(module, "monotonic", lambda: 0.01 * next(ticks))


def test_time_budget_ends_annealed_and_survives_resume(tmp_path, clock, monkeypatch):
    optim = OptimConfig(lr=0.05, steps=10**6, warmup_steps=0, weight_decay=0.0)
    timed = config(optim=optim, minutes=4.0 / 60)
    monkeypatch.setattr(ToyData, "kill", (8, signal.SIGTERM))
    part = fit(timed, tmp_path, device="cpu")
    monkeypatch.setattr(ToyData, "kill", (-1, 0))
    assert part.stopped == "SIGTERM" and 0.2 < part.elapsed < 1.0
    result = fit(timed, tmp_path, resume="auto", device="cpu")
    records = [r for r in read_log(tmp_path / "log.jsonl") if "lr" in r]
    assert records[-1]["lr"] < 0.001 * 0.05 and all(a["lr"] >= b["lr"] for a, b in zip(records, records[1:]))
    assert all(a["elapsed"] < b["elapsed"] for a, b in zip(records, records[1:]))
    assert 4.0 <= result.elapsed < 4.1
    for before, record in zip(records, records[1:]):
        assert record["lr"] == pytest.approx(0.025 * (1 + math.cos(math.pi * before["elapsed"] / 4.0)))
    again = fit(timed, tmp_path, resume="auto", device="cpu")
    assert again.step == result.step == len(records) and again.elapsed == result.elapsed


def test_checkpoints_are_written_by_the_clock(tmp_path, clock, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "retain", lambda folder, keep: saved.append(keep))
    fit(config(steps=30, save_every_s=0.5, keep_checkpoints=3), tmp_path, device="cpu")
    steps = [int(p.name[5:]) for p in checkpoint.complete(tmp_path / "checkpoints")]
    assert len(steps) > 3 and steps[-1] == 30 and set(saved) == {3}
    assert len({b - a for a, b in zip(steps[:-2], steps[1:-1])}) == 1


def test_stream_of_the_data_is_used_from_the_cursor_and_closed(tmp_path):
    seen = []

    class Ahead(ToyData):
        def stream(self, start):
            seen.append(start)
            try:
                while True:
                    yield ToyData.batch(self, start)
                    start += 1
            finally:
                seen.append("closed")

        def batch(self, index):
            raise AssertionError("asked past the stream")

    class AheadConfig(ToyDataConfig):
        def build(self):
            return Ahead(self)

    fit(config(steps=3, data=AheadConfig()), tmp_path / "a", device="cpu")
    fit(config(steps=5, data=AheadConfig()), tmp_path / "a", resume="auto", device="cpu")
    fit(config(steps=3), tmp_path / "b", device="cpu")
    fit(config(steps=5), tmp_path / "b", resume="auto", device="cpu")
    assert seen == [0, "closed", 3, "closed"] and losses(tmp_path / "a") == losses(tmp_path / "b")


def test_samples_use_the_average_and_the_same_batch(tmp_path):
    result = fit(config(steps=20, sample_every=10), tmp_path, device="cpu")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-00000010.json", "step-00000020.json"]
    bias, training, numbers = json.loads((tmp_path / "samples" / "step-00000020.json").read_text())
    assert bias == weights(result, "ema")["1.bias"].item() != weights(result)["1.bias"].item()
    assert not training and numbers == list(range(8))


def test_log_holds_means_rates_and_parts(tmp_path):
    fit(config(steps=6, method=ToyMethodConfig(noise=0.1)), tmp_path / "one", device="cpu")
    fit(config(steps=6, method=ToyMethodConfig(noise=0.1), log_every=4), tmp_path / "four", device="cpu")
    singly = losses(tmp_path / "one")
    jointly = losses(tmp_path / "four")
    assert list(jointly) == [4, 6]
    assert jointly[4] == pytest.approx(sum(singly[s] for s in (1, 2, 3, 4)) / 4, rel=1e-6)
    assert jointly[6] == pytest.approx(sum(singly[s] for s in (5, 6)) / 2, rel=1e-6)
    record = read_log(tmp_path / "one" / "log.jsonl")[0]
    assert record.keys() >= {"step", "loss", "lr", "grad_norm", "samples_per_s", "elapsed", "mae", "data_wait"}
    assert record["lr"] == pytest.approx(0.05 / 4)


@pytest.mark.parametrize("clip", [0.1, 100.0])
def test_a_gradient_is_shortened_to_clip_and_logged_as_it_was(tmp_path, clip):
    """After one step the first moment of Adam is (1 - beta) of the gradient that it was given."""
    optim = OptimConfig(lr=0.05, steps=1, betas=(0.75, 0.95), clip=clip)
    result = fit(config(optim=optim), tmp_path, device="cpu")
    moments = [value.flatten() for name, value in weights(result, "optimizer").items() if name.startswith("exp_avg.")]
    logged = read_log(tmp_path / "log.jsonl")[0]["grad_norm"]
    assert 0.1 < logged < 100
    assert float(torch.cat(moments).norm()) / 0.25 == pytest.approx(min(clip, logged), rel=1e-4)


def test_the_average_counts_updates_from_0(tmp_path):
    """After the first step it is 1 / 10 the fresh weights and 9 / 10 those of the step."""
    result = fit(config(steps=1), tmp_path / "run", device="cpu")
    with torch.random.fork_rng():
        fresh = build(config(steps=1), tmp_path, torch.device("cpu")).model.state_dict()
    stepped, average = weights(result), weights(result, "ema")
    for name, value in fresh.items():
        assert torch.allclose(average[name], 0.1 * value + 0.9 * stepped[name], rtol=0, atol=1e-6)
        assert not torch.allclose(average[name], stepped[name], rtol=0, atol=1e-4)


def test_bf16_autocast_reaches_the_model(tmp_path):
    seen = []

    class Watch(ToyMethod):
        def step(self, model, batch, rngs, ranks):
            seen.append(model(batch.x).dtype)
            return super().step(model, batch, rngs, ranks)

    class WatchConfig(ToyMethodConfig):
        def build(self):
            return Watch(self)

    fit(config(steps=1, method=WatchConfig(), precision="bf16"), tmp_path / "a", device="cpu")
    fit(config(steps=1, method=WatchConfig()), tmp_path / "b", device="cpu")
    assert seen == [torch.bfloat16, torch.float32]


def test_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(config(steps=2), tmp_path, device="cpu")
    assert torch.rand(1).equal(expected)


class Unbuildable(Config):
    def build(self):
        raise AssertionError("built before the checks")


@pytest.mark.parametrize("where", ["/dev/full", "/proc/vidar", "file", "file/below"])
def test_useless_out_is_refused_before_building(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    out = Path(where) if where.startswith("/") else tmp_path / where
    with pytest.raises(UsageError, match="cannot be a folder to write to") as error:
        fit(config(method=Unbuildable(), data=Unbuildable()), out, device="cpu")
    assert "\n" not in str(error.value) and (tmp_path / "file").read_text() == "mine"


def test_a_finished_run_is_not_overwritten(tmp_path):
    fit(config(steps=2), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="already holds a run"):
        fit(config(steps=2, method=Unbuildable()), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="not a complete checkpoint"):
        fit(config(steps=2, method=Unbuildable()), tmp_path, resume=tmp_path / "nowhere", device="cpu")


def test_interrupt_saves_and_returns(tmp_path, monkeypatch):
    monkeypatch.setattr(ToyData, "kill", (3, signal.SIGINT))
    result = fit(config(), tmp_path, device="cpu")
    assert result.stopped == "SIGINT" and result.step == 4 and checkpoint.is_complete(result.checkpoint)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_exits_zero_with_a_checkpoint(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.jsonl").exists() or not losses(tmp_path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors.decode()
    newest = checkpoint.newest(tmp_path / "checkpoints")
    assert newest is not None and json.loads((newest / "state.json").read_text())["step"] == max(losses(tmp_path))
    assert b"\r" not in errors and b"samples/s" in errors


if __name__ == "__main__":
    fit(config(steps=10**6, data=ToyDataConfig(pause=0.01)), sys.argv[1], device="cpu")
