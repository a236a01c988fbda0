"""Streams: rows of one world in one batched forward, each with its own clock, context, actions and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vidar.cache.ring import Mark, RingState
from vidar.conditioning.action import Actions
from vidar.core.decode import Decoder
from vidar.core.layouts import Layouts
from vidar.core.objective import Objective
from vidar.core.schedules import OneByOne
from vidar.core.step import Step, prefill
from vidar.nn.static import Build
from vidar.rng import Rng
from vidar.types import Model, UsageError
from vidar.world.decoding import EXTRA, Decoding, following, looks_back, remember

if TYPE_CHECKING:
    from vidar.world.world import World


class ActionTape:
    """The latest `keep` actions of each row, the newest in the last column; what a conditioner is given at each call.

    next: long [B], the frame that the next column will belong to. Tensors in it are replaced, never changed in place.
    """

    def __init__(self, batch: int, width: int, keep: int) -> None:
        self.values = torch.zeros(batch, keep, width)
        self.unknown = torch.ones(batch, keep, dtype=torch.bool)
        self.next = torch.zeros(batch, dtype=torch.long)
        self._told, self._told_of = Actions(self.values, self.unknown, self.next - keep, {}), self._now()

    def append(self, values: Tensor, unknown: Tensor) -> None:
        """One frame of every row: values [B, A], unknown [B]."""
        self.values = torch.cat([self.values[:, 1:], values[:, None].to(self.values)], 1)
        self.unknown = torch.cat([self.unknown[:, 1:], unknown[:, None]], 1)
        self.next = self.next + 1

    def start(self, rows: Sequence[int], values: Tensor, unknown: Tensor, first: int = 0) -> None:
        """Some rows begin anew with n frames, from number `first` on: values [b, n, A], unknown [b, n]."""
        pick, count, keep = torch.tensor(list(rows)), values.shape[1], self.values.shape[1]
        fresh = torch.zeros(len(pick), keep, values.shape[2]), torch.ones(len(pick), keep, dtype=torch.bool)
        used = min(count, keep)
        fresh[0][:, keep - used :], fresh[1][:, keep - used :] = values[:, count - used :], unknown[:, count - used :]
        self.values = self.values.index_copy(0, pick, fresh[0])
        self.unknown = self.unknown.index_copy(0, pick, fresh[1])
        self.next = self.next.index_fill(0, pick, first + count)

    def __call__(self, layout: Any) -> Actions:
        """The conditions of one call: the same for all calls of a frame, whose columns are embedded once."""
        now = self._now()
        if any(a is not b for a, b in zip(now, self._told_of)):
            self._told, self._told_of = Actions(self.values, self.unknown, self.next - self.values.shape[1], {}), now
        return self._told

    def _now(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.values, self.unknown, self.next


@dataclass(frozen=True)
class Moment:
    """A point of all streams to come back to."""

    mark: Mark
    tape: tuple[Tensor, Tensor, Tensor]


class Streams:
    """`capacity` streams of a world, moved on together by one frame at a time.

    A row that was never opened dreams from nothing, so that every call has the same shapes. What a row shows depends
    on its own context, actions and noise alone; its bits also on the capacity, and on whether the calls of a frame are
    compiled (`World.compiled`; at once, which takes a minute the first time; by a Build of its own, if one is
    given). Codes are float32 [B, n, C].
    """

    def __init__(self, world: World, capacity: int, steps: int | None = None, compiled: bool | Build = False) -> None:
        config = world.config if steps is None else world.config.with_steps(steps)
        if not config.frame_by_frame:
            raise UsageError(f"world {config.name!r} does not make frame after frame, so it cannot be played; generate")
        self.world, self.capacity, self.guidance = world, capacity, config.guidance
        build = None if isinstance(compiled, bool) else compiled
        self.model = world.compiled(build) if compiled else world.model
        total = capacity if config.guidance is None else 2 * capacity
        system = config.system(pyramid=world.pyramid)
        self.order, self.grid, self.frames = system.order, system.grid, system.frames
        self.layouts = Layouts()
        self.most = config.steps  # calls of a frame, where it is not given another number
        self._schedules: dict[int, tuple[Objective, list[Step]]] = {}
        reach = -(-self.order.reach // len(self.frames.units(0)))
        self.tape = ActionTape(total, config.actions.width, config.context + reach + 2)
        self.rngs = [Rng(0, b % capacity) for b in range(total)]
        self.state = self._fresh(total)
        if compiled:
            self._warm_up()

    @torch.inference_mode()
    def open(
        self, rows: Sequence[int], codes: Tensor, actions: Tensor | None, rngs: Sequence[Rng], first: int = 0
    ) -> None:
        """Begin some rows anew after their context. No moment may be held.

        codes [b, T, n, C]; actions [b, T, A], row t acts between frames t-1 and t, None: unknown; rngs: one per row.
        first: number of the context's first frame; a long video goes on elsewhere by it, with the noise and positions
        of its own frames (one that needs the code of a frame before the context is not committed; UsageError where that
        is the last one). The last frame of the context is committed with the first new one.
        """
        length, context = codes.shape[1], codes
        known = torch.zeros(len(codes), length, self.tape.values.shape[2]) if actions is None else actions
        unknown = torch.ones(len(codes), length, dtype=torch.bool)
        unknown[:, 1:] = actions is None
        rows, codes, known, rngs = self._both(rows), self._twice(codes), self._twice(known), [*rngs, *rngs]
        unknown = self._twice(unknown, torch.ones_like(unknown))
        batch = len(codes)
        state, objective = self._fresh(batch), self._schedule(self.most)[0]
        begin, units = self.frames.units(first).start, list[int]()
        for row in state.rows:
            row.clock = begin
        for frame in range(length):
            for unit, code in self.frames.split(first + frame, codes[:, frame, None]).items():
                state.give(unit, code)
                units.append(unit - begin)
        *whole, last = [unit for unit in units if not self._lacks(begin + unit, first)] or [-1]
        if last < 0:
            raise UsageError(f"a context of {length} frames from frame {first} on is too short; give those before it")
        if whole:
            tape = ActionTape(batch, known.shape[2], length)
            tape.start(range(batch), known, unknown, first)
            decoder = self._decoder(tape, rngs[:batch], objective, self.world.model)
            decoder.step(prefill(whole, advance=self.frames.units(first + length).start - begin), state)
        else:
            for row in state.rows:
                row.clock = self.frames.units(first + length).start
        remember(self.world, state.rows[: len(context)], context)
        self.tape.start(rows, known, unknown, first)
        self.state.replace(rows, state)
        for row, rng in zip(rows, rngs):
            self.rngs[row] = rng

    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """Keys of the last frames made anew under other actions: a switch counts at once (LongLive, causal-diffusion
        11.3, at a new prompt). No moment may be held.

        codes [b, T, n, C]: the last frames of these rows, of which as many count as the next one can see; actions
        [b, T, A], as in `open`, which this is at the row's own frame number and noise. Choice: sinks that have left the
        window are not among them and are forgotten (LongLive's `global_sink` false).
        """
        period = len(self.frames.units(0))
        for row, known, told in zip(rows, codes, actions, strict=True):
            frame = self.state.rows[row].clock // period
            keep = min(len(known), frame, -(-self.order.reach // period))
            if frame > keep < len(known) and self._lacks((frame - keep) * period, frame - keep):
                keep += 1  # the first one is only what the next is made from
            seen = self.state.rows[row].extras.get(EXTRA)
            self.open([row], known[None, -keep:], told[None, -keep:], [self.rngs[row]], frame - keep)
            if seen is not None:  # no picture changes, the tokenizer has seen more than these frames
                self.state.rows[row].extras[EXTRA] = seen

    def begin(self, row: int, frames: Any, actions: Any, seed: int) -> Tensor:
        """`open` one row after frames, uint8 [T, H, W, 3] or None (the world's own start), and actions [T, A] or None.

        Of both the last `context` count; returns their codes [T, n, C]. Raises VidarError where they do not fit.
        """
        keep = self.world.config.context
        codes = self.world.encode(self.world.context_frames(frames)[None, -keep:])
        known = None if actions is None else torch.as_tensor(np.asarray(actions, np.float32))[None, -keep:]
        self.open([row], codes, known, [Rng(seed)])
        return codes[0]

    @torch.inference_mode()
    def frame(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """The next frame of every row under its action, [B, A] -> codes [B, n, C]. steps: see `WorldConfig.steps`."""
        told = torch.zeros(self.capacity, dtype=torch.bool)
        frames = self.tape.next[: self.capacity]
        self.tape.append(self._twice(actions), self._twice(told, ~told))
        objective, schedule = self._schedule(steps or self.most)
        decoder = self._decoder(self.tape, self.rngs, objective, self.model)
        made: list[dict[int, Tensor]] = [{} for _ in self.rngs]
        for call, step in enumerate(schedule):
            if self.guidance is not None:
                weights = self.guidance.weights(call, len(schedule), frames)
                decoder = replace(decoder, combine=partial(self.guidance.combine, weights=weights))
            for row, unit, code in decoder.step(step, self.state):
                made[row][unit] = code
        return torch.stack([self._joined(codes) for codes in made[: self.capacity]])

    def decoding(self, codes: Tensor) -> Decoding:
        """Of the frame that was just made, codes [B, n, C] of `frame`: its pictures [B, 1, H, W, 3], not yet decoded.

        To be taken before a row goes back, and of every frame or of none. Raises ValueError where one was left out.
        """
        if not looks_back(self.world.config):
            return Decoding(self.world, codes[:, None])
        rows, period = self.state.rows[: self.capacity], len(self.frames.units(0))
        for row in rows:
            seen = row.extras.get(EXTRA)
            if row.clock != period + (0 if seen is None else seen.clock):
                raise ValueError("the tokenizer of this world looks back: decode every frame, and each one once")
        return following(self.world, rows, codes)

    def decode(self, codes: Tensor) -> Tensor:
        """As `decoding`, at once: uint8 [B, H, W, 3]."""
        return self.decoding(codes).frames()[:, 0]

    def hold(self) -> Moment:
        """A point to come back to; `release` it. While it is held, what is overwritten is kept."""
        return Moment(self.state.mark(), (self.tape.values, self.tape.unknown, self.tape.next))

    @torch.inference_mode()
    def back(self, moment: Moment, rows: Sequence[int] | None = None) -> None:
        """Go back to a moment: all rows, or some. The moment stays held."""
        rows = None if rows is None else self._both(rows)
        self.state.rewind(moment.mark, rows)
        pick = torch.arange(len(self.rngs)) if rows is None else torch.tensor(rows, dtype=torch.long)
        values, unknown, following = moment.tape
        self.tape.values = self.tape.values.index_copy(0, pick, values[pick])
        self.tape.unknown = self.tape.unknown.index_copy(0, pick, unknown[pick])
        self.tape.next = self.tape.next.index_copy(0, pick, following[pick])

    def release(self, moment: Moment) -> None:
        """Give a moment up."""
        self.state.release(moment.mark)

    def _both(self, rows: Sequence[int]) -> list[int]:
        """Rows of streams -> rows of the forward."""
        return [*rows] if self.guidance is None else [*rows, *(self.capacity + row for row in rows)]

    def _twice(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[b, ...] of streams -> of the rows of the forward; other: of those without actions, where it is not x."""
        return x if self.guidance is None else torch.cat([x, x if other is None else other])

    def _fresh(self, batch: int) -> RingState:
        net, device = self.world.net, self.world.device
        return RingState.create(
            self.order, [self.grid] * batch, net.ring_shapes(), next(net.parameters()).dtype, device
        )

    def _schedule(self, steps: int) -> tuple[Objective, list[Step]]:
        """The objective with so many calls of a frame, and these calls."""
        if steps not in self._schedules:
            objective = self.world.config.with_steps(steps).system(pyramid=self.world.pyramid).objective
            self._schedules[steps] = objective, OneByOne().group(objective, self.frames)
        return self._schedules[steps]

    def _joined(self, codes: dict[int, Tensor]) -> Tensor:
        """The code of the frame that the newest of these units is of, [n, C]."""
        return self.frames.join(self.frames.group(max(codes)), codes)[0]

    def _lacks(self, unit: int, first: int) -> bool:
        """Whether a unit needs one of a frame before number `first`."""
        start = self.frames.units(first).start
        return any(self.order.need(unit, v) for v in range(max(0, start - self.order.reach), start))

    def _warm_up(self) -> None:
        """One frame of every row, taken back."""
        moment = self.hold()
        self.frame(torch.from_numpy(self.world.config.actions.noop()).expand(self.capacity, -1))
        self.back(moment)
        self.release(moment)

    def _decoder(self, tape: ActionTape, rngs: Sequence[Rng], objective: Objective, model: Model) -> Decoder:
        grids = [self.grid] * len(rngs)
        return Decoder(model, self.order, grids, objective, rngs, objective.given, tape, layouts=self.layouts)
