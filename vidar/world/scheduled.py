"""Worlds whose frames are not made one by one: blocks, several frames in flight, any schedule of Steps.

For batch work, where all actions are known: a frame that is begun ahead of its turn asks for its action then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from vidar.cache.ring import RingState
from vidar.config import Config
from vidar.core.decode import Decoder
from vidar.core.order import Order
from vidar.core.schedules import Chunks, OneByOne, Staggered, refinements
from vidar.core.step import Step, prefill
from vidar.orders.block import BlockOrderConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.orders.in_parts import InParts
from vidar.orders.prefix import PrefixOrderConfig
from vidar.rng import Rng
from vidar.types import UsageError
from vidar.world.streams import ActionTape

if TYPE_CHECKING:
    from vidar.world.world import World, WorldConfig


class OneByOneConfig(Config):
    """One unit after the other; its commit rides on the first call of the next."""

    def build(self) -> OneByOne:
        """The schedule."""
        return OneByOne()


class ChunksConfig(Config):
    """length: units in flight together, refined alike and committed with the next chunk's first call."""

    length: int = Field(ge=1)

    def build(self) -> Chunks:
        """The schedule."""
        return Chunks(self.length)


class PyramidConfig(Config):
    """delay: calls between the begin of a unit and of the next, at most those of a unit (Diffusion Forcing, 10.1)."""

    delay: float = Field(default=1.0, gt=0)

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: min(self.delay, calls))


class PipelineConfig(Config):
    """stages: units in flight, each a stage of calls / stages steps before the next (MAGI-1, 12)."""

    stages: int = Field(default=2, ge=1)

    def build(self) -> Staggered:
        """The schedule. It raises UsageError for calls that are not whole stages."""
        return Staggered(self._delay)

    def _delay(self, calls: int) -> int:
        if calls % self.stages:
            raise UsageError(f"schedule.stages: {calls} calls a unit are not whole steps of {self.stages} stages")
        return calls // self.stages


class AsynchronousConfig(Config):
    """ar_step: calls between the begin of a unit and of the next; 0: `window` units at once (SkyReels-V2, 13)."""

    ar_step: int = Field(default=1, ge=0)
    window: int = Field(default=4, ge=1)

    def build(self) -> Staggered | Chunks:
        """The schedule. It raises UsageError where more units than the window would be in flight."""
        return Staggered(self._delay) if self.ar_step else Chunks(self.window)

    def _delay(self, calls: int) -> int:
        least = -(-calls // self.window)
        if self.ar_step < least:
            raise UsageError(
                f"schedule.ar_step {self.ar_step}: {calls} calls a unit fill more than the window of {self.window} "
                f"units; use {least} or more"
            )
        return min(self.ar_step, calls)


class RollingConfig(Config):
    """As many units in flight as calls, one level apart, all reading each other; each call emits one (11.4).

    Choice: what leaves is committed with the next call, not by a call of its own; its keys are the same.
    """

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: 1, both_ways=True)


ScheduleConfig = OneByOneConfig | ChunksConfig | PyramidConfig | PipelineConfig | AsynchronousConfig | RollingConfig


def check_schedule(config: WorldConfig) -> None:
    """Raises UsageError, one line, where the units of a world cannot be in flight together as its schedule says."""
    if isinstance(config.order, PrefixOrderConfig) and config.schedule != ChunksConfig(length=config.order.chunk):
        raise UsageError(
            f"world {config.name!r} makes order.chunk frames together; its schedule is "
            f"ChunksConfig with length {config.order.chunk}"
        )
    if isinstance(config.schedule, OneByOneConfig):
        return
    if isinstance(config.order, InParts):
        raise UsageError(f"world {config.name!r} makes its frames part by part, one by one; leave schedule out")
    if config.by_scales:
        raise UsageError(f"world {config.name!r} predicts its frames scale by scale, one by one; leave schedule out")
    system = config.system()
    order, grid, schedule, calls = system.order, system.grid, system.schedule, refinements(system.objective)
    depth, name, most = schedule.depth(calls), config.name, 4 * schedule.depth(calls) * calls
    if depth == 1:
        return
    relations = order.relations.values()
    if not any(relation.joint for relation in relations):
        raise UsageError(f"world {name!r}: its {depth} units in flight do not read each other; order.in_flight={depth}")
    first, last = (grid.cell(grid.sites(unit)[:1]) for unit in (order.reach, order.reach + depth - 1))
    if schedule.both_ways and not any(bool(relation.sees(first, last).all()) for relation in relations):
        raise UsageError(
            f"world {name!r}: its {depth} units in flight do not read the later ones; order.forward=true and "
            f"order.in_flight={depth}"
        )
    if depth > order.reach:
        raise UsageError(f"world {name!r}: {depth} units in flight do not fit its window of {order.reach}")
    steps = partial(schedule.steps, system.objective, system.frames)
    if not any(_in_turn_known(order, steps(), first, most) for first in range(depth + 1)):
        raise UsageError(
            f"world {name!r} makes a unit from the code of one before (objective.hint) that would be in flight with it;"
            " use a schedule with one unit in flight, or train a world without a hint"
        )


