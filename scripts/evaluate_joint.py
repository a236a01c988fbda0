"""Quality of frames generated jointly: a SINGLE world of shapes compared with the real game, for several M.

    python scripts/evaluate_joint.py runs/joint/world/model
    python scripts/evaluate_joint.py runs/joint --minutes 30

With --minutes the script first records the game and trains the world there: world_shapes without its hint. Every M
plays the same actions from the same four frames and noise. Reported is PSNR in dB per frame, averaged over the frames
of an episode and then over episodes that no recording contains, with the 95 % interval of the difference to M = 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import vidar
from vidar.config import load_file, override
from vidar.configs.shapes import CHANNELS, tokenizer_shapes, world_shapes
from vidar.data.episode import Episode
from vidar.data.synthetic import ShapesConfig
from vidar.eval.frame_metrics import paired_interval, psnr
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.objectives.hint import NoHintConfig
from vidar.rollout.joint import JointStream, check_joint
from vidar.train.config import TrainConfig
from vidar.train.methods.world import SingleConfig
from vidar.types import VidarError

KNOWN = 4  # frames of context
UNSEEN = 1_000_000  # the first seed of episodes that no recording contains


def scene(world: VideoModel, number: int, frames: int) -> Episode:
    """An episode of the synthetic game that no recording contains, in the frame size of the world."""
    size = {"height": world.config.height, "width": world.config.width}
    return ShapesConfig(frames=frames, fps=world.config.fps, **size).build().episode(UNSEEN + number)


def quality(world: VideoModel, counts: Sequence[int], episodes: int, frames: int) -> None:
    """PSNR against the synthetic game under the same actions, on episodes that no recording contains."""
    counts = [1, *(count for count in counts if 1 < count <= (world.config.order.window or 0))]
    for count in counts:
        check_joint(world.setting(), count)
    made: dict[int, list[float]] = {count: [] for count in counts}
    still, drawn = list[float](), list[float]()
    for number in range(episodes):
        truth = scene(world, number, KNOWN + frames)
        real = torch.from_numpy(truth.frames)[None, KNOWN:]
        for count in counts:
            stream = JointStream(world.setting(), count)
            stream.begin(truth.frames[:KNOWN], truth.actions[:KNOWN], number)
            codes = [stream.frame(row[None]) for row in torch.from_numpy(truth.actions[KNOWN:])]
            made[count].append(float(psnr(world.decode(torch.stack(codes, 1))[0], real, 255.0).mean()))
        last = torch.from_numpy(truth.frames)[None, KNOWN - 1 : KNOWN].expand_as(real)
        still.append(float(psnr(last, real, 255.0).mean()))
        drawn.append(float(psnr(world.decode(world.encode(real))[0], real, 255.0).mean()))
    print(f"\nquality: PSNR in dB over frames 1-{frames} of {episodes} episodes, difference to M = 1 (95 %)")
    for count, values in made.items():
        line = f"{count:>4}{np.mean(values):8.2f}"
        if count > 1:
            mean, low, high = paired_interval(np.array(values), np.array(made[1]))
            line += f"{mean:+8.2f} ({low:+.2f} .. {high:+.2f})"
        print(line)
    print(f"the last known frame repeated {np.mean(still):.2f}, the game after the tokenizer {np.mean(drawn):.2f}")


def recipe(folder: Path, minutes: float) -> tuple[TrainConfig, TrainConfig]:
    """world_shapes (SINGLE) without its hint, and its tokenizer, which gets a third of the minutes."""
    data, tokenizer = str(folder / "data"), folder / "tokenizer"
    first = tokenizer_shapes(data=data, minutes=minutes / 3).replace(out=str(tokenizer))
    world = world_shapes(data=data, tokenizer=str(tokenizer / "model"), minutes=2 * minutes / 3)
    world = override(world, "method.world.objective.hint", NoHintConfig())
    world = override(world, "method.world.net.backbone.in_width", CHANNELS + 1)
    assert isinstance(world, TrainConfig)
    return first, world.replace(out=str(folder / "world"))


def trained(folder: Path, minutes: float) -> VideoModel:
    """Record the synthetic game and train on it."""
    vidar.record(ShapesConfig(), None, folder / "data", episodes=300)
    for config in recipe(folder, minutes):
        result = vidar.fit(config)
        print(f"{config.name}: {result.step} steps in {result.elapsed / 60:.1f} minutes")
    return single(folder / "world" / "model")


def single(folder: Path) -> VideoModel:
    """Load a trained world. Raises VidarError if its run was not trained with SINGLE."""
    run = folder.parent / "config.yaml"
    if run.is_file():
        stream = getattr(load_file(run).method, "stream", None)
        if not isinstance(stream, SingleConfig):
            raise VidarError(f"{run}: trained with {type(stream).__name__}; *joint* needs SingleConfig")
    else:
        print(f"{folder}: no record of its training; it is assumed to be SINGLE")
    return load(folder)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a trained world, or the output folder of --minutes")
    parser.add_argument("--minutes", type=float, help="train a world first, for this many minutes")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of frames in flight")
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--frames", type=int, default=24, help="frames per episode after the context")
    given = parser.parse_args()
    try:
        world = trained(given.folder, given.minutes) if given.minutes else single(given.folder)
        quality(world, given.counts, given.episodes, given.frames)
    except VidarError as error:
        parser.exit(1, f"evaluate_joint: {error}\n")


if __name__ == "__main__":
    main()
