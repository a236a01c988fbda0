"""Every recipe with an Order as a case of the suite, by what its config and its method can do, whatever their class.

order, grid, objective  `system()` of the config that has one, in float64, with a drawn pyramid where there is one
network                 its `net`, weights drawn and gates opened: zeros would hide every fault
schedule                of an endless order that of play, of a finite one its waves
given units             those that training shows and never asks, and the ends of content edges between tasks
conditions              actions where the config has them, else what it can be told: a class or a text
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from cases import Case

from vidar.conditioning.action import Actions
from vidar.conditioning.config import Told
from vidar.configs import catalog
from vidar.core.layout import Layout
from vidar.core.step import Row, Step, by_waves, prefill
from vidar.types import QUERY

PROMPTS = ("a red ring", "blue")


@runtime_checkable
class HasPyramid(Protocol):
    """The config of a tokenizer of pyramids."""

    pyramid: Any


@dataclass(frozen=True)
class Subject:
    """A recipe, and the config in it that has the Order."""

    name: str
    method: Any
    model: Any

    def system(self, frames=None):
        """What it compiles to; frames: of a finite order. Always the same draws."""
        torch.manual_seed(0)
        tokenizer = self.model.tokenizer
        pyramid = opened(tokenizer.pyramid.build(), 0.5) if isinstance(tokenizer, HasPyramid) else None
        return self.model.system(frames, torch.float64, pyramid)

    @cached_property
    def usual(self):
        """`system()` as it is played."""
        return self.system()

    @property
    def relations(self):
        return self.usual.order.relations.values()

    @property
    def endless(self):
        return self.usual.order.endless

    @property
    def refines(self):
        """Calls of a unit in flight; 0: what predicts a unit commits it."""
        return sum(role == QUERY for role, _ in self.usual.objective.passes)

    @property
    def period(self):
        """Units of a frame, of an endless order."""
        return len(self.usual.frames.units(0)) if self.endless else 1

    @property
    def unit_frames(self):
        return self.model.order.unit_frames

    @property
    def depth(self):
        """Units in flight together."""
        return self.usual.schedule.depth(self.refines) if self.endless and self.refines else 1

    @cached_property
    def rows(self) -> list[tuple[Row, ...]]:
        """The rows of every layout that training may draw."""
        found = dict.fromkeys(rows_of(layout) for layout in layouts(self.method.build()))
        assert found, f"{self.name}: its method holds no layout, so what it trains on is not known"
        return list(found)

    @property
    def clip(self):
        """Frames of an endless order: those of the longest layout of training, at least five units and three frames; a
        chunk more where there are some; and more, so that all these are committed."""
        units = max(1 + max(row.unit for rows in self.rows for row in rows), 5, 3 * self.period)
        return self.whole(units + (2 if self.depth > 1 else 1) * self.depth)

    @cached_property
    def known(self) -> list[int]:
        """Units that training shows and never asks: in play they are known before their turn."""
        shown = {row.unit for rows in self.rows for row in rows}
        return sorted(shown - {row.unit for rows in self.rows for row in rows if row.step is not None})

    @property
    def commits_apart(self):
        """Whether anything is committed by rows of its own, so that these may ride on another call or not."""
        return bool(self.refines or self.usual.objective.given)

    def whole(self, units):
        """So many frames that hold these units at least: whole units, whole groups in flight."""
        groups = -(-(units - len(self.known)) // self.depth)
        return -(-(len(self.known) + groups * self.depth) // self.period) * self.unit_frames


@cache
def subjects() -> dict[str, Subject]:
    return {name: found for name, recipe in catalog.recipes().items() if (found := subject(name, recipe))}


def one_of_each(names) -> list[str]:
    """The first of those with an order of one type: for twins, which are about the order alone."""
    return list({type(subjects()[name].model.order): name for name in reversed(names)}.values())[::-1]


def subject(name, recipe) -> Subject | None:
    """The recipe at preset="tiny", if it has an Order."""
    config = recipe(preset="tiny")
    model = catalog.find_system(config)
    return None if model is None else Subject(name, config.method, model)


def layouts(built, depth=4):
    """The layouts that a built method holds, itself or in one of its parts."""
    if isinstance(built, Layout):
        yield built
    elif isinstance(built, Mapping):
        yield from chain.from_iterable(layouts(part, depth) for part in built.values())
    elif depth and type(built).__module__.startswith("vidar.train"):
        yield from layouts(vars(built), depth - 1)


def rows_of(layout) -> tuple[Row, ...]:
    rows = zip(layout.row_unit[0].tolist(), layout.row_role.tolist(), layout.row_step.tolist())
    return tuple(Row(unit, role, None if step < 0 else step) for unit, role, step in dict.fromkeys(rows))


def opened(module, by):
    """A module in float64, its weights moved off what they begin at."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * by)
    return module


# conditions


def random_actions(spec, count, seed=4):
    """Legal ones, [1, T, A]."""
    generator = torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(0, int(a.highest) + 1, (count,), generator=generator).double()
        if a.kind != "continuous"
        else torch.rand(count, generator=generator).double() * (a.high - a.low) + a.low
        for a in spec.actions
    ]
    return torch.stack(columns, -1)[None] if columns else torch.zeros(1, count, 0, dtype=torch.float64)


def told(model, which):
    """A class, a text or the features of one, two of each by number."""
    if "label" in model.accepts:
        return Told(label=which)
    if model.conditioner.reads_words:
        return Told(prompt=PROMPTS[which])
    generator = torch.Generator().manual_seed(which)
    features = torch.randn(1, 5 - which, model.conditioner.encoder.width, generator=generator)
    return Told(prompt=(features[0].double(), torch.ones(5 - which, dtype=torch.bool)))