def _in_turn_known(order: Order, steps: Iterator[Step], first: int, calls: int) -> bool:
    """Whether in these calls, from unit `first` on, every unit begins when all that its input needs is finished."""
    clock, begun, done = first, set[int](), set(range(first))
    for step in islice(steps, calls):
        fresh = {clock + row.unit for row in step.rows if row.step is not None} - begun
        if any(order.need(unit, v) for unit in fresh for v in range(max(0, unit - order.reach), unit) if v not in done):
            return False
        begun |= fresh
        clock += step.advance
        done |= set(range(clock))
    return True


def with_schedule(config: WorldConfig, schedule: ScheduleConfig) -> WorldConfig:
    """A world that plays by another schedule, its order letting what is in flight read each other.

    One that was trained frame by frame has never seen a frame in flight before another. Raises UsageError where the
    schedule does not fit.
    """
    order, made = config.order, schedule.build()
    if isinstance(order, FrameOrderConfig | BlockOrderConfig):
        calls = refinements(config.system().objective)
        order = order.replace(in_flight=made.depth(calls), forward=made.both_ways)
    return config.replace(schedule=schedule, order=order)


class Ahead:
    """The actions of rows, taken from an iterator as frames are begun; after its end nothing is pressed.

    total: frames whose action was asked for and given, those of the context included.
    """

    def __init__(self, tape: ActionTape, source: Iterator[Tensor], rest: Tensor) -> None:
        self.tape, self.source, self.rest = tape, source, rest
        self.total, self.ended = int(tape.next[0]), False

    def until(self, frames: int) -> None:
        """Actions of all frames before number `frames` are on the tape."""
        while int(self.tape.next[0]) < frames:
            action = None if self.ended else next(self.source, None)
            self.ended = action is None
            self.total += action is not None
            self.tape.append(self.rest if action is None else action, torch.zeros(len(self.rest), dtype=torch.bool))


@torch.inference_mode()
def scheduled(
    world: World,
    context: Tensor,
    actions: Iterable[Tensor],
    context_actions: Tensor | None,
    rngs: Sequence[Rng],
    steps: int | None = None,
) -> Iterator[Tensor]:
    """Codes [B, n, C] of the frames after a context, by the schedule of the world, until the actions end.

    context: codes [B, T, n, C], of which the last ones count, up to whole units or the border of a chunk;
    context_actions [B, T, A] or None.
    Raises UsageError where the context is no whole unit.
    """
    config, net = world.config if steps is None else world.config.with_steps(steps), world.net
    system = config.system()
    order, grid, objective, schedule = system.order, system.grid, system.objective, system.schedule
    per, batch, frames = len(system.frames.frames(0)), len(context), system.frames.whole(context.shape[1])
    if not frames:
        name, least = f"world {config.name!r}", next(n for n in count(1) if system.frames.whole(n))
        raise UsageError(f"{name} makes {per} frames together; give a context of at least {least} frames")
    begun = frames // per
    state = RingState.create(order, [grid] * batch, net.ring_shapes(), next(net.parameters()).dtype, world.device)
    for unit, codes in enumerate(context[:, -frames:].unflatten(1, (begun, per)).unbind(1)):
        state.give(unit, codes.flatten(1, 2))
    keep = frames + (order.reach + schedule.depth(refinements(objective)) + 1) * per
    tape = _tape(config, batch, frames, keep, context_actions)
    decoder = Decoder(world.model, order, [grid] * batch, objective, rngs, objective.given, tape)
    whole = begun - schedule.pending
    if whole:
        decoder.step(prefill(range(whole)), state)
    for row in state.rows:
        row.clock = begun
    source = Ahead(tape, iter(actions), torch.from_numpy(config.actions.noop()).expand(batch, -1))
    yield from _in_turn(decoder, state, schedule.steps(objective, system.frames), source, per)


def _tape(config: WorldConfig, batch: int, frames: int, keep: int, actions: Tensor | None) -> ActionTape:
    """What is known of the actions of a context of so many frames."""
    tape = ActionTape(batch, config.actions.width, keep)
    known = torch.zeros(batch, frames, config.actions.width)
    unknown = torch.ones(batch, frames, dtype=torch.bool)
    if actions is not None:
        known, unknown[:, 1:] = actions[:, -frames:].to(known), False
    tape.start(range(batch), known, unknown)
    return tape


def _in_turn(decoder: Decoder, state: RingState, steps: Iterator[Step], source: Ahead, per: int) -> Iterator[Tensor]:
    """Frames [B, n, C] in order, as soon as those before are there, until those with actions are made."""
    batch, turn = len(state.rows), state.rows[0].clock
    made: dict[int, list[Tensor]] = {}
    for step in steps:
        clock = state.rows[0].clock
        source.until((clock + max(row.unit for row in step.rows) + 1) * per)
        if source.ended and turn * per >= source.total:
            return
        for _, unit, code in decoder.step(_left(step, clock, per, source), state):
            made.setdefault(unit, []).append(code)
        while len(made.get(turn, ())) == batch:
            frames = torch.stack(made.pop(turn)).unflatten(1, (per, -1)).unbind(1)
            for number, frame in enumerate(frames, turn * per):
                if source.ended and number >= source.total:
                    return
                yield frame
            turn += 1


def _left(step: Step, clock: int, per: int, source: Ahead) -> Step:
    """A Step without the units behind the last frame that has an action: what is in flight runs out at the end."""
    if not source.ended:
        return step
    return replace(step, rows=tuple(row for row in step.rows if (clock + row.unit) * per < source.total))
