"""Training steps of a world, alternately on one core: several forms of attention, or several checkouts.

    python scripts/bench_train_step.py [STEPS] [SIDE ...]

A SIDE is TREE or TREE@FORM: a checkout of vidar ("" is the installed one), and sdpa, slices or explicit instead of
the backbone's choice. Default: "" and @sdpa. Every side is a process of its own that trains world_doom (TWIN, 6 clips
of 12 frames, compiled, one thread) on artificial latents. The sides take turns, one step each, STEPS (20) times:
batch, loss, backward pass, optimiser and averaging. CPU time of the process is measured. "plain": true frames as
context; "own": as in the recipe, half of the batches see self-generated context.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch

WARM_UP = 4


class Side:
    """A process that makes one step on request."""

    def __init__(self, name: str, own: str) -> None:
        tree, _, form = name.partition("@")
        env = {**os.environ, **({"PYTHONPATH": tree} if tree else {})}
        command = [sys.executable, __file__, "--side", form, own]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self) -> float:
        """CPU seconds of one step."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def job(form: str, own: bool, folder: Path) -> Any:
    """A training run of world_doom before its first step."""
    from vidar.configs.doom import world_doom
    from vidar.nn.attention import ExplicitConfig, SDPAConfig
    from vidar.nn.slices import SlicesConfig
    from vidar.train.engine import PlainEngine
    from vidar.train.loop import TrainState

    config: Any = world_doom()
    method = config.method if own else config.method.replace(own_context=None)
    forms = {"sdpa": SDPAConfig(), "slices": SlicesConfig(), "explicit": ExplicitConfig()}
    if form:
        net = method.world.net
        net = net.replace(backbone=net.backbone.replace(attention=forms[form]))
        method = method.replace(world=method.world.replace(net=net))
    torch.manual_seed(0)
    built, nothing = method.build(), cast(Any, None)
    model: Any = built.build_model()
    made = TrainState(config, folder, built, nothing, PlainEngine(config, model, torch.device("cpu")))
    model.compile()
    model.train()
    return made


def batch(number: int, size: int = 6, frames: int = 12) -> Any:
    """Artificial latents."""
    from vidar.train.latents import LatentBatch

    generator = torch.Generator().manual_seed(number)
    codes = torch.randn(size, frames, 20, 32, generator=generator).bfloat16()
    actions = (torch.rand(size, frames, 5, generator=generator) < 0.3).float()
    unknown = torch.zeros(size, frames, dtype=torch.bool)
    unknown[:, 0] = True
    numbers = torch.arange(number * size, (number + 1) * size)
    return LatentBatch(codes, actions, unknown, numbers, [str(n) for n in numbers.tolist()])


def serve(form: str, own: str) -> None:
    """Make one step per input line and print its CPU seconds."""
    from vidar.train.loop import train_step

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = job(form, own == "own", Path(folder))
        for number, _ in enumerate(sys.stdin):
            start = time.process_time()
            train_step(made, batch(number), 1e-3)
            made.counters.cursor += 1
            print(time.process_time() - start, flush=True)


def main(steps: str = "20", *names: str) -> None:
    """Print medians and the ratio of every side to the first."""
    from vidar.eval.provenance import hardware

    print(f"{hardware('cpu')}, torch {torch.__version__}, one thread")
    for own in ("plain", "own"):
        sides = {name: Side(name, own) for name in names or ("", "@sdpa")}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(WARM_UP + int(steps)):
            for name, side in sides.items():
                seconds = side.step()
                found[name] += [seconds] if turn >= WARM_UP else []
        first = next(iter(found.values()))
        for name, known in found.items():
            ratio = statistics.median(a / b for a, b in zip(first, known, strict=True))
            total = sum(first) / sum(known)
            print(
                f"{own:>6} {name or 'this':>30}: median {1e3 * statistics.median(known):.0f} ms, best "
                f"{1e3 * min(known):.0f}, mean {1e3 * statistics.mean(known):.0f}; the first takes {ratio:.2f} times "
                f"as long (median of turns; {total:.2f} of all)"
            )
        for side in sides.values():
            side.process.kill()


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:2] == ["--side"] else main(*sys.argv[1:])
