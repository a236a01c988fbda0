"""Checkpoints: round trip, completeness, retention, and a kill at every instant of a save."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vidar.train import checkpoint
from vidar.train.checkpoint import Counters
from vidar.train.ema import Ema
from vidar.train.optim import OptimConfig
from vidar.types import VidarError

OPTIM = OptimConfig(lr=0.1, steps=10)


class Net(nn.Module):
    """Tied weights, a buffer that is kept, one that is not, channels-last convolution, a scalar, an idle parameter."""

    def __init__(self, width=4):
        super().__init__()
        self.embed = nn.Embedding(6, width)
        self.head = nn.Linear(width, 6)
        self.head.weight = self.embed.weight
        self.conv = nn.Conv3d(width, width, 3).to(memory_format=torch.channels_last_3d)
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.idle = nn.Parameter(torch.randn(3))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("table", torch.randn(2), persistent=False)

    def forward(self, ids):
        self.count += 1
        x = self.embed(ids) * self.gain  # [B, 3, 3, 3, D]
        return self.head(self.conv(x.movedim(-1, 1)).movedim(1, -1))


class Run:
    def __init__(self, seed, width=4):
        torch.manual_seed(seed)
        self.model = Net(width)
        self.ema = Ema(self.model, 0.9)
        self.optimizer = OPTIM.build(self.model)

    def step(self, n):
        ids = torch.arange(27 * n, 27 * n + 27).reshape(1, 3, 3, 3) % 6
        loss = self.model(ids).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(n)
        return loss.item()

    def save(self, folder, step):
        return checkpoint.save(folder, Counters(step, step), self.model, self.ema, self.optimizer, OPTIM)

    def load(self, path):
        return checkpoint.load(path, self.model, self.ema, self.optimizer)


def same(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_round_trip_goes_on_bit_for_bit(tmp_path):
    one, other = Run(0), Run(1)
    for n in range(3):
        one.step(n)
    counters = Counters(step=3, cursor=5, elapsed=1.25, skipped=2)
    path = checkpoint.save(tmp_path, counters, one.model, one.ema, one.optimizer, OPTIM)
    assert other.load(path) == counters
    assert same(one.model, other.model) and same(one.ema.model, other.ema.model)
    assert [one.step(n) for n in range(3, 7)] == [other.step(n) for n in range(3, 7)]
    assert same(one.model, other.model) and same(one.ema.model, other.ema.model)
    state = json.loads((path / "state.json").read_text())
    assert state["config"]["lr"] == 0.1 and state["versions"]["torch"] == torch.__version__


def test_newest_complete_is_chosen(tmp_path):
    run = Run(0)
    paths = [run.save(tmp_path, step) for step in (9, 10, 11, 12)]
    assert checkpoint.newest(tmp_path) == paths[3]
    (paths[3] / checkpoint.MARKER).unlink()
    assert checkpoint.newest(tmp_path) == paths[2]
    with (paths[2] / "ema.safetensors").open("ab") as file:
        file.write(b"x")
    assert checkpoint.newest(tmp_path) == paths[1]
    (paths[1] / "optimizer.safetensors").unlink()
    assert checkpoint.newest(tmp_path) == paths[0]
    (paths[0] / checkpoint.MARKER).write_text("[]x")
    assert checkpoint.newest(tmp_path) is None
    assert run.save(tmp_path, 12) == checkpoint.newest(tmp_path)  # a broken one is replaced
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_retention_keeps_the_newest(tmp_path):
    run = Run(0)
    for step in (1, 2, 30, 4):
        run.save(tmp_path, step)
    checkpoint.retain(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000030"]
    checkpoint.retain(tmp_path, 5)
    assert len(checkpoint.complete(tmp_path)) == 2


def test_leftovers_are_cleaned_and_nothing_else(tmp_path):
    kept = Run(0).save(tmp_path, 1)
    for name in (".tmp-step-00000002-77", ".old-step-00000000-77"):
        shutil.copytree(kept, tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert checkpoint.complete(tmp_path) == [kept]
    checkpoint.clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "step-00000001"]


def test_what_does_not_fit_is_named(tmp_path):
    run = Run(0)
    run.step(0)
    path = run.save(tmp_path, 1)
    wide = Run(0, width=5)
    before = [p.clone() for p in wide.model.parameters()]
    with pytest.raises(VidarError, match=r"model\.safetensors: does not fit the model at '"):
        wide.load(path)
    assert all(torch.equal(a, b) for a, b in zip(before, wide.model.parameters()))
    (path / checkpoint.MARKER).unlink()
    with pytest.raises(VidarError, match="not a complete checkpoint"):
        run.load(path)


def test_flipped_header_is_one_line(tmp_path):
    run = Run(0)
    path = run.save(tmp_path, 1)
    file = path / "model.safetensors"
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])  # same size
    with pytest.raises(VidarError, match="damaged checkpoint") as error:
        run.load(path)
    assert "\n" not in str(error.value)


def test_refusing_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    run = Run(0)
    old = run.save(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VidarError, match="cannot be written.*No space left"):
        run.save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [old] and checkpoint.is_complete(old)


def test_kill_at_every_instant_of_a_save_leaves_a_resumable_run(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    instants, old, new = json.loads(done.stdout)
    assert instants > 15 and old > 5 and new > 2 and old + new == instants + 1


def kill_at_every_instant(folder: Path) -> list[int]:
    """Fork a child per system call of one save over a full folder; the child kills itself with SIGKILL before it."""
    run = Run(0)
    for step in (1, 2):
        run.step(step)
        run.save(folder / "start", step)
    run.step(3)
    found = {2: 0, 3: 0}
    instant = 0
    while True:
        here = folder / f"kill{instant}"
        shutil.copytree(folder / "start", here)
        child = os.fork()
        if child == 0:
            killer(instant)
            run.save(here, 3)
            checkpoint.retain(here, 2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        newest = checkpoint.newest(here)
        found[Run(5).load(newest).step] += 1
        checkpoint.clean(here)
        assert all(checkpoint.is_complete(path) for path in here.iterdir())
        shutil.rmtree(here)
        if os.WIFEXITED(status):
            return [instant, found[2], found[3]]
        assert os.WTERMSIG(status) == signal.SIGKILL
        instant += 1


def killer(instant: int) -> None:
    """SIGKILL this process before its call number `instant` of those that change the disk."""
    calls = 0

    def wrap(call):
        def counted(*args, **kwargs):
            nonlocal calls
            if calls == instant:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return call(*args, **kwargs)

        return counted

    for owner, names in (
        (os, ("fsync", "rename", "mkdir", "unlink", "rmdir")),
        (checkpoint, ("save_file",)),
        (Path, ("write_text", "mkdir")),
    ):
        for name in names:
            setattr(owner, name, wrap(getattr(owner, name)))


if __name__ == "__main__":
    print(json.dumps(kill_at_every_instant(Path(sys.argv[1]))))
