"""Ablation of next-scale prediction on the synthetic world of shapes: 16 short runs, two seeds each.

    python scripts/ablate_scales.py runs/ablate_scales
    python scripts/ablate_scales.py runs/ablate_scales --tokenizer-steps 200 --world-steps 100

First four quantisers at 12 bits per site, with the same autoencoder and scales: PSNR on unseen episodes, codewords in
use. Then worlds on the tokenizer with BSQ: as in the recipe; without cross-frame error correction; without the frame
mask; with memory units that hold what the last scale saw of a frame, without its finest labels. Their dreams of
unseen episodes use the same actions, context and noise; reported are PSNR by ranges of frames, the difference to the
recipe, and sharpness. All runs of one seed have the same data in the same order and the same number of steps. The
same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vidar
from vidar.configs.videoar import SHAPES_SIZES, tokenizer_videoar_shapes, videoar_shapes
from vidar.data.atomic import replacing
from vidar.data.episode import Episode
from vidar.data.synthetic import ShapesConfig
from vidar.eval.codewords import perplexity
from vidar.eval.frame_metrics import paired_interval, psnr, sharpness
from vidar.model.load import load
from vidar.nn.pretrained import load_component
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.fsq import FSQConfig
from vidar.tokenizers.lfq import LFQConfig
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.vq import VQConfig
from vidar.train.config import TrainConfig
from vidar.types import VidarError

BITS, SEEDS, KNOWN, FRAMES, UNSEEN = 12, (0, 1), 4, 64, 1_000_000
STRETCHES = ((1, 8), (9, 16), (17, 32), (33, 64))
QUANTISERS = {
    "VQ": VQConfig(channels=BITS, size=2**BITS, decay=0.99, revive_after=100),
    "LFQ": LFQConfig(channels=BITS),
    "FSQ": FSQConfig(levels=(8,) * (BITS // 3)),
    "BSQ": BSQConfig(channels=BITS),
}
Tables = dict[str, dict[str, list[dict[str, Any]]]]
SCALES = len(SHAPES_SIZES["demo"].sides)
WORLDS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no error correction": {"flip_first": 0.0, "flip_last": 0.0},
    "no frame mask": {"p_hidden": 0.0},
    "coarse memory": {"recall": SCALES - 1},
}


def tokenizer(folder: Path, name: str, seed: int, steps: int) -> TrainConfig:
    """The recipe with another quantiser.

    Choice: only the codes of BSQ have length 1, so latents are scaled only for BSQ.
    """
    config = tokenizer_videoar_shapes(data=str(folder / "data"))
    pyramids, quantiser = config.method.tokenizer, QUANTISERS[name]
    channels = quantiser.build().channels
    pyramids = pyramids.replace(
        autoencoder=pyramids.autoencoder.replace(latent_channels=channels),
        pyramid=pyramids.pyramid.replace(quantiser=quantiser),
        scale=channels**-0.5 if name == "BSQ" else 1.0,
    )
    return _bounded(config.replace(method=config.method.replace(tokenizer=pyramids)), seed, steps)


def world(folder: Path, name: str, seed: int, steps: int) -> TrainConfig:
    """The recipe on the tokenizer with BSQ, with one part of the objective changed."""
    trained = folder / f"tokenizer-BSQ-{SEEDS[0]}" / "model"
    config = videoar_shapes(data=str(folder / "data"), tokenizer=str(trained))
    made = config.method.world
    backbone = made.net.backbone.replace(in_width=2 * BITS + SCALES + 1, out_width=2 * BITS)
    made = made.replace(
        tokenizer=load_component(trained).config,
        objective=made.objective.replace(**WORLDS[name]),
        net=made.net.replace(backbone=backbone),
    )
    return _bounded(config.replace(method=config.method.replace(world=made)), seed, steps)


def _bounded(config: TrainConfig, seed: int, steps: int) -> TrainConfig:
    data = config.data.replace(seed=seed)
    optim = config.optim.replace(steps=steps, warmup_steps=min(config.optim.warmup_steps, steps // 4))
    return config.replace(seed=seed, data=data, optim=optim, minutes=None, sample_every=0)


def once(folder: Path, config: TrainConfig, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Train and measure, or read the earlier measurement."""
    result = folder / "result.json"
    if not result.is_file():
        start = time.process_time()
        fitted = vidar.fit(config, folder, resume="auto")
        used = time.process_time() - start  # of a run that was not interrupted
        if fitted.stopped or fitted.model is None:
            raise SystemExit(f"{folder}: stopped at step {fitted.step}; run the same command to resume")
        found = {"cpu_seconds": used, "steps": fitted.step, **measure(fitted.model)}
        with replacing(result) as file:
            file.write_text(json.dumps(found))
    return json.loads(result.read_text())


def episodes(count: int) -> list[Episode]:
    """Episodes of the synthetic game that no recording contains."""
    return [ShapesConfig(frames=KNOWN + FRAMES).build().episode(UNSEEN + number) for number in range(count)]


