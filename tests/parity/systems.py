"""Random systems for the property suite: `draw(seed)` makes a case nobody thought of.

Finite ones are random graphs run in waves, or numbered units in flight side by side; endless ones repeat a frame of
several units, each of several cells, with windows and sinks. All have up to two relations with rules, folds and rings
of their own, rows whose padding, coordinates and clocks may differ, and content edges that are not those of attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import torch
from cases import Case
from random_objectives import CommitOnly, PredictAndCommit, Refine
from toys import ToyModel

from vidar.core.grid import Grid
from vidar.core.order import Order
from vidar.core.placement import PeriodicPlacement
from vidar.core.relation import Relation, never, table_rule
from vidar.core.schedules import in_flight, staggered
from vidar.core.step import Row, Step, by_waves, chunk, endless, prefill
from vidar.types import PAD

AXES, CHANNELS = ("t", "a", "b"), 3
LONGEST = 16  # calls of a decode


@dataclass
class System:
    """A case, its schedule and the clocks of its rows; `about` says what was drawn."""

    case: Case
    steps: list[Step]
    clocks: list[int]
    about: dict[str, Any]

    def ready(self, state):
        """A state with the codes that are given, each row at its clock."""
        self.case.ready(state)
        for row, clock in zip(state.rows, self.clocks):
            row.clock = clock
        return state


def draw(seed: int) -> System:
    """The system of a seed; all choices come from it alone."""
    random = Random(seed)
    kind = random.choice([waves, frames, side_by_side, frames_side_by_side])
    return kind(random, {"seed": seed, "kind": kind.__name__})


def table(random: Random, rows: int, columns: int, p: float) -> torch.Tensor:
    """bool [rows, columns], True with probability p."""
    return torch.tensor([[random.random() < p for _ in range(columns)] for _ in range(rows)])


def grids(random: Random, about, size: int, cell_of, sites_of, num_sites) -> list[Grid]:
    """Up to three rows; they may differ in coordinates and padding. cell_of(site), sites_of(unit) as without padding.

    size: sites after which padding and inner coordinates repeat.
    """
    batch = random.choice([1, 2, 2, 3])
    about |= {"rows": batch, "own places": random.random() < 0.4, "padded": random.random() < 0.5}
    made = []
    for _ in range(batch):
        if made and not (about["own places"] or about["padded"]):
            made.append(made[0])  # the very grid: rows share their masks
            continue
        inner = torch.tensor([[random.randrange(2), random.randrange(2)] for _ in range(size)], dtype=torch.float64)
        pad = table(random, size, 1, 0.25)[:, 0] if about["padded"] else torch.zeros(size, dtype=torch.bool)
        shift = float(random.randrange(5)) if about["own places"] else 0.0
        made.append(one_grid(inner, pad, shift, size, cell_of, sites_of, num_sites))
    return made


def one_grid(inner, pad, shift, size, cell_of, sites_of, num_sites) -> Grid:
    def coord(site):
        time = (site // size).to(torch.float64) + shift
        return torch.cat([time[..., None], inner[site % size]], -1)

    def cell(site):
        return torch.where(pad[site % size], PAD, cell_of(site))

    return Grid(AXES, sites_of, cell, coord, num_sites)


def finish(random, about, order, made, objective, steps, clocks=None, codes=None, given=None) -> System:
    """The case, its network drawn by the seed."""
    seed = about["seed"]
    model = ToyModel(objective.input_width, CHANNELS, order.relations, len(AXES), 2, 16, 2, seed)
    conditions = torch.randn(97, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    case = Case(str(about), order, made, objective, lambda: iter(steps), len(steps), None, model, given or {},
                codes or {}, cond=lambda layout: conditions[layout.row_cell.clamp(min=0) % 97], seed=seed)  # fmt: skip
    about["calls"] = len(steps)
    return System(case, steps, clocks or [0] * len(made), about)


def codes_of(random, made, units):
    generator = torch.Generator().manual_seed(random.randrange(1 << 30))
    rows = len(made)
    return {u: torch.randn(rows, made[0].sites(u).shape[0], CHANNELS, generator=generator, dtype=torch.float64)
            for u in units}  # fmt: skip


def objective_of(random, about, sites, wanted):
    """Denoise in one to three calls, predict and commit in one, or commit what follows from outputs."""
    kind = random.choice([Refine, Refine, PredictAndCommit, CommitOnly])
    about["objective"] = kind.__name__
    return kind(sites, wanted, CHANNELS, *([random.choice([1, 2, 3])] if kind is Refine else []))


# finite


def waves(random: Random, about) -> System:
    """A random graph: any unit may read any that comes before it in a hidden order, in part."""
    units = random.randint(3, 7)
    cells = [random.choice([1, 1, 2, 3]) for _ in range(units)]  # of a unit
    unit_of = torch.repeat_interleave(torch.arange(units), torch.tensor(cells))
    rank = torch.tensor(random.sample(range(units), units))[unit_of]
    count = len(unit_of)
    earlier, same = rank[:, None] > rank[None, :], unit_of[:, None] == unit_of[None, :]
    relations = {}
    for name in "ab"[: random.choice([1, 1, 2])]:
        drawn = [(earlier & table(random, count, count, 0.5)) | (same & table(random, count, count, 0.8))
                 for _ in range(2)]  # fmt: skip
        inside = random.random() < 0.2
        drawn = [rule & same for rule in drawn] if inside else drawn
        memory = table_rule(drawn[1]) if random.random() < 0.5 else None
        relations[name] = Relation(table_rule(drawn[0]), memory, fold=fold(random), capacity=0 if inside else None)
        about[name] = relation_text(relations[name])
    wanted, rule = needs_of(random, about, units, unit_of, rank, relations)
    order = Order(relations, units, count, lambda cell: unit_of[cell], rule)
    sizes = [random.choice([1, 2, 3]) for _ in range(count)]
    cell_of_site = torch.repeat_interleave(torch.arange(count), torch.tensor(sizes))
    shuffled = cell_of_site[torch.tensor(random.sample(range(len(cell_of_site)), len(cell_of_site)))]
    sites = [torch.nonzero(unit_of[shuffled] == u)[:, 0] for u in range(units)]
    size = len(shuffled)
    made = grids(random, about, size, lambda site: shuffled[site], lambda unit: sites[unit], size)
    objective = objective_of(random, about, made[0].sites, lambda u: wanted[u])
    codes, given = given_units(random, about, order, made, wanted)
    fused = random.random() < 0.5 and not isinstance(objective, CommitOnly)
    about["fused"] = fused
    steps = list(by_waves(order, objective.passes, {*codes, *given}, fused))
    return finish(random, about, order, made, objective, steps, codes=codes, given=given)


def needs_of(random, about, units, unit_of, rank, relations):
    """Content edges by unit, and the rule: none, those of attention (None), or others."""
    kind = about["needs"] = random.choice(["never", "sees", "others", "others"])
    wanted = {u: set() for u in range(units)}
    if kind == "sees":
        cells = torch.arange(len(unit_of))
        for rule in [r for relation in relations.values() for r in (relation.sees, relation.memory) if r]:
            for q, k in torch.nonzero(rule(cells[:, None], cells[None])).tolist():
                wanted[int(unit_of[q])] |= {int(unit_of[k])} - {int(unit_of[q])}
        return wanted, None
    if kind == "never":
        return wanted, never
    of_unit = {int(u): int(r) for u, r in zip(unit_of, rank)}
    for u in range(units):
        wanted[u] = {v for v in range(units) if of_unit[v] < of_unit[u] and random.random() < 0.4}
    drawn = torch.tensor([[v in wanted[u] for v in range(units)] for u in range(units)])
    return wanted, table_rule(drawn)


def given_units(random, about, order, made, wanted):
    """Some units whose codes are known, and some whose code is a function of those that they need."""
    units = range(order.num_units)
    known = [u for u in units if random.random() < 0.2]
    derived = [u for u in units if u not in known and order.last_reader(u) >= 0 and random.random() < 0.15]
    about |= {"known": known, "derived": derived}

    def content(unit):
        def code(row):
            total = sum((row.codes[v].mean(0) for v in sorted(wanted[unit])), torch.full((CHANNELS,), 0.3))
            return torch.tanh(total).double().expand(made[0].sites(unit).shape[0], -1)

        return code

    return codes_of(random, made, known), {u: content(u) for u in derived}


def fold(random):
    return random.choice([(), (), ("a",), ("a", "b")])


def relation_text(relation: Relation) -> str:
    parts = [f"fold {relation.fold}", f"capacity {relation.capacity}", f"sinks {relation.sinks}"]
    parts += ["by cell"] if relation.placement else []
    return ", ".join([*parts, *["joint"] * relation.joint, *["memory rule"] * (relation.memory is not None)])


# frames


@dataclass(frozen=True)
class Frame:
    """What repeats: units of a frame, cells of a unit, and the cell of each site."""

    units: int
    cells: int
    part: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.part)


def frame_of(random, about) -> Frame:
    units, cells = random.choice([1, 1, 2, 3]), random.choice([1, 1, 2])
    sites = [c for c in range(units * cells) for _ in range(random.choice([1, 1, 2]))]
    random.shuffle(sites)
    about |= {"units of a frame": units, "cells of a unit": cells, "sites": sites}
    return Frame(units, cells, torch.tensor(sites))


def periodic(random, frame: Frame, window: int, sinks: int, ahead: int):
    """A rule and its random tables by distance in frames; others are those of the sinks, and of units ahead."""
    count = frame.units * frame.cells
    past = torch.stack([table(random, count, count, 0.7) for _ in range(window + 1)])
    first = table(random, count, max(sinks * count, 1), 0.7)
    later = torch.stack([table(random, count, count, 0.7) for _ in range(ahead + 1)])

    def rule(q, k):
        q, k = torch.broadcast_tensors(q, k)
        distance = q.div(count, rounding_mode="floor") - k.div(count, rounding_mode="floor")
        unit_q, unit_k = (x.div(frame.cells, rounding_mode="floor") for x in (q, k))
        near = past[distance.clamp(0, window), q % count, k % count] & (distance >= 0) & (distance <= window)
        sink = first[q % count, k.clamp(0, first.shape[1] - 1)] & (k >= 0) & (k < sinks * count)
        forward = later[(unit_k - unit_q).clamp(0, ahead), q % count, k % count] & (unit_k <= unit_q + ahead)
        return torch.where(unit_k <= unit_q, near | sink, forward)

    return rule, past


def ring_of(random, frame: Frame, window: int, sinks: int, past):
    """Room for what is read, or a little more; cyclic, or by cell as long as it is read. past: by distance, who is."""
    room = window + (frame.units > 1)
    if window == sinks == 0 and frame.units == 1:
        return {"capacity": 0}
    if sinks or random.random() < 0.6:
        spare = random.choice([0, 0, 1]) if room else 0
        return {"capacity": (room + sinks) * frame.size + spare, "sinks": sinks * frame.size}
    read = past.any(dim=1)  # [distance, cell]
    longest = [max((d for d in range(window + 1) if read[d, cell]), default=-1) for cell in range(read.shape[1])]
    periods = torch.tensor(longest)[frame.part] + (frame.units > 1)  # more units: the frame that is made has a place
    placement = PeriodicPlacement(periods.clamp(min=0))
    return {"capacity": placement.size, "placement": placement}


def frame_relations(random, about, frame: Frame, depth: int):
    """depth: units in flight. Returns relations, the longest window, and the most sinks."""
    relations, longest, most = {}, 0, 0
    for name in "ab"[: random.choice([1, 1, 2])]:
        window, sinks, joint = (
            random.choice([0, 1, 1, 2]),
            random.choice([0, 0, 1]),
            depth > 1 and random.random() < 0.8,
        )
        ahead = random.choice([0, depth - 1]) if joint else 0
        sees, past = periodic(random, frame, window, sinks, ahead)
        memory, other = periodic(random, frame, window, sinks, 0) if ahead or random.random() < 0.4 else (None, past)
        ring = ring_of(random, frame, window, sinks, past | other)
        relations[name] = Relation(sees, memory, joint, fold(random), **ring)
        longest, most = max(longest, window), max(most, sinks)
        about[name] = f"window {window}, ahead {ahead}, {relation_text(relations[name])}"
    return relations, longest, most


def frame_order(random, about, depth: int, length: int | None):
    """Order, grids, and what each unit needs: earlier units a few apart, none of those in flight with it."""
    frame = frame_of(random, about)
    relations, window, sinks = frame_relations(random, about, frame, depth)
    reach = window * frame.units + frame.units - 1
    apart = [d for d in range(depth, reach + 1) if random.random() < 0.4]
    kind = about["needs"] = random.choice(["never", "others", "others"])
    apart = [] if kind == "never" else apart
    about["apart"] = apart

    def needs(u, v):
        return torch.isin(u - v, torch.tensor(apart, dtype=torch.long)) & (v >= 0)

    def unit(cell):
        return torch.where(cell < 0, PAD, cell.div(frame.cells, rounding_mode="floor"))

    of_unit = frame.part // frame.cells
    inside = [torch.nonzero(of_unit == p)[:, 0] for p in range(frame.units)]
    count = frame.units * frame.cells
    made = grids(random, about, frame.size, lambda site: site // frame.size * count + frame.part[site % frame.size],
                 lambda u: inside[u % frame.units] + u // frame.units * frame.size,
                 None if length is None else length * frame.size)  # fmt: skip
    total = None if length is None else length * frame.units
    cells = None if length is None else length * count
    order = Order(
        relations,
        total,
        cells,
        unit,
        needs,
        frame.cells,
        max(reach, 1),
        reach + sinks * frame.units,
        period=frame.units,
    )
    return order, made, lambda u: {u - d for d in apart if u - d >= 0}


def frames(random: Random, about) -> System:
    """An endless stream, unit after unit, whose rows may stand at different frames."""
    order, made, wanted = frame_order(random, about, 1, None)
    objective = objective_of(random, about, made[0].sites, wanted)
    fused = random.random() < 0.5 and isinstance(objective, Refine)
    clocks = [random.randrange(6) for _ in made] if random.random() < 0.7 else [0] * len(made)
    objective.first = [max(0, clock - fused) for clock in clocks]  # fused: a first call commits the unit before
    about |= {"fused": fused, "clocks": clocks}
    if isinstance(objective, Refine):
        steps = list(islice(endless(len(objective.passes) - 1, fused), LONGEST))
    else:
        steps = [Step((Row(0, *objective.passes[0]),), 1)] * min(2 * order.reach + 3, LONGEST)
    return finish(random, about, order, made, objective, steps, clocks)


def frames_side_by_side(random: Random, about) -> System:
    """An endless stream with several units in flight, that start together or one after another."""
    return beside(random, about, None)


def side_by_side(random: Random, about) -> System:
    """The same with an end, after a context."""
    return beside(random, about, random.randint(3, 5))


def beside(random, about, length):
    calls = random.choice([1, 2, 3, 3])
    delay = min(random.choice([0, 1, 1, 1.5, 2]), calls)
    depth = in_flight(calls, delay) if delay else random.choice([2, 3])
    order, made, wanted = frame_order(random, about, depth, length)
    objective, fused = Refine(made[0].sites, wanted, CHANNELS, calls), random.random() < 0.5
    context = random.choice([0, 1, 2])
    about |= {"delay": delay, "depth": depth, "calls of a unit": calls, "fused": fused, "context": context}
    steps = [prefill(range(context), advance=context)] if context else []
    total = order.num_units
    rest = chunk(total, depth, calls, fused, first=context)
    if delay:
        rest = staggered(None if total is None else total - context, calls, delay, fused)
    steps += list(islice(rest, LONGEST))
    return finish(random, about, order, made, objective, steps, codes=codes_of(random, made, range(context)))
