"""Time that a training step spends on preparing its inputs: all rows of a batch at once, compared with unit by unit.

    python scripts/bench_prepare.py [TURNS]

Run alternately (A, B, A, B) on one thread, with the batch and the clips of the recipe: A is `unit_by_unit`, B is the
objective's `prepare`; their results are equal bit for bit. Prints medians, the ratio A / B of neighbouring turns, and
how much of B the random numbers take, which are drawn from the keys of each clip and unit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

import vidar
from vidar.configs.doom import world_doom
from vidar.configs.nfd import world_nfd
from vidar.core.layout import Layout
from vidar.eval.provenance import hardware
from vidar.objectives.flow import Flow
from vidar.objectives.rows import rows_of
from vidar.rng import Rng, every, normals, uniforms

CASES = {"world_doom": world_doom, "world_nfd preset=310m": lambda: world_nfd(preset="310m")}
Answer = TypeVar("Answer")


def main(turns: str = "15") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"vidar {vidar.__version__}, torch {torch.__version__}, {hardware('cpu')}, one thread, {turns} turns")
    for name, recipe in CASES.items():
        config: Any = recipe()
        method, batch = config.method.build(), config.data.batch
        bench(name, method.objective, method.layout, batch, int(turns))


def bench(name: str, flow: Flow, layout: Layout, batch: int, turns: int) -> None:
    """Print one line."""
    sites = 1 + int(layout.slots.site.max())
    codes = torch.randn(batch, sites, flow.channels, generator=torch.Generator().manual_seed(0)).bfloat16()
    spent: dict[str, list[float]] = {"A": [], "B": [], "draws": []}
    for turn in range(turns + 1):
        rngs = [Rng(0, turn * batch + clip) for clip in range(batch)]
        plain, a = timed(partial(unit_by_unit, flow, codes, layout, rngs))
        (seen, target, _), b = timed(partial(flow.prepare, codes, layout, rngs))
        assert torch.equal(plain[0], seen) and torch.equal(plain[1], target.value)
        _, draws = timed(partial(drawn, flow, codes.float(), layout, rngs))
        if turn:  # the first warms up
            for kind, seconds in zip(spent, (a, b, draws), strict=True):
                spent[kind].append(1e3 * seconds)
    share = median(b / a for a, b in zip(spent["A"], spent["B"], strict=True))
    a, b, draws = (median(values) for values in spent.values())
    print(f"{name}: batch {batch}, {layout.num_slots} slots, {layout.num_rows} rows: unit by unit {a:.1f} ms, ", end="")
    print(f"at once {b:.2f} ms (draws alone {draws:.2f}), ratio {share:.3f} (1 / {1 / share:.1f})")


def timed(call: Callable[[], Answer]) -> tuple[Answer, float]:
    """The result of a call, and its seconds."""
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def drawn(flow: Flow, codes: Tensor, layout: Layout, rngs: Sequence[Rng]) -> None:
    """Draw all random numbers of `prepare` without using them."""
    rows = rows_of(layout, flow.grid, (repr(flow.config.hint), flow.hint), codes)
    rows.noised.normals(rngs, "start", codes)
    normals(every(rngs, rows.noised.numbers), "level")
    if rows.shown.numbers:
        rows.shown.normals(rngs, "context", codes)
        uniforms(every(rngs, rows.shown.numbers), "context_level")


def unit_by_unit(
    flow: Flow,
    codes: Tensor,
    layout: Layout,
    rngs: Sequence[Rng],
    play: bool = False,
    levels: Tensor | None = None,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`Flow.prepare` in its plain form, every unit of every clip separately: [B, S, I] and [B, S, C]."""
    codes = codes.to(flow.dtype)
    known = codes if context is None else context.to(flow.dtype)
    seen = codes.new_zeros(len(codes), layout.num_slots, flow.input_width)
    value = codes.new_zeros(len(codes), layout.num_slots, flow.channels)
    for b, rng in enumerate(rngs):
        given = None if levels is None else levels[b].tolist()
        clip = Clip(flow, codes[b], known[b], rng.kept("start", "level", "context_share", "context_level"), play)
        starts = [*layout.row_start.tolist(), layout.num_slots]
        for m, (unit, step) in enumerate(zip(layout.row_unit[0].tolist(), layout.row_step.tolist(), strict=True)):
            where = slice(starts[m], starts[m + 1])
            inside = torch.searchsorted(flow.grid.sites(unit), layout.slots.site[0, where])
            if step < 0:
                seen[b, where] = clip.commit(unit)[inside]
            else:
                asked, answer = clip.asked(unit, step, None if given is None else given[m])
                seen[b, where], value[b, where] = asked[inside], answer[inside]
    return seen, value


class Clip:
    """One clip [N, C], and what later units see of it [N, C]."""

    def __init__(self, flow: Flow, codes: Tensor, known: Tensor, rng: Rng, play: bool) -> None:
        self.flow, self.codes, self.known, self.rng, self.play = flow, codes, known, rng, play
        self._shown: dict[int, tuple[Tensor, float]] = {}

    def shown(self, unit: int) -> tuple[Tensor, float]:
        """What later units see of a unit, and its level."""
        if unit not in self._shown:
            self._shown[unit] = self.flow.context(unit, self.known[self.flow.grid.sites(unit)], self.rng, self.play)
        return self._shown[unit]

    def hint(self, unit: int, like: Tensor) -> Tensor:
        """[n, h]."""
        return self.flow.hint(unit, lambda v: self.shown(v)[0], like)

    def commit(self, unit: int) -> Tensor:
        """Inputs [n, I]."""
        code, level = self.shown(unit)
        return self.columns(code, self.hint(unit, code), 0.0, level)

    def asked(self, unit: int, step: int, level: float | None) -> tuple[Tensor, Tensor]:
        """Inputs [n, I] and target [n, C]."""
        flow, clean = self.flow, self.codes[self.flow.grid.sites(unit)]
        level, noise = self.level(unit) if level is None else level, flow.noise(unit, self.rng)
        hint = self.hint(unit, clean)
        size = flow.step_size.of_call(step) if self.play else 0.0
        x = (1 - level) * clean + level * noise
        return self.columns(x, hint, size, level), flow.prediction.target(clean, noise, hint)

    def level(self, unit: int) -> float:
        """A logit-normal level, or that of context."""
        config = self.flow.config
        share = 1.0 if unit < config.given else config.p_context
        if share and float(self.rng.uniform("context_share", unit)) < share:
            return self.flow.context.level(unit, self.rng, False)
        n = float(self.rng.normal("level", unit, 0, (1,)))
        return float(torch.sigmoid(torch.tensor(config.mean + config.std * n)))

    def columns(self, x: Tensor, hint: Tensor, size: float, level: float) -> Tensor:
        """[n, I]."""
        sizes = x.new_full((len(x), self.flow.step_size.width), size)
        return torch.cat([x, hint, sizes, x.new_full((len(x), 1), level)], -1)


if __name__ == "__main__":
    main(*sys.argv[1:])