@torch.inference_mode()
def reconstruction(model: Path, count: int) -> dict[str, Any]:
    """PSNR in dB of every episode; perplexity of the codewords of the last scale, and their number."""
    tokens = load_component(model)
    values, words = list[float](), list[torch.Tensor]()
    for episode in episodes(count):
        video = torch.from_numpy(episode.frames[None, ::8])
        back = to_uint8(tokens.decode(tokens.encode(to_float(video))[0])[0])
        values.append(float(psnr(back, video, 255.0).mean()))
        words.append(tokens.labels(to_float(video))[-1].flatten(0, 3))
    joined = torch.cat(words)
    return {"psnr": values, "perplexity": perplexity(joined), "words": len(joined)}


@torch.inference_mode()
def dreams(model: Path, count: int) -> dict[str, Any]:
    """PSNR in dB of every episode and frame, and sharpness relative to the game, for all episodes in one batch."""
    made, scenes = load(model), episodes(count)
    streams = made.rollout(count)
    for row, scene in enumerate(scenes):
        streams.begin(row, scene.frames[:KNOWN], scene.actions[:KNOWN], row)
    actions = torch.from_numpy(np.stack([scene.actions[KNOWN:] for scene in scenes]))
    codes = [streams.frame(actions[:, t]) for t in range(FRAMES)]
    real = torch.from_numpy(np.stack([scene.frames[KNOWN:] for scene in scenes]))
    video = made.decode(torch.stack(codes, 1))[0]
    ratio = sharpness(video.numpy()).mean(1) / sharpness(real.numpy()).mean(1)
    return {"psnr": psnr(video, real, 255.0).tolist(), "sharpness": ratio.tolist()}


def difference(mine: list[Any], base: list[Any], first: int, last: int) -> str:
    """Mean of `mine` over frames first to last, and its difference to `base` with a 95 % interval.

    The interval is over episodes and seeds.
    """
    a, b = (np.concatenate([np.array(run)[:, first - 1 : last].mean(1) for run in runs]) for runs in (mine, base))
    mean, low, high = paired_interval(a, b)
    return f"{a.mean():6.2f}" + ("" if mine is base else f" {mean:+.2f} [{low:+.2f}, {high:+.2f}]")


def main() -> None:
    """Train what is missing, then print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer-steps", type=int, default=700)
    parser.add_argument("--world-steps", type=int, default=160)
    parser.add_argument("--episodes", type=int, default=32, help="number of unseen episodes per measurement")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder
    if not (folder / "data" / "shards.json").is_file():
        vidar.record(ShapesConfig(), None, folder / "data", episodes=400)
    report(measured(folder, given.episodes, {"tokenizer": given.tokenizer_steps, "world": given.world_steps}))


def measured(folder: Path, count: int, steps: dict[str, int]) -> Tables:
    """The measurements of all runs by kind and name, one per seed."""
    tables: Tables = {"tokenizer": {}, "world": {}}
    for kind, names, build, measure in (
        ("tokenizer", QUANTISERS, tokenizer, reconstruction),
        ("world", WORLDS, world, dreams),
    ):
        for seed in SEEDS:
            for name in names:
                place = folder / f"{kind}-{name.replace(' ', '-')}-{seed}"
                if not (place / "result.json").is_file():
                    print(f"{place}: {steps[kind]} steps", flush=True)
                found = once(place, build(folder, name, seed, steps[kind]), partial(measure, count=count))
                tables[kind].setdefault(name, []).append(found)
    return tables


def report(tables: Tables) -> None:
    """Print the results and the CPU time."""
    for kind, runs in tables.items():
        most = max(run["cpu_seconds"] for same in runs.values() for run in same)
        print(f"a {kind}: at most {most:.0f} seconds of CPU")
    print(
        f"\nquantisers, {BITS} bits a site: PSNR in dB on unseen episodes, difference to BSQ [95 %]; codewords in use"
    )
    base = [[[value] for value in run["psnr"]] for run in tables["tokenizer"]["BSQ"]]
    for name, runs in tables["tokenizer"].items():
        mine = base if name == "BSQ" else [[[value] for value in run["psnr"]] for run in runs]
        used = ", ".join(f"{run['perplexity']:.0f} of {run['words']}" for run in runs)
        print(f"{name:20}{difference(mine, base, 1, 1):32} {used}")
    header = "".join(f"frames {a}-{b}".ljust(30) for a, b in STRETCHES)
    print(f"\nworlds: PSNR in dB of dreams, difference to the recipe [95 %]\n{'':20}{header}sharpness")
    base = [run["psnr"] for run in tables["world"]["recipe"]]
    for name, runs in tables["world"].items():
        mine = base if name == "recipe" else [run["psnr"] for run in runs]
        row = "".join(difference(mine, base, *stretch).ljust(30) for stretch in STRETCHES)
        print(f"{name:20}{row}{np.mean([run['sharpness'] for run in runs]):.2f}")


if __name__ == "__main__":
    try:
        main()
    except VidarError as error:
        sys.exit(f"ablate_scales: {error}")
