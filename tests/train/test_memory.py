"""The estimate against closed forms and a real step; the refusal."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from made_up import made_up
from torch import nn

from vidar.configs.catalog import find
from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.nn.auto import AutoAttentionConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.train import memory
from vidar.train.dreams import DreamClipsConfig
from vidar.train.fit import build, fit
from vidar.train.loop import train_step
from vidar.train.methods.decode import DecodeConfig
from vidar.types import UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    record(ShapesConfig(), None, folder, episodes=1, frames=8)
    return str(folder)


def test_what_autograd_keeps_is_counted_once():
    """y = tanh(x W^T + b): x for the gradient of W, tanh's own result; the weights are not activations."""
    with torch.device("meta"):
        model, x = nn.Sequential(nn.Linear(8, 16), nn.Tanh()), torch.empty(4, 8)
    assert memory.kept_bytes(model, lambda: model(x)) == 4 * 4 * (8 + 16)
    assert memory.kept_bytes(model, lambda: model(x) + model(x)) == 4 * 4 * (8 + 2 * 16)


def test_attention_without_storage_keeps_what_it_keeps_with():
    """A clip of two copies whose first sees its past alone: by slices, no table of all pairs."""
    order, grid = FrameOrderConfig(window=2).build(4, 4, 8)
    view = compile_layout(twin(range(8)), order, [grid]).views["main"]
    kept, shape = [], (2, view.q.cell.shape[1], 2, 16)
    for device in ("cpu", "meta"):
        q, k, v = (torch.zeros(shape, device=device, requires_grad=True) for _ in range(3))
        attention = AutoAttentionConfig().build(view, torch.device(device), True)
        kept.append(memory.kept_bytes(nn.Module(), lambda: attention(q, k, v)))  # noqa: B023
    assert kept[0] == kept[1] < 4 * 2 * 2 * shape[1] ** 2


def test_states_of_trained_and_frozen_weights(data, tmp_path):
    config = find("tokenizer_shapes")(preset="tiny", data=data)
    parts = config.method.tokenizer.build()
    encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (parts.encoder, parts.decoder))
    assert memory.training_bytes(config)["states"] == 20 * (encoder + decoder)
    losses = config.method.replace(gan=None)
    like = DreamClipsConfig(path=data, world="nowhere", batch=config.data.batch * config.data.clip_frames)
    frozen = config.replace(method=DecodeConfig(world="nowhere", losses=losses), data=like)
    assert memory.training_bytes(frozen)["states"] == 8 * encoder + 20 * decoder
    assert 0 < memory.training_bytes(frozen)["activations"] < memory.training_bytes(config)["activations"]


def test_activations_grow_with_the_batch_and_need_the_size_of_the_frames(data, tmp_path):
    small = find("tokenizer_shapes")(preset="tiny", data=data)
    large = small.replace(data=small.data.replace(batch=4 * small.data.batch))
    ratio = memory.training_bytes(large)["activations"] / memory.training_bytes(small)["activations"]
    assert 3.9 < ratio < 4.001
    absent = memory.training_bytes(small.replace(data=small.data.replace(path=str(tmp_path))))
    assert absent["states"] and absent["activations"] is None and absent["total"] is None
    assert memory.training_bytes(made_up(find("tokenizer_shapes"), tmp_path))["total"] is None  # data of another kind


def test_short_memory_is_refused_before_anything_is_built(data, tmp_path, monkeypatch):
    config = find("tokenizer_shapes")(preset="tiny", data=data)
    config = config.replace(optim=config.optim.replace(steps=1), minutes=None)
    needed = memory.training_bytes(config)["total"]
    monkeypatch.setattr(memory, "available", lambda _: needed - 1)
    monkeypatch.setattr("vidar.train.fit.build", None)
    with pytest.raises(UsageError, match=r"about .* GB and cpu has .* GB left.*data\.batch.*check_memory") as error:
        fit(config, tmp_path / "run", device="cpu")
    assert "\n" not in str(error.value)
    memory.check_memory(config.replace(check_memory=False), CPU)
    monkeypatch.setattr(memory, "available", lambda _: needed)
    memory.check_memory(config, CPU)
    monkeypatch.setattr(memory, "available", lambda _: None)  # the system does not say
    memory.check_memory(config, CPU)


def test_available_is_what_the_system_or_the_container_says(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available(CPU) is None
    (tmp_path / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:    4000 kB\nHugePages_Total:  0\n")
    assert memory.available(CPU) == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert memory.available(CPU) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    assert memory.available(CPU) == 2000000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("batch", [24, 48])
def test_the_estimate_is_what_a_world_takes(batch):
    command = [sys.executable, __file__, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    taken, estimate = map(int, done.stdout.split())
    assert 0.8 < taken / estimate < 1.25, f"{taken / 1e6:.0f} MB, estimated {estimate / 1e6:.0f}"


def grown(batch: int) -> tuple[int, int]:
    """(peak of the resident memory above its level before the network is built, estimate) of world_doom, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        config = made_up(find("world_doom"), Path(folder), preset="demo")
        like = config.data.like.replace(batch=batch)
        config = config.replace(data=config.data.replace(like=like))
        estimate = memory.training_bytes(config.replace(data=like))["total"]
        before = resident("VmRSS")
        job = build(config, Path(folder), CPU)
        for index in range(6):
            train_step(job, job.data.batch(index), 1e-4)
        return resident("VmHWM") - before, estimate


def resident(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


if __name__ == "__main__":
    print(*grown(int(sys.argv[1])))
