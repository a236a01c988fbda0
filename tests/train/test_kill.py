"""SIGKILL: of a training at a random step, and of a process that saves. The instant is random."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_checkpoint import Run

from vidar.configs.catalog import find, resolve_recipe
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.nn.pretrained import save_component
from vidar.train import checkpoint
from vidar.train.fit import fit
from vidar.train.log import read_log

STEPS = 80
COMMON = ["preset=tiny", "minutes=1e9", f"optim.steps={STEPS}", "precision=fp32", "sample_every=0"]
COMMON += ["compile=false", "check_memory=false"]
# 16 windows an episode and batches of 5: every batch but each sixteenth ends within an epoch
CASES = {
    "prefetch 0": ("tokenizer_shapes", ["data.batch=5", "data.prefetch=0", "log_every=1"]),
    "prefetch 2": ("tokenizer_shapes", ["data.batch=5", "data.prefetch=2", "log_every=1"]),
    "latents": ("world_shapes", ["batch=5", "log_every=1"]),
    "means of 7 steps": ("tokenizer_shapes", ["data.batch=5", "data.prefetch=2", "log_every=7"]),
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(data, tokenizer): 3 episodes of 33 shapes frames, and a fresh tokenizer."""
    data, tokenizer = tmp_path_factory.mktemp("shapes"), tmp_path_factory.mktemp("tokenizer")
    record(ShapesConfig(frames=33), None, data, episodes=3)
    kind = find("tokenizer_shapes")(preset="tiny").method.tokenizer
    save_component(kind.build(), kind, tokenizer)
    return data, tokenizer


def losses(out):
    return {r["step"]: r["loss"] for r in read_log(out / "log.jsonl") if "loss" in r}


def killed(words, out, step):
    """Train in a process of its own; SIGKILL as soon as its log holds `step`. The step of the newest checkpoint."""
    command = [sys.executable, "-m", "vidar.cli", "train", *words, "save_every_s=0.03", "--out", str(out)]
    command += ["--device", "cpu", "--resume", "auto"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    log, deadline = out / "log.jsonl", time.monotonic() + 120
    while not log.exists() or max(losses(out), default=0) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1].decode()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    newest = checkpoint.newest(out / "checkpoints")
    return 0 if newest is None else json.loads((newest / "state.json").read_text())["step"]


def check(case, kills, folders, tmp_path):
    """Kill a run at every step of `kills`, resume, and compare with a run that nobody disturbed."""
    data, tokenizer = folders
    recipe, words = CASES[case]
    words = [recipe, *COMMON, *words, f"data={data}", *([f"tokenizer={tokenizer}"] if recipe == "world_shapes" else [])]
    config = resolve_recipe(words[0], words[1:])
    fit(config, tmp_path / "whole", device="cpu")
    reached = [killed(words, tmp_path / "part", step) for step in kills]
    assert all(step < STEPS for step in reached) and reached[-1] > 0, reached
    assert any((step * 5) % 48 for step in reached), "no kill within an epoch"
    result = fit(config, tmp_path / "part", resume="auto", device="cpu")
    ours, theirs = losses(tmp_path / "part"), losses(tmp_path / "whole")
    assert result.step == STEPS and len(theirs) == -(-STEPS // config.log_every)
    assert ours == theirs
    ours, theirs = (
        checkpoint.load_file(checkpoint.newest(tmp_path / name / "checkpoints") / "ema.safetensors")
        for name in ("part", "whole")
    )
    assert all(ours[key].equal(theirs[key]) for key in theirs)


def test_a_killed_training_goes_on_bit_for_bit(folders, tmp_path, one_thread):
    check("prefetch 2", [random.randrange(15, 45)], folders, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_training_killed_again_and_again_goes_on_bit_for_bit(case, folders, tmp_path, one_thread):
    kills = sorted(random.sample(range(8, STEPS - 25), 3))
    print("kills", kills)
    check(case, kills, folders, tmp_path)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_during_saving_leave_the_last_completed_checkpoint(kills, tmp_path):
    command = [sys.executable, __file__, str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == kills
    for completed, newest, _ in found:
        assert newest >= completed >= 1, found
    assert found[-1][0] > found[0][0] and any(leftovers for *_, leftovers in found), found


def kill_savers(folder: Path, kills: int) -> list[tuple[int, int, int]]:
    """Per kill: the last save that had returned, the step of what is found and loads, leftovers of the kill."""
    chance, found, step = random.Random(), [], 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(folder, step, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            first = lines.readline()
            time.sleep(chance.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            completed = int([first, *lines.read().splitlines()][-1])
        os.waitpid(child, 0)
        step = Run(1).load(checkpoint.newest(folder)).step
        leftovers = len(list(folder.glob(".*")))
        checkpoint.clean(folder)
        found.append((completed, step, leftovers))
    return found


def save_for_ever(folder: Path, step: int, writer: int) -> None:
    """As a run does: save, drop the oldest, say so."""
    run = Run(0)
    while True:
        step += 1
        run.step(step)
        run.save(folder, step)
        checkpoint.retain(folder, 2)
        os.write(writer, f"{step}\n".encode())


if __name__ == "__main__":
    print(json.dumps(kill_savers(Path(sys.argv[1]), int(sys.argv[2]))))
