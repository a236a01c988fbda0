"""Drift over time: worlds of shapes compared with the real one, whose state is known in every frame.

    python scripts/compare_drift.py runs/mmpl_shapes/model runs/world_shapes/model [--episodes 16] [--frames 120]
        [--record mmpl_shapes --record world_shapes]

Every world dreams the same new episodes under the same actions from the same two frames, with three sampling seeds.
Reported by ranges of frames: PSNR; the position error of the player (pixels: mean distance of the centre of white
from the known state; the middle of the frame if no white is left); contrast and sharpness relative to the real
frames. Means over episodes and seeds, and the largest deviation of a seed's mean. --record: the recipes of the
worlds, in the same order, beside which the PSNR gain over repeating the last known frame is stored. Baselines: the
last known frame repeated, and the real frames encoded and decoded by the first world's tokenizer, which is the upper
limit of its dreams.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

import vidar
from vidar.configs.figures import Figure
from vidar.data.synthetic import ShapesConfig, X, Y
from vidar.eval.frame_metrics import contrast, psnr, sharpness
from vidar.eval.record import check_record, command_line, record
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

CONTEXT = 2  # frames that every world receives
SEEDS = (0, 1, 2)
FIRST_EPISODE = 5_000_000  # far from the episodes of recordings
SPANS = ((1, 8), (9, 16), (17, 32), (33, 64), (65, 128))
WHITE = 130  # the darkest channel of a player's pixel is brighter; that of every other shape is far darker


def player(frames: np.ndarray) -> np.ndarray:
    """uint8 [.., H, W, 3] -> centre of white, x and y in pixels, float [.., 2]; the middle where there is none."""
    height, width = frames.shape[-3:-1]
    white = np.clip(frames.min(-1).astype(np.float64) - WHITE, 0, None)
    total = white.sum((-2, -1))
    y, x = np.mgrid[0:height, 0:width] + 0.5
    place = np.stack([(white * x).sum((-2, -1)), (white * y).sum((-2, -1))], -1) / np.maximum(total, 1)[..., None]
    return np.where(total[..., None] >= 1, place, np.array([width / 2, height / 2]))


def dreamed(world: VideoModel, clips: np.ndarray, actions: np.ndarray, seed: int, batch: int = 8) -> np.ndarray:
    """Clips uint8 [E, c + T, H, W, 3], actions [E, c + T, A] -> the world's frames after the first c: [E, T, ..]."""
    made: list[Tensor] = []
    for start in range(0, len(clips), batch):
        rows = slice(start, min(start + batch, len(clips)))
        table = torch.from_numpy(actions[rows])
        rngs = [Rng(seed, e) for e in range(rows.start, rows.stop)]
        context = torch.from_numpy(clips[rows, :CONTEXT].copy())
        stream = world.frames(context, iter(table[:, CONTEXT:].unbind(1)), table[:, :CONTEXT], rngs)
        made.append(torch.stack(list(islice(stream, clips.shape[1] - CONTEXT)), 1))
    return torch.cat(made).numpy()


def measures(states: np.ndarray, real: np.ndarray) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
    """Name -> function of frames [E, T, H, W, 3] that returns [E, T]; states [E, T, shapes, 6] of the real frames."""
    where = states[:, :, 0, [X, Y]]
    looks = {"contrast": contrast, "sharpness": sharpness}
    ratios = {name: (f, np.maximum(f(real).numpy().mean(0), 1e-9)) for name, f in looks.items()}
    return {
        "PSNR": lambda frames: psnr(frames, real, 255.0).numpy(),
        "player, pixels": lambda frames: np.linalg.norm(player(frames) - where, axis=-1),
        **{name: lambda frames, f=f, size=size: f(frames).numpy() / size for name, (f, size) in ratios.items()},
    }