def conditions(model, length, which=0, none=(False,)):
    """What one row is told, and whether it is hidden from each row of the batch; every fifth action is unknown."""
    hidden = torch.tensor(none)
    if model.actions is not None:
        values = random_actions(model.actions, length, 4 + which).expand(len(none), -1, -1)
        return Actions(values, (torch.arange(length) % 5 == 0) | hidden[:, None])
    (made,) = model.conditioner.whole([told(model, which)] * len(none)).values()
    return replace(made, none=hidden)


def otherwise(model, cond, frame):
    """The same conditions with another action in one frame."""
    values, first = cond.values.clone(), model.actions.actions[0]
    assert not cond.unknown[0, frame]
    values[0, frame, 0] = first.highest if float(values[0, frame, 0]) < first.highest else first.lowest
    return Actions(values, cond.unknown)


# schedules


def in_play(subject, objective):
    """The Steps of play, without an end."""
    return subject.usual.schedule.steps(objective, subject.usual.frames)


def apart(steps, clock):
    """The same with every commit in a call of its own, before the call that it rides on; nobody is not committed."""
    for step in steps:
        commits = tuple(row for row in step.rows if row.step is None)
        if any(clock + row.unit >= 0 for row in commits):
            yield Step(commits)
        yield replace(step, rows=tuple(row for row in step.rows if row.step is not None))
        clock += step.advance


def turns(subject, objective, known, fused, calls):
    """What is known in one call, then so many calls of play."""
    if known:
        yield prefill(known, advance=len(known))
    steps = in_play(subject, objective)
    yield from islice(steps if fused else apart(steps, len(known)), calls - bool(known))


def turn_calls(subject, objective, known, fused, units):
    """The formula: n or n + 1 calls for what is in flight together; or one a unit that is asked."""
    new = units - len(known)
    if subject.refines:
        return new // subject.depth * (subject.refines + (not fused)) + bool(known)
    frames = new // subject.period
    asked = subject.period - sum(unit in objective.given for unit in range(subject.period))
    return frames * (asked + (not fused)) + bool(known)


def wave_calls(subject, order, known, fused):
    """The formula: W n + 1, or W (n + 1) + G; W waves with free units, G prefills, of what is known before one."""
    waves, prefills, waiting = 0, 0, False
    for wave in order.waves():
        waiting |= any(unit in known and order.last_reader(unit) >= 0 for unit in wave)
        if any(unit not in known for unit in wave):
            waves, prefills, waiting = waves + 1, prefills + waiting, False
    if not subject.refines:
        return waves + prefills
    return waves * subject.refines + 1 if fused else waves * (subject.refines + 1) + prefills


# cases


def case_of(name, fused=True, frames=None):
    """A recipe as a case. frames: of an endless order, None: three windows at least."""
    return kept(name, fused, frames)[0]


def played(name, fused=True, frames=None):
    """A recipe's own run; not to be changed."""
    return kept(name, fused, frames)[1]


def trained(name):
    """A case as long as a clip of training at least, and its run."""
    return kept(name, True, subjects()[name].clip if subjects()[name].endless else None)


class Run(NamedTuple):
    codes: dict
    recorder: Any
    state: Any


@cache
def kept(name, fused, frames):
    case = made(subjects()[name], fused, frames)
    state = case.ring_state()
    return case, Run(*case.run(state), state)


def made(subject, fused=True, frames=None):
    return endless_case(subject, fused, frames) if subject.endless else finite_case(subject, fused, frames)


def endless_case(subject, fused, frames):
    system = subject.usual
    order, grid, objective = system.order, system.grid, system.objective
    window = order.reach + 1 - subject.depth
    frames = subject.whole(frames * subject.period // subject.unit_frames if frames else 3 * window + 2)
    units = frames // subject.unit_frames * subject.period
    calls = turn_calls(subject, objective, subject.known, fused, units)

    def schedule():
        return turns(subject, objective, subject.known, fused, calls)

    codes = {unit: drawn(grid, [unit], objective.channels) for unit in subject.known}
    return completed(subject, order, grid, objective, schedule, calls, frames, codes, objective.given)


def finite_case(subject, fused, frames):
    """Of segments two, where an order is made of them. What is known in the second one comes over a content edge: the
    last sites of the unit that it comes from stand for what is encoded anew."""
    frames = frames or (None if subject.model.clips else 2 * subject.unit_frames)
    system = subject.system(frames)
    order, grid, objective = system.order, system.grid, system.objective
    codes = {unit: drawn(grid, [unit], objective.channels) for unit in subject.known}
    clip = 1 + max(row.unit for rows in subject.rows for row in rows)
    edges = [(u, v) for u, v in order.content_edges() if u % clip in subject.known]
    given = {u: content(v, len(grid.sites(u))) for u, v in edges}
    known = {**codes, **given}
    calls = wave_calls(subject, order, known, fused)

    def schedule():
        return by_waves(order, objective.passes, known, fused)

    return completed(subject, order, grid, objective, schedule, calls, frames, codes, given)


def content(source, count):
    return lambda row: torch.tanh(row.codes[source][-count:])


def completed(subject, order, grid, objective, schedule, calls, frames, codes, given):
    torch.manual_seed(1)
    net = opened(subject.model.net.build(), 0.05)
    cond = conditions(subject.model, frames)
    return Case(subject.name, order, [grid], objective, schedule, calls, None, net, codes=codes, given=given,
                cond=lambda layout: cond)  # fmt: skip


def drawn(grid, units, channels, seed=2):
    """Codes of units that are denoised, [1, n, C]."""
    count = sum(len(grid.sites(unit)) for unit in units)
    generator = torch.Generator().manual_seed(seed + units[0])
    return torch.randn(1, count, channels, generator=generator, dtype=torch.float64)
