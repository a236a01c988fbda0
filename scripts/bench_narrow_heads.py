"""Is attention trained faster in bfloat16 or in float32? Heads of several widths on a CPU, one thread.

    python scripts/bench_narrow_heads.py

Milliseconds of forward and backward of scaled_dot_product_attention from bfloat16 queries, keys and values, used
directly and widened to float32, run alternately (A, B, A, B), medians; their ratio; and which of them `sdpa`
(vidar/nn/attention.py) uses.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn import functional as F

from vidar.eval.provenance import hardware
from vidar.nn.attention import slow_backward

WIDTHS, SIZES, TURNS = (16, 32, 64, 128), ((32, 37), (16, 128), (8, 300), (4, 590)), 5  # sizes: rows, slots


def spent(q: torch.Tensor, dtype: torch.dtype, mask: torch.Tensor) -> float:
    """Seconds of one forward and backward."""
    start = time.perf_counter()
    wide = q.to(dtype)
    F.scaled_dot_product_attention(wide, wide, wide, attn_mask=mask).to(q.dtype).sum().backward()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{hardware('cpu')}, one thread\n{'width':>6}{'rows':>6}{'slots':>6}{'bf16 ms':>9}{'fp32 ms':>9}  bf16/fp32")
    for width in WIDTHS:
        for rows, slots in SIZES:
            q = torch.randn(rows, max(1, 128 // width), slots, width, dtype=torch.bfloat16, requires_grad=True)
            mask = (torch.rand(slots, slots) < 0.6) | torch.eye(slots, dtype=torch.bool)
            times: dict[torch.dtype, list[float]] = {torch.bfloat16: [], torch.float32: []}
            for _ in range(TURNS + 1):
                for dtype, known in times.items():
                    known.append(spent(q, dtype, mask))
            narrow, wide = (1e3 * statistics.median(known[1:]) for known in times.values())  # the first turn is warm-up
            taken = "fp32" if slow_backward(q) else "bf16"
            print(f"{width:>6}{rows:>6}{slots:>6}{narrow:>9.1f}{wide:>9.1f}{narrow / wide:>11.2f}  taken: {taken}")


if __name__ == "__main__":
    main()
