"""Time and memory of the closed-form BlockMask compared with the dense mask that it replaces.

    python scripts/bench_block_mask.py [SLOTS ...]

Both are built from the same view, alternately; the dense mask only up to 12,800 slots.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch

from vidar.core.block_mask import block_mask
from vidar.core.layout import View, compile_layout
from vidar.core.mask import visible
from vidar.core.step import twin
from vidar.orders.frame import frame_order

SITES, PAST, RUNS = 20 * 20, 16, 5
DENSE_MOST = 12_800


def seconds(make: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    make()
    return time.perf_counter() - start


def bench(slots: int) -> str:
    """One line with the medians of alternate runs."""
    frames = slots // (2 * SITES)
    order, grid = frame_order(20, 20, frames, PAST, 1)
    view: View = compile_layout(twin(range(frames)), order, [grid]).views["main"]
    block_mask(view)  # warm-up
    closed, dense = [], []
    for _ in range(RUNS):
        closed.append(seconds(lambda: block_mask(view)))
        if slots <= DENSE_MOST:
            dense.append(seconds(lambda: visible(view.relation, view.q, view.k, view.axes)))
    size = view.q.site.shape[1]
    line = f"{size:>7} slots: closed form {statistics.median(closed) * 1e3:8.1f} ms"
    if dense:
        ratio = statistics.median(d / c for d, c in zip(dense, closed, strict=True))
        return f"{line}, dense {statistics.median(dense) * 1e3:8.1f} ms, ratio {ratio:.1f}"
    return f"{line}, dense would hold {size**2 / 2**20:,.0f} MiB"


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, twin frames of {SITES} sites, past {PAST}")
    for count in [int(text) for text in sys.argv[1:]] or [3_200, 12_800, 50_400]:
        print(bench(count))
