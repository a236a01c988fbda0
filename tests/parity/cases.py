"""The systems of the property suite."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import torch
from case import BOOK, CHANNELS, Case, flow, latents
from toys import NextRing, NextScale, NextToken, ToyModel
from verb_toys import RecurrentModel

from vidar.core.grid import table_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, never, table_rule
from vidar.core.schedules import in_flight, staggered
from vidar.core.step import Row, Step, by_waves, chunk, endless, prefill
from vidar.objectives.context import CleanConfig
from vidar.objectives.diffusion import AncestralConfig, DiffusionConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.prefix_hint import PrefixHintConfig
from vidar.objectives.steppers import AdamsBashforthConfig, HeunConfig, RenoiseConfig
from vidar.orders.block import block_order
from vidar.orders.cell import cell_order
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.plan import plan_order, thin
from vidar.orders.prefix import PrefixOrderConfig, prefix_order
from vidar.orders.pyramid import pyramid_order
from vidar.orders.ring import ring_order
from vidar.orders.scale import clip_scale_order, scale_order
from vidar.orders.token import token_order
from vidar.types import MEMORY, QUERY


def token_raster():
    order, grid = token_order(2, 2, 3)
    passes = NextToken.passes
    return Case("token raster", order, [grid], NextToken(BOOK), lambda: by_waves(order, passes), 12, "single")


def token_prefilled():
    order, grid = token_order(2, 2, 3)
    given = {u: torch.tensor([[u % 7]]) for u in range(5)}
    schedule = lambda: by_waves(order, NextToken.passes, given)  # noqa: E731
    return Case("token raster, prefilled", order, [grid], NextToken(BOOK), schedule, 7 + 1, "single", codes=given)


def ring():
    order, grid = ring_order(2, 3, 3)
    objective = NextRing(BOOK, grid)
    return Case("ring", order, [grid], objective, lambda: by_waves(order, objective.passes), 6, "single")


def frames(fused, steps=2, stepper=None):
    order, grid = frame_order(1, 2, 4)
    objective = flow(grid, steps, stepper)
    n = len(objective.passes) - 1
    calls = 4 * n + 1 if fused else 4 * (n + 1)
    solver = "" if stepper is None else f", {type(stepper).__name__.removesuffix('Config')}"
    name = f"frame, {'fused' if fused else 'eager'}{solver}"
    return Case(name, order, [grid], objective, lambda: by_waves(order, objective.passes, fused=fused), calls, "twin")


def frames_given(fused):
    order, grid = frame_order(1, 2, 5)
    objective, given = flow(grid), latents(grid, [0, 1])
    calls = 3 * 2 + 1 + (0 if fused else 2 + 1)  # W (n + 1) + G, or W n + 1 with the prefill riding along
    schedule = lambda: by_waves(order, objective.passes, given, fused)  # noqa: E731
    name = f"frame, image to video, {'fused' if fused else 'eager'}"
    return Case(name, order, [grid], objective, schedule, calls, "twin", codes=given)


def endless_frames(fused, past=3, sinks=0, batch=1, count=None):
    order, grid = frame_order(1, 2, None, past, sinks)
    objective = flow(grid)
    frames_run = count or 3 * (past + sinks) + 2
    per_frame = 2 if fused else 3
    name = f"endless, window {past}, sinks {sinks}, {'fused' if fused else 'eager'}, {batch} rows"
    schedule = lambda: islice(endless(2, fused), frames_run * per_frame)  # noqa: E731
    return Case(name, order, [grid] * batch, objective, schedule, frames_run * per_frame, "twin")


def hinted_frames(fused):
    """The code of the frame before as further channels: a content edge beside attention."""
    order, grid = frame_order(1, 2, None, 3)
    objective = FlowConfig(steps=2, hint=PreviousHintConfig()).build(CHANNELS, grid, torch.float64)
    order = replace(order, needs=objective.needs)
    calls = 9 * (2 if fused else 3)
    schedule = lambda: islice(endless(2, fused), calls)  # noqa: E731
    name = f"endless, previous code as hint, {'fused' if fused else 'eager'}"
    return Case(name, order, [grid], objective, schedule, calls, "twin")


def endless_blocks(fused, frames=2, past=2):
    order, grid = block_order(1, 2, frames, past)
    objective, calls = flow(grid), 9 * (2 if fused else 3)
    schedule = lambda: islice(endless(2, fused), calls)  # noqa: E731
    name = f"endless, blocks of {frames} frames, {'fused' if fused else 'eager'}"
    return Case(name, order, [grid], objective, schedule, calls, "twin")


def endless_cells(fused, past=1):
    """Sites of a unit lie apart; the cell at the same place one frame before as further channels."""
    return endless_parts("1 x 2 cells of a frame", *cell_order(2, 2, 1, 2, past), 2, fused)


def endless_pyramids(fused, past=1):
    """Units of 1, 2 and 4 sites; the same scale one frame before as further channels."""
    return endless_parts("3 scales of a frame", *pyramid_order([(1, 1), (1, 2), (2, 2)], past), 3, fused)


def cells_apart():
    """A clip whose frames do not see one another: the first cells of all are one wave, and then the second ones."""
    order, grid = cell_order(2, 2, 1, 2, 0, 3)
    objective = flow(grid)
    schedule = lambda: by_waves(order, objective.passes, fused=True)  # noqa: E731
    return Case("frames of cells side by side", order, [grid], objective, schedule, 2 * 2 + 1, "twin")


def endless_parts(what, order, grid, period, fused):
    hint = PreviousHintConfig(back=period)
    objective = FlowConfig(steps=2, hint=hint).build(CHANNELS, grid, torch.float64)
    calls = 4 * period * (2 if fused else 3)
    schedule = lambda: islice(endless(2, fused), calls)  # noqa: E731
    name = f"endless, {what}, {'fused' if fused else 'eager'}"
    return Case(name, order.needing(objective.needs), [grid], objective, schedule, calls, "twin")


def chunk_in_flight(fused):
    order, grid = prefix_order(1, 2, 6, chunk=2, prefix=2, past=6)
    objective, given = flow(grid), latents(grid, [0, 1])

    def schedule():
        yield prefill([0, 1], advance=2)
        yield from chunk(6, 2, 2, fused, first=2)

    calls = 2 * 3 + 1 if not fused else 2 * 2 + 1 + 1
    return Case(f"chunk in flight, factorised, {'fused' if fused else 'eager'}", order, [grid], objective, schedule,
                calls, codes=given)  # fmt: skip


def chunks_in_waves():
    """What is in flight together is committed frame by frame, so that the rings hold more than they show."""
    order, grid = prefix_order(1, 2, 8, chunk=3, prefix=2, past=2)
    objective = flow(grid)
    schedule = lambda: by_waves(order, objective.passes)  # noqa: E731
    return Case("chunks over a prefix, frame by frame", order, [grid], objective, schedule, 8 * 3)


def endless_chunks(fused, sampler=None):
    """Ca2-VDM without an end: one frame, then chunks; positions go round; a hint, or a chain of betas (`sampler`)."""
    order, grid = PrefixOrderConfig(chunk=2, window=3, prefix=2).build(1, 2)
    if sampler is None:
        objective = FlowConfig(steps=2, hint=PrefixHintConfig(chunk=2)).build(CHANNELS, grid, torch.float64)
    else:
        objective = DiffusionConfig(steps=2, count=9, first=0.1, last=0.3, sampler=sampler).build(
            CHANNELS, grid, torch.float64
        )
    order, calls = replace(order, needs=objective.needs), 1 + 5 * (2 if fused else 3)
    model = ToyModel(objective.input_width, objective.output_width, order.relations, 3)

    def schedule():
        yield prefill([0], advance=1)
        yield from islice(chunk(None, 2, 2, fused), calls - 1)

    how = "" if sampler is None else f", {type(sampler).__name__.removesuffix('Config')}"
    return Case(f"endless chunks over a prefix, {'fused' if fused else 'eager'}{how}", order, [grid], objective,
                schedule, calls, model=model, codes=latents(grid, [0]))  # fmt: skip


def chunk_joint():
    order, grid = frame_order(1, 2, 6, 3, in_flight=2)
    objective = flow(grid)
    return Case("chunk in flight, joint window", order, [grid], objective, lambda: chunk(6, 2, 2), 9)


def pipeline_in_flight(forward):
    order, grid = frame_order(1, 2, 7, 4, in_flight=3, forward=forward)
    objective = flow(grid, steps=3)
    name = "pipeline, full attention in flight" if forward else "pipeline in flight"
    return Case(name, order, [grid], objective, lambda: staggered(7, 3, 1), 7 + 3)


def staggered_case(
    system, delay, steps, past=3, context=0, units=None, fused=True, forward=False, stepper=None, frames=1
):
    """Units that begin `delay` calls apart, after a context or none; endless cases run for three windows."""
    depth = in_flight(steps, delay)
    length = None if units is None else frames * (context + units)
    order, grid = frame_order(1, 2, length, past, 0, depth, forward)
    if frames > 1:
        order, grid = block_order(1, 2, frames, past, length, depth, forward)
    objective, given = flow(grid, steps, stepper), latents(grid, range(context))
    run = units or 3 * past
    refinements = int(delay * (run - 1)) + steps
    calls = refinements + (1 if fused else run) if units else refinements

    def schedule():
        if context:
            yield prefill(range(context), advance=context)
        made = staggered(units, steps, delay, fused)
        yield from made if units else islice(made, calls)

    ends = "endless" if units is None else f"{units} units"
    system += f" of {frames} frames" if frames > 1 else ""
    name = f"{system}, {steps} steps, delay {delay}, {ends}, {context} given, {'fused' if fused else 'eager'}"
    return Case(name, order, [grid], objective, schedule, calls + bool(context), codes=given)


def scales():
    sizes = [(1, 1, 1), (1, 2, 2), (1, 2, 3)]
    order, grid = scale_order(sizes)
    objective = NextScale(BOOK, sizes)
    return Case("scales of an image", order, [grid], objective, lambda: by_waves(order, objective.passes), 3, "single")


def clip_scales():
    sizes = [(1, 1, 1), (2, 1, 2), (2, 2, 2)]
    order, grid = clip_scale_order([sizes, sizes])
    objective = NextScale(BOOK, sizes)
    schedule = lambda: by_waves(order, objective.passes)  # noqa: E731
    return Case("clip x scale, needs != sees", order, [grid], objective, schedule, 6, "single")


def frame_scales(past=2):
    sizes = [(1, 1), (1, 2), (2, 2)]
    order, grid = frame_scale_order(sizes, 6, past)
    objective = NextScale(BOOK, [(1, *size) for size in sizes], memory_unit=True)
    given = {u: objective.content(u) for u in range(3, 24, 4)}
    schedule = lambda: by_waves(order, objective.passes, given, fused=True)  # noqa: E731
    return Case("frame x scale with memory unit", order, [grid], objective, schedule, 18, "single", given=given)


def plan():
    order, grid = plan_order(2, thin(6), 1, 2)
    objective = flow(grid)
    given = {0: lambda row: torch.full((2, CHANNELS), 0.3, dtype=torch.float64), 4: re_encoded}
    schedule = lambda: by_waves(order, objective.passes, given)  # noqa: E731
    waves = order.waves()
    free = sum(any(u not in given for u in wave) for wave in waves)
    return Case("plan", order, [grid], objective, schedule, free * 3 + 1 + 1, "twin", given=given)


def re_encoded(row):
    """The terminal anchor of segment 0, through a function that stands for decode and re-encode."""
    return torch.tanh(row.codes[1][4:6])


def random_dag():
    generator = torch.Generator().manual_seed(8)
    units = 7
    sees = (torch.rand(units, units, generator=generator) < 0.5).tril(-1) | torch.eye(units, dtype=torch.bool)
    shuffled = torch.randperm(units, generator=generator)
    sees = sees[shuffled][:, shuffled]
    sizes = torch.randint(1, 4, (units,), generator=generator)
    unit = torch.repeat_interleave(torch.arange(units), sizes)
    grid = table_grid(("n", "m"), unit, unit, torch.randn(unit.shape[0], 2, generator=generator, dtype=torch.float64))
    order = Order({"main": Relation(table_rule(sees))}, units, needs=never)
    objective = flow(grid)
    calls = len(order.waves()) * 3
    return Case("random DAG", order, [grid], objective, lambda: by_waves(order, objective.passes), calls, "twin")


def text_frames(lengths, words=3, units=4):
    """Unit 0 is text (given, left padded per row), then causal frames."""
    frame = 2
    unit = torch.cat([torch.zeros(words, dtype=torch.long), torch.repeat_interleave(torch.arange(1, units), frame)])
    number = torch.cat([torch.arange(words), torch.arange(10, 10 + (units - 1) * frame)])
    coord = torch.stack([unit, number], -1).double()
    grids = []
    for length in lengths:
        moved = coord.clone()
        moved[:words, 1] -= words - length  # the first real word is at 0 in every row
        padding = torch.arange(unit.shape[0]) < words - length
        grids.append(table_grid(("t", "n"), unit, unit, moved).padded(padding))
    sees = torch.ones(units, units, dtype=torch.bool).tril()
    return Order({"main": Relation(table_rule(sees))}, units, needs=never), grids


def guidance(lengths=(3, 1)):
    order, grids = text_frames(lengths)
    objective = flow(grids[0], context=CleanConfig())
    words = latents(grids[0], [0])[0]
    codes = {0: words.expand(len(lengths), -1, -1).clone()}
    for b, length in enumerate(lengths):
        codes[0][b] = torch.roll(words[0], 3 - length, 0)  # the same words, left padded

    def combine(out):
        return (out[1:] + 2.5 * (out[:1] - out[1:])).expand(2, -1, -1)

    schedule = lambda: by_waves(order, objective.passes, [0])  # noqa: E731
    return Case("guidance rows, texts of 3 and 1 words", order, grids, objective, schedule, 3 * 3 + 1, codes=codes,
                combine=combine, videos=[0, 0])  # fmt: skip


def recurrent(fused, batch=1):
    """Beside attention, what a layer carries from call to call; it reaches back without an end, as the order does."""
    order, grid = frame_order(1, 2, 5)
    objective = flow(grid)
    calls = 5 * 2 + 1 if fused else 5 * 3
    name = f"recurrent mixer, {'fused' if fused else 'eager'}, {batch} rows"
    model = RecurrentModel(objective.input_width, CHANNELS, order.relations, 3)
    schedule = lambda: by_waves(order, objective.passes, fused=fused)  # noqa: E731
    return Case(name, order, [grid] * batch, objective, schedule, calls, "twin", model=model)


CASES = [
    token_raster(), token_prefilled(), ring(), frames(False), frames(True), frames(False, 3, HeunConfig()),
    frames(True, 3, AdamsBashforthConfig()),
    frames_given(False), frames_given(True), endless_frames(False), endless_frames(True), endless_frames(True, 2, 1),
    endless_frames(True, batch=2), hinted_frames(False), hinted_frames(True),
    endless_blocks(False), endless_blocks(True, 4), endless_cells(False), endless_cells(True),
    cells_apart(), endless_pyramids(False), endless_pyramids(True), chunk_in_flight(False),
    chunk_in_flight(True), endless_chunks(True), endless_chunks(False, AncestralConfig()), chunk_joint(),
    chunks_in_waves(),
    pipeline_in_flight(False), pipeline_in_flight(True), scales(), clip_scales(), frame_scales(), plan(), random_dag(),
    guidance(), recurrent(False), recurrent(True), recurrent(True, 2),
]  # fmt: skip
STAGGERED = [
    staggered_case("pyramid", 1.5, 3), staggered_case("pyramid", 1, 2, context=3, units=5, fused=False),
    staggered_case("pipeline", 2, 4, context=2, stepper=AdamsBashforthConfig()),
    staggered_case("pipeline", 2, 4, units=4),
    staggered_case("asynchronous", 2, 3, context=1, units=5), staggered_case("asynchronous", 2, 3, past=2, frames=2),
    staggered_case("rolling", 1, 3, forward=True, stepper=RenoiseConfig()),
    staggered_case("rolling", 1, 3, context=4, units=5, fused=False, forward=True, stepper=RenoiseConfig()),
    staggered_case("rolling", 1, 2, past=2, context=1, units=4, forward=True, stepper=RenoiseConfig(), frames=2),
]  # fmt: skip
CASES += STAGGERED
BY_NAME = {case.name: case for case in CASES}
__all__ = [
    "BOOK", "BY_NAME", "CASES", "CHANNELS", "MEMORY", "QUERY", "STAGGERED", "Case", "Row", "Step", "flow", "latents",
    "text_frames",
]  # fmt: skip
