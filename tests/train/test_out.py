"""The folder of a run: one process trains in it, nothing that was there before is lost, damage is named."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_loop import ToyMethod, ToyMethodConfig, config, losses

from vidar.train import checkpoint
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.types import UsageError, VidarError

TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_loop import ToyDataConfig, config
from vidar.train.fit import fit
fit(config(steps=10**6, data=ToyDataConfig(pause=0.01)), sys.argv[2], device="cpu")
"""


def flip(file, at=-1):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_living_run_is_not_touched(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(out)]
    living = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "log.jsonl").exists() or not losses(out):
        assert living.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    half = out / "checkpoints" / ".tmp-step-00000009-1"  # as if it were saving at this moment
    half.mkdir()
    for resume in (None, "auto"):
        with pytest.raises(UsageError, match="run: another vidar train is writing there"):
            fit(config(steps=2), out, resume=resume, device="cpu")
    assert half.is_dir() and living.poll() is None
    living.kill()
    living.wait()
    fit(config(steps=2), out, resume="auto", device="cpu")  # the lock has ended with the process
    assert not half.exists() and sorted(losses(out)) == [1, 2]


def test_refusals_leave_no_folder(tmp_path):
    with pytest.raises(UsageError, match="not a complete checkpoint"):
        fit(config(steps=2), tmp_path / "run", resume=tmp_path / "nowhere", device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.yaml", "log.jsonl", "model"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds {name}, but no run"):
        fit(config(steps=2), tmp_path, device="cpu")
    assert (tmp_path / name).read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
def test_a_changed_byte_of_a_checkpoint_is_named(tmp_path, name):
    newest = fit(config(steps=2), tmp_path, device="cpu").checkpoint
    flip(newest / name)
    with pytest.raises(VidarError, match=f"step-00000002: damaged checkpoint .{name} does not match its sha256"):
        fit(config(steps=3), tmp_path, resume="auto", device="cpu")


def test_checkpoints_of_earlier_versions_have_no_hashes(tmp_path):
    newest = fit(config(steps=2), tmp_path, device="cpu").checkpoint
    listed = json.loads((newest / checkpoint.MARKER).read_text())
    (newest / checkpoint.MARKER).write_text(json.dumps({name: size for name, (size, _) in listed.items()}))
    assert fit(config(steps=3), tmp_path, resume="auto", device="cpu").step == 3


def test_damaged_checkpoints_are_told_and_never_ignored(tmp_path):
    newest = fit(config(steps=2), tmp_path, device="cpu").checkpoint
    older = newest.with_name("step-00000001")
    shutil.copytree(newest, older)
    flip(newest / checkpoint.MARKER, 0)
    fit(config(steps=2), tmp_path, resume="auto", device="cpu")
    told = [record for record in read_log(tmp_path / "log.jsonl") if record.get("event") == "damaged"]
    assert [record["checkpoint"] for record in told] == [str(newest)]
    for path in (tmp_path / "checkpoints").iterdir():
        flip(path / checkpoint.MARKER, 0)
    with pytest.raises(UsageError, match="already holds a run"):
        fit(config(steps=2), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="step-00000002: damaged, and there is no other checkpoint"):
        fit(config(steps=2), tmp_path, resume="auto", device="cpu")


class LargeMethodConfig(ToyMethodConfig):
    def build(self):
        return LargeMethod(self)


class LargeMethod(ToyMethod):
    def export(self, model, directory):
        super().export(model, directory)
        (directory / "weights").write_bytes(bytes(300_000))


def test_a_full_disk_during_the_export_leaves_the_older_model(tmp_path, small_files):
    run = config(steps=2, method=LargeMethodConfig())
    fit(run, tmp_path, device="cpu")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    longer = run.replace(optim=run.optim.replace(steps=4))
    small_files(200_000)
    with pytest.raises(VidarError, match="model: cannot be written: File too large"):
        fit(longer, tmp_path, resume="auto", device="cpu")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before
    small_files(10**6)
    fit(longer, tmp_path, resume="auto", device="cpu")
    after = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    assert after.keys() == before.keys() and after["bias.json"] != before["bias.json"]
    assert after["notes.txt"] == b"mine" and not list(tmp_path.glob("*.tmp.*"))


def test_a_log_that_cannot_grow_is_one_line(tmp_path, small_files):
    small_files(6_000)  # checkpoints fit, a long log does not
    with pytest.raises(VidarError, match="(log.jsonl|tensorboard): cannot be written: .*File too large") as error:
        fit(config(steps=200), tmp_path, device="cpu")
    assert "\n" not in str(error.value)
