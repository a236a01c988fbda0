"""Golden losses: 50 steps of every recipe, tiny, on made-up clips, in fp32 on one thread. A refactor moves no digit."""

import json
import platform
import tempfile
from pathlib import Path

import pytest
import torch

from vidar.configs.catalog import recipes
from vidar.train.fit import TrainConfig, fit
from vidar.train.log import read_log

GOLDEN = Path(__file__).parent.parent / "golden" / "losses.json"
COMMAND = "python tests/train/test_golden_losses.py > tests/golden/losses.json"
STEPS = 50
ELSEWHERE = 1e-3  # relative, on another CPU or with another torch; SSE4 instead of AVX-512 moved them by 3e-6
JUMPS = 0.1  # the same, where a last digit may turn a sign: a quantiser that learns
RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}


def losses(recipe, folder):
    """The 50 losses, from the log."""
    from made_up import made_up

    config = made_up(recipe, folder / "tokenizer")
    data = config.data.replace(like=config.data.like.replace(batch=2))
    fit(config.replace(optim=config.optim.replace(steps=STEPS), data=data), folder / "run", device="cpu")
    return [record["loss"] for record in read_log(folder / "run" / "log.jsonl") if "loss" in record]


def place():
    """What the last digits depend on: the version of torch and the family of the CPU."""
    file, known = Path("/proc/cpuinfo"), {}
    for line in reversed(file.read_text().splitlines() if file.is_file() else []):  # the first CPU stands last
        key, _, value = line.partition(":")
        known[key.strip()] = value.strip()
    family = " ".join(known.get(key, "?") for key in ("vendor_id", "cpu family", "model"))
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": family,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_golden(name, tmp_path, one_thread):
    stored = golden()
    assert name in stored["losses"], f"{name} has no golden losses; run: {COMMAND}"
    ours, theirs = losses(RECIPES[name], tmp_path), stored["losses"][name]
    assert len(ours) == len(theirs) == STEPS
    exact = place() == stored.get("places", {}).get(name, stored["place"])
    quantises = hasattr(getattr(RECIPES[name](preset="tiny").method, "tokenizer", None), "pyramid")
    allowed = 0.0 if exact else JUMPS if quantises else ELSEWHERE
    far = [(step, a, b) for step, (a, b) in enumerate(zip(ours, theirs), 1) if not abs(a - b) <= allowed * abs(b)]
    assert not far, f"step {far[0][0]}: {far[0][1]!r}, golden {far[0][2]!r}; where that is wanted, run: {COMMAND}"


def test_nothing_else_is_golden():
    assert sorted(golden()["losses"]) == sorted(RECIPES), f"run: {COMMAND}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: losses(recipe, Path(scratch) / name) for name, recipe in RECIPES.items()}
    print(json.dumps({"regenerate": COMMAND, "place": place(), "losses": made}, indent=1))
