"""Every form of attention on a CPU at the shapes of vidar's worlds, on one thread, compared with a matrix product.

    python scripts/bench_attention_forms.py [DTYPE] [TURNS]

Per shape: medians of TURNS (7) passes of each form, run alternately (A, B, A, B), in milliseconds; and the share of
the time that the visible pairs would take at the rate of a 1024 x 1024 x 1024 product, which is timed in every turn.
DTYPE: float32 (the default where bfloat16 is emulated) or bfloat16. "takes" is the choice of AutoAttentionConfig.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from vidar.configs.doom import world_doom
from vidar.eval.provenance import hardware
from vidar.nn.asked import reading
from vidar.nn.case import Case
from vidar.nn.choice import choose, forms, trial
from vidar.nn.precision import fast_dtype
from vidar.nn.runs import groups
from vidar.train.config import TrainConfig
from vidar.train.methods.world import TrainWorldConfig

SIDE = 1024  # side of the product that gives the rate


def cases(dtype: torch.dtype) -> dict[str, Case]:
    """The measured cases by name."""
    config: TrainConfig = world_doom()
    assert isinstance(config.method, TrainWorldConfig)
    backbone, part = config.method.world.net.backbone, reading(config.method.build().layout)
    assert part is not None
    found: dict[str, Case] = {}
    for name, of in (("world_doom", part.read), ("world_doom, last block", part.asked)):
        view = of.layout.views["main"]
        runs, sizes = tuple(groups(view) or ()), (view.q.cell.shape[1], view.k.cell.shape[1], backbone.head_width)
        case = Case("cpu", dtype, 6, backbone.heads, *sizes, True, ring=False, backward=True, groups=runs)
        found[f"training of {name}"] = case
        found[f"answers of {name}"] = replace(case, backward=False)
    play = Case("cpu", dtype, 1, backbone.heads, 40, 180, backbone.head_width, True, ring=True)
    found["play of doom, first call"] = play
    found["play of doom"] = replace(play, slots=20, keys=160)
    found["144 sites, window 8, 6 heads"] = Case("cpu", dtype, 1, 6, 144, 9 * 144, 64, True, ring=True)
    found["144 sites, window 8, 3 heads"] = Case("cpu", dtype, 1, 3, 144, 9 * 144, 128, True, ring=True)
    found["144 sites, nothing hidden"] = replace(found["144 sites, window 8, 6 heads"], masked=False)
    return found


def in_turn(runs: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each; the first turn is a warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(known[1:]) for name, known in spent.items()}


def main(dtype: str = str(fast_dtype()).removeprefix("torch."), turns: str = "7") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    kind: torch.dtype = getattr(torch, dtype)
    print(f"{hardware('cpu')}, torch {torch.__version__}, one thread, {dtype}")
    square = torch.randn(SIDE, SIDE).to(kind)
    for name, case in cases(kind).items():
        with torch.set_grad_enabled(case.backward):
            run = trial(case)
            runs: dict[str, Callable[[], object]] = {form: partial(run, form) for form in forms(case)}
            spent = in_turn({**runs, "rate": partial(torch.mm, square, square)}, int(turns))
        rate = 2 * SIDE**3 / spent.pop("rate")
        visible = 1 - case.saved / (case.slots * case.keys)
        floor = case.work * visible * (3 if case.backward else 1) / rate  # 2 products forward and 4 backward
        told = "   ".join(f"{form} {1e3 * s:.2f} ({floor / s:.0%})" for form, s in spent.items())
        print(f"{name} [{case}]\n    {told}   rate {rate / 1e9:.0f} GFLOP/s   takes {choose(case)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
