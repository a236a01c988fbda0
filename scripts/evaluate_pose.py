"""Evaluate a pose network on held-out play: the errors of turn and step per frame and per second.

    python scripts/evaluate_pose.py runs/pose_doom/model runs/data/pose [doom] [--record pose]

`reconstructed`: the same frames, encoded and decoded by the tokenizer of the world, which is the best that its dreams
can look. `blurred`: after a Gaussian blur of one pixel. Per frame, all steps count; per second those in which the
network expects to read the real frames well. Percent: of the true motion per second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.configs.figures import Figure
from vidar.data.reader import data_info, episodes
from vidar.eval.following import errors, readable
from vidar.eval.record import check_record, command_line, percent, record
from vidar.model.load import load_world
from vidar.nn.pose import AXES, PoseNet, motion
from vidar.train.methods.inverse_dynamics import blurred


@torch.inference_mode()
def judge(model: str, data: str, world: str, split: str, most: int | None, real: bool) -> tuple[str, list[Figure]]:
    """Print a line for real, reconstructed and blurred frames; returns the figures of the real ones.

    most: number of episodes; None: all. real: only the real frames.
    """
    net, dreamer = PoseNet.from_pretrained(model), load_world(world, "cpu")
    sources: dict[str, Callable[[Tensor], Tensor]] = {
        "real": lambda frames: frames,
        "reconstructed": lambda frames: dreamer.decode(dreamer.encode(frames))[0],
        "blurred": lambda frames: blurred(frames, 1.0),
    }
    found: dict[str, list[np.ndarray]] = {source: [] for source in (["real"] if real else sources)}
    truth = list[np.ndarray]()
    for episode in islice(episodes(data, split, extras=("pose",)), most):
        frames = torch.from_numpy(np.ascontiguousarray(episode.frames))[None]
        truth.append(motion(torch.from_numpy(episode.extras["pose"].copy())).numpy())
        for source, parts in found.items():
            parts.append(torch.cat(net.read(sources[source](frames)), -1)[0].double().numpy())
    true, there = padded(truth)
    print(f"{model} on {len(truth)} episodes of {data} ({split}): {there.sum()} steps")
    print(f"{'mean motion':>14} {axes(np.abs(true[there]).mean(0))}")
    figures = list[Figure]()
    seen = {kind: there & flags for kind, flags in readable(padded(found["real"])[0][..., 3:]).items()}
    for source, parts in found.items():
        read = padded(parts)[0][..., :3]
        told = errors(read, true, seen["turn"], seen["step"], data_info(data).fps)
        print(f"{source:>14} {axes(np.abs(read - true)[there].mean(0))}; {'; '.join(map(line, told, told.values()))}")
        for name, one in told.items():
            if source == "real":
                role = "detail" if figures else "main"
                figures.append(percent(f"{name} error per second", one["relative"], 1, role=role))
    return f"{there.sum():,} steps of {len(truth)} held-out episodes", figures


def axes(values: np.ndarray) -> str:
    """A value of each axis."""
    return ", ".join(f"{axis} {value:.2f}" for axis, value in zip(AXES, values))


def line(name: str, found: dict[str, Any]) -> str:
    """The figures of turn or step."""
    low, high = found["interval"]
    share = f"{found['relative']:.1%} [{low:.1%}, {high:.1%}]"
    return f"{name} per second {found['second']:.2f} of {found['game']:.1f}, {share}, {found['judged']:.0%} judged"


def padded(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays [T, N] of several lengths -> [E, T, N] with zeros after the end, and bool [E, T]: before the end."""
    lengths = np.array([len(part) for part in parts])
    there = np.arange(lengths.max()) < lengths[:, None]
    whole = np.zeros((*there.shape, parts[0].shape[1]))
    whole[there] = np.concatenate(parts)
    return whole, there


def main() -> None:
    """Evaluate, and store the figures beside the recipe if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("world", nargs="?", default="doom")
    parser.add_argument("split", nargs="?", default="heldout")
    parser.add_argument("--episodes", type=int, help="number of episodes (default: all)")
    parser.add_argument("--real", action="store_true", help="only the real frames")
    parser.add_argument("--record", metavar="RECIPE")
    given = parser.parse_args()
    check_record(given.record)
    found = judge(given.model, given.data, given.world, given.split, given.episodes, given.real)
    if given.record:
        record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.model)


if __name__ == "__main__":
    main()