def main(
    models: Annotated[
        list[str], typer.Argument(help="Worlds of shapes, 32 x 32; the tokenizer of the first is evaluated.")
    ],
    episodes: int = 16,
    frames: int = 120,
    recipes: Annotated[
        list[str] | None, typer.Option("--record", help="Recipes of these worlds, in the same order.")
    ] = None,
) -> None:
    """Print the tables."""
    named = dict(zip(models, recipes or []))
    check_record(*named.values())
    torch.set_num_threads(1)
    worlds = {name: load(name) for name in models}
    for name, world in worlds.items():
        if (world.config.height, world.config.width) != (32, 32):
            raise UsageError(f"{name}: is {world.config.width} x {world.config.height}; give worlds of shapes, 32 x 32")
    source = ShapesConfig(frames=CONTEXT + frames).build()
    played = [source.episode(FIRST_EPISODE + e) for e in range(episodes)]
    clips, actions = np.stack([p.frames for p in played]), np.stack([p.actions for p in played])
    states, real = np.stack([p.extras["state"] for p in played])[:, CONTEXT:], clips[:, CONTEXT:]
    answers = {name: [dreamed(world, clips, actions, seed) for seed in SEEDS] for name, world in worlds.items()}
    first = worlds[models[0]]
    answers["tokenizer alone"] = [first.decode(first.encode(torch.from_numpy(real.copy())))[0].numpy()]
    answers["copy last"] = [np.repeat(clips[:, CONTEXT - 1 : CONTEXT], frames, 1)]
    print(f"vidar {vidar.__version__}; {episodes} episodes, {frames} frames after {CONTEXT}, seeds {SEEDS}\n")
    for measure, judge in measures(states, real).items():
        judged = {name: np.stack([judge(made) for made in parts]) for name, parts in answers.items()}
        spans = [(a, min(b, frames)) for a, b in SPANS if a <= frames]
        print(f"| {measure} | " + " | ".join(f"{a}-{b}" for a, b in spans) + " |\n" + "|---" * (len(spans) + 1) + "|")
        for name, values in judged.items():
            print(f"| {name} | " + " | ".join(cell(values[:, :, a - 1 : b]) for a, b in spans) + " |")
        print()
        if measure == "PSNR":
            over = {model: gains(judged[model], judged["copy last"], spans) for model in named}
            for model, recipe in named.items():
                others = {known: over[other] for other, known in named.items() if model == models[0] != other}
                found = f"{episodes} held-out episodes, {len(SEEDS)} seeds", figures(over[model], others)
                record(recipe, command_line(sys.argv[0], sys.argv[1:]), found, model)


Gains = Mapping[tuple[int, int], float]


def gains(mine: np.ndarray, theirs: np.ndarray, spans: list[tuple[int, int]]) -> Gains:
    """[seeds, E, T] each -> the differences of their means by range."""
    return {(a, b): float(mine[:, :, a - 1 : b].mean() - theirs[:, :, a - 1 : b].mean()) for a, b in spans}


def figures(own: Gains, others: Mapping[str, Gains]) -> list[Figure]:
    """The figures to store: the first range is the main figure, that of the first other world is its baseline."""
    found = list[Figure]()
    for name, table, role in [
        ("over copy-last", own, "main"),
        *((f"by {n}", t, "baseline") for n, t in others.items()),
    ]:
        for number, ((a, b), value) in enumerate(table.items()):
            kind = role if number == 0 else "detail"
            found.append(
                Figure(name=f"{name}, frames {a}-{b}", value=round(value, 4), unit="dB", signed=True, role=kind)
            )
    return found


def cell(values: np.ndarray) -> str:
    """[seeds, E, T] -> the mean, and the largest deviation of a seed's mean."""
    by_seed = values.mean((1, 2))
    spread = f" +- {np.abs(by_seed - by_seed.mean()).max():.2f}" if len(by_seed) > 1 else ""
    return f"{by_seed.mean():.2f}{spread}"


if __name__ == "__main__":
    try:
        typer.run(main)
    except VidarError as error:
        sys.exit(f"compare_drift: {error}")
