"""Teacher and students in one table: PSNR by horizon, sharpness, action score, survival, frames per second.

    python scripts/compare_worlds.py OUT MODEL[@STEPS] [MODEL[@STEPS] ...]

Runs `vidar eval --suite world` and `--suite endless` on each model and keeps the reports in OUT/NAME; an existing
report is reused. Frames per second are measured at the end, on one thread, for all models alternately (A, B, A, B).
All other models are compared with the first one, start by start (`vidar eval compare`): OUT/compare/SUITE has the page.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vidar
from vidar.data.atomic import replacing
from vidar.eval import compare, endless, world_suite
from vidar.eval.provenance import hardware
from vidar.model.load import load, locate, save
from vidar.model.model import VideoModel
from vidar.model.start_hashes import START
from vidar.types import VidarError

HORIZONS = (1, 4, 8, 16, 32)
SUITES = {"world": world_suite.run, "endless": endless.run}
TURNS, FRAMES = 4, 100


def main(out: str, *models: str) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    if not models:
        raise SystemExit(__doc__)
    places = {model: Path(out) / model.strip("/").replace("/", "-") for model in models}
    folders = {model: stored(model, place) for model, place in places.items()}
    rows = [{**judged(folders[model], places[model]), "model": model} for model in models]
    rates = frames_per_second([load(folders[model]) for model in models])
    print(f"vidar {vidar.__version__}, {hardware('cpu')}, one thread; fixed suites world and endless\n")
    horizons = " | ".join(f"PSNR {n}" for n in HORIZONS)
    print(f"| world | steps | {horizons} | 1-16 | sharpness | actions | survival | frames/s |")
    print("|---" * (len(HORIZONS) + 7) + "|")
    for row, rate in zip(rows, rates, strict=True):
        psnr = " | ".join(f"{value:.1f}" for value in row["psnr"])
        judged_by = f"{row['mean']:.2f} | {row['sharpness']:.2f} | {row['actions']:.3f} | {row['survival']:.0f}"
        print(f"| {row['model']} | {row['steps']} | {psnr} | {judged_by} | {rate:.1f} |")
    for suite in SUITES if len(models) > 1 else ():
        page = Path(out) / "compare" / suite
        for name, figures in compare.run([place / suite for place in places.values()], page)["rows"].items():
            for row in figures:
                interval = f"{row['difference']:+.3g} ({row['low']:+.3g} to {row['high']:+.3g})"
                print(f"{name}, {row['figure']}: {interval}, {row['verdict']}")


def stored(model: str, place: Path) -> Path:
    """The folder of a model; for another number of steps, a copy below `place`."""
    name, _, steps = model.partition("@")
    folder = locate(name)
    if not steps:
        return folder
    world, copy = load(folder), place / "model"
    changed = VideoModel(world.config.with_steps(int(steps)), world.tokenizer, world.net, world.start)
    save(changed, copy)
    if (folder / START).is_file():
        with replacing(copy / START) as file:
            shutil.copyfile(folder / START, file)
    return copy


def judged(folder: Path, place: Path) -> dict[str, Any]:
    """The results in the reports of both suites."""
    reports: dict[str, dict[str, Any]] = {}
    for name, suite in SUITES.items():
        file = place / name / "report.json"
        if not file.is_file():
            suite(str(folder), place / name)
        reports[name] = json.loads(file.read_text())
    world = reports["world"]
    score = world["action_score"]
    return {
        "steps": world["steps"],
        "psnr": [world["psnr"]["model"][n - 1] for n in HORIZONS],
        "mean": world["means"]["psnr"],
        "sharpness": world["sharpness_ratio"],
        "actions": score["model"]["mean"] / score["real"]["mean"],
        "survival": reports["endless"]["survival"]["mean"],
    }


def frames_per_second(worlds: list[VideoModel]) -> np.ndarray:
    """Frames per second of one dream each, generation and decoding; medians over turns."""
    streams = [world.rollout(1) for world in worlds]
    rates = np.zeros((TURNS, len(worlds)))
    for turn in range(TURNS):
        for number, (world, stream) in enumerate(zip(worlds, streams, strict=True)):
            stream.begin(0, None, None, turn)
            rest = torch.from_numpy(world.config.actions.noop())[None]
            for count in (10, FRAMES):  # the first turn is a warm-up
                start = time.perf_counter()
                for _ in range(count):
                    world.decode(stream.frame(rest)[:, None])
                rates[turn, number] = count / (time.perf_counter() - start)
    return np.median(rates, 0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except VidarError as error:
        sys.exit(f"compare_worlds: {error}")
