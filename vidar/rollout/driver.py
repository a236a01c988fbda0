"""The one driver: rows of one System in one batched forward, each with its own clock, context, actions and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vidar.cache.policy import Policy, evict
from vidar.cache.ring import Mark, RingState
from vidar.core.decode import Decoder, Emitted
from vidar.core.layouts import Layouts
from vidar.core.objective import Objective
from vidar.core.placement import RingShape
from vidar.core.schedules import OneByOne, refinements
from vidar.core.step import Step, prefill
from vidar.core.system import System
from vidar.rng import Rng
from vidar.rollout.codec import EXTRA, Codec, Decoding, following, remember
from vidar.rollout.guide import guided
from vidar.rollout.tape import ActionTape, Ahead
from vidar.sampling.guidance import GuideConfig
from vidar.types import Model, UsageError


@dataclass(frozen=True)
class Network:
    """What a rollout needs of a network: its calls, the rings of its state, and where these are."""

    call: Model
    rings: Mapping[str, RingShape]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Setting:
    """What a rollout is made of.

    steps     calls of a frame; faster: the objective with another number of them
    context   frames of a context at most
    rest      float [A]: nothing is pressed
    guidance  of what is dreamed, by its actions: it doubles the rows of every call
    policy    what the cache forgets between calls; None: what the order forgets
    """

    name: str
    system: System[Objective]
    network: Network
    codec: Codec
    steps: int
    faster: Callable[[int], Objective]
    context: int
    rest: Tensor
    guidance: GuideConfig | None = None
    policy: Policy | None = None


@dataclass(frozen=True)
class Snapshot:
    """A point of all rows to come back to."""

    mark: Mark
    tape: tuple[Tensor, Tensor, Tensor]


class Rollout:
    """`capacity` rows of a System, moved on together.

    A row that was never opened dreams from nothing, so that every call has the same shapes. What a row shows depends
    on its own context, actions and noise alone; its bits also on the capacity, on how many rows one `open` begins, and
    on whether the calls are compiled. Codes are float32 [B, n, C].

    model: makes the calls of frames; what is known is read by `Setting.network` in any case.
    """

    def __init__(self, setting: Setting, capacity: int, model: Model | None = None) -> None:
        self.setting, self.capacity, self.guidance = setting, capacity, setting.guidance
        self.model, self.system, self.codec = model or setting.network.call, setting.system, setting.codec
        self.order, self.frames = self.system.order, self.system.frames
        self.layouts, self.most, self._in_turn = Layouts(), setting.steps, self.system.in_turn
        self._calls = {setting.steps: (self.system.objective, self._group(self.system.objective))}
        self.per_group = len(self.frames.frames(0))
        total = capacity if self.guidance is None else 2 * capacity
        self.tape = ActionTape(total, len(setting.rest), self._kept_actions())
        self._untold = torch.arange(total) >= capacity  # rows of the branch without actions
        self.rngs = [Rng(0, b % capacity) for b in range(total)]
        self.state = self._fresh(total)

    def _kept_actions(self) -> int:
        """Frames whose actions some call may read."""
        depth = self.system.schedule.depth(refinements(self.system.objective))
        groups = -(-self.order.reach // len(self.frames.units(0))) + depth
        return self.setting.context + (groups + 1) * len(self.frames.frames(0))

    @torch.inference_mode()
    def open(
        self, rows: Sequence[int], codes: Tensor, actions: Tensor | None, rngs: Sequence[Rng], first: int = 0
    ) -> None:
        """Begin some rows anew after their context. No snapshot may be held.

        codes [b, T, n, C], of which the last ones count that are whole groups of frames (`FrameMap.whole`); actions
        [b, T, A], row t acts between frames t-1 and t, None: unknown; rngs: one per row. first: number of the context's
        first frame; a long video goes on elsewhere by it, with the noise and positions of its own frames (one that
        needs the code of a frame before the context is not committed). What the schedule leaves pending is committed
        with the first call. Raises UsageError where the context is too short.
        """
        length = self.frames.whole(codes.shape[1])
        if not length:
            least = next(frames for frames in count(1) if self.frames.whole(frames))
            per = len(self.frames.frames(0))
            name = self.setting.name
            raise UsageError(f"{name} makes {per} frames together; give a context of at least {least} frames")
        codes, context = codes[:, -length:], codes[:, -length:]
        known = torch.zeros(len(codes), length, len(self.setting.rest)) if actions is None else actions[:, -length:]
        unknown = torch.ones(len(codes), length, dtype=torch.bool)
        unknown[:, 1:] = actions is None
        rows, codes, known, rngs = self._both(rows), self._twice(codes), self._twice(known), [*rngs, *rngs]
        unknown = self._twice(unknown, torch.ones_like(unknown))
        state = self._given(codes, known, unknown, rngs[: len(codes)], first)
        remember(self.codec, state.rows[: len(context)], context)
        self.tape.start(rows, known, unknown, first)
        self.state.replace(rows, state)
        for row, rng in zip(rows, rngs):
            self.rngs[row] = rng

    def _given(self, codes: Tensor, known: Tensor, unknown: Tensor, rngs: Sequence[Rng], first: int) -> RingState:
        """A state that goes on after these frames."""
        state, objective, length = self._fresh(len(codes)), self.system.objective, codes.shape[1]
        per = len(self.frames.frames(0))
        groups = range(first // per, (first + length) // per)
        begin, end = self.frames.units(groups.start).start, self.frames.units(groups.stop).start
        units = list[int]()
        for place, group in enumerate(groups):
            for unit, code in self.frames.split(group, codes[:, place * per : (place + 1) * per]).items():
                state.give(unit, code)
                units.append(unit - begin)
        units = [unit for unit in units if not self._lacks(begin + unit, begin)]
        if not units:
            raise UsageError(f"a context of {length} frames from frame {first} on is too short; give those before it")
        whole = units[: len(units) - self.system.schedule.pending]
        for row in state.rows:
            row.clock = begin if whole else end
        if whole:
            tape = ActionTape(len(codes), known.shape[2], length)
            tape.start(range(len(codes)), known, unknown, first)
            decoder = self._decoder(tape, rngs, objective, self.setting.network.call)
            decoder.step(prefill(whole, advance=end - begin), state)
        return state

    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """Keys of the last frames made anew under other actions: a switch counts at once (LongLive, Yang et al., 2025,
        at a new prompt). No snapshot may be held.

        codes [b, T, n, C]: the last frames of these rows, of which as many count as the next one can see; actions
        [b, T, A], as in `open`, which this is at the row's own frame number and noise. Choice: sinks that have left the
        window are not among them and are forgotten (LongLive's `global_sink` false).
        """
        per = len(self.frames.frames(0))
        for row, known, told in zip(rows, codes, actions, strict=True):
            group, most = self.frames.group(self.state.rows[row].clock), len(known) // per
            keep = min(most, group, -(-self.order.reach // len(self.frames.units(0))))
            start = self.frames.units(group - keep).start
            if group > keep < most and self._lacks(start, start):
                keep += 1  # the first one is only what the next is made from
            seen, last = self.state.rows[row].extras.get(EXTRA), slice(-keep * per, None)
            self.open([row], known[None, last], told[None, last], [self.rngs[row]], (group - keep) * per)
            if seen is not None:  # no picture changes, the tokenizer has seen more than these frames
                self.state.rows[row].extras[EXTRA] = seen

    def begin(self, row: int, frames: Any, actions: Any, seed: int) -> Tensor:
        """`open` one row after frames, uint8 [T, H, W, 3] or None (the world's own start), and actions [T, A] or None.

        Of both the last `context` count; returns their codes [T, n, C]. Raises VidarError where they do not fit.
        """
        keep = self.setting.context
        codes = self.codec.encode(self.codec.context_frames(frames)[None, -keep:])
        known = None if actions is None else torch.as_tensor(np.asarray(actions, np.float32))[None, -keep:]
        self.open([row], codes, known, [Rng(seed)])
        return codes[0]

    @torch.inference_mode()
    def frame(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """The next frame of every row under its action, [B, A] -> codes [B, n, C]; of an interactive System.

        steps: calls of the solver, None: as many as usual.
        """
        return self.group(actions[:, None], steps)[:, 0]

    @torch.inference_mode()
    def group(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """The next group of frames of every row under their actions, [B, F, A] -> codes [B, F, n, C].

        steps: calls of the solver, None: as many as usual. Raises UsageError for a System whose groups are not made in
        turn, or another number of frames.
        """
        if not self._in_turn or actions.shape[1] != self.per_group:
            raise UsageError(f"{self.setting.name} does not make {actions.shape[1]} frames in turn; use `run`")
        for action in actions.unbind(1):
            self._tell(action)
        objective, calls = self._calls_of(steps or self.most)
        decoder = self._decoder(self.tape, self.rngs, objective, self.model)
        made: list[dict[int, Tensor]] = [{} for _ in range(self.capacity)]
        for step in calls:
            for row, unit, code in self._call(decoder, step):
                made[row][unit] = code
        return torch.stack([self._joined(codes) for codes in made])

    @torch.inference_mode()
    def run(self, actions: Iterable[Tensor]) -> Iterator[Tensor]:
        """Codes [B, n, C] of frame after frame by the schedule of the System, until the actions [B, A] end.

        All rows stand at one clock. A frame that is begun ahead of its turn asks for its action then.
        """
        objective, frames = self.system.objective, self.frames
        decoder = self._decoder(self.tape, self.rngs, objective, self.model)
        source = Ahead(self.tape, iter(actions), self._tell, self.setting.rest.expand(self.capacity, -1))
        made, turn = dict[int, dict[int, list[Tensor]]](), frames.group(self.state.rows[0].clock)
        for step in self.system.schedule.steps(objective, frames):
            clock = self.state.rows[0].clock
            source.until(frames.frames(frames.group(clock + max(row.unit for row in step.rows))).stop)
            if source.ended and frames.frames(turn).start >= source.total:
                return
            for _, unit, code in self._call(decoder, self._left(step, clock, source)):
                made.setdefault(frames.group(unit), {}).setdefault(unit, []).append(code)
            while self._complete(made.get(turn, {}), turn):
                group = made.pop(turn)
                codes = [{unit: found[row] for unit, found in group.items()} for row in range(self.capacity)]
                joined = torch.stack([frames.join(turn, own) for own in codes])
                for number, code in zip(frames.frames(turn), joined.unbind(1)):
                    if source.ended and number >= source.total:
                        return
                    yield code
                turn += 1

    def decoding(self, codes: Tensor) -> Decoding:
        """Of what was just made, codes [B, n, C] or [B, F, n, C]: its pictures [B, F, H, W, 3], not yet decoded.

        To be taken before a row goes back, and of every frame or of none. Raises ValueError where one was left out.
        """
        codes = codes[:, None] if codes.ndim == 3 else codes
        if not self.codec.looks_back:
            return Decoding(self.codec, codes)
        rows, period = self.state.rows[: self.capacity], len(self.frames.units(0))
        for row in rows:
            seen = row.extras.get(EXTRA)
            if row.clock != period + (0 if seen is None else seen.clock):
                raise ValueError("the tokenizer of this world looks back: decode every frame, and each one once")
        return following(self.codec, rows, codes)

    def decode(self, codes: Tensor) -> Tensor:
        """As `decoding`, at once: uint8 [B, H, W, 3]."""
        return self.decoding(codes).frames()[:, 0]

    def snapshot(self) -> Snapshot:
        """A point to come back to; `release` it. While it is held, what is overwritten is kept."""
        return Snapshot(self.state.mark(), (self.tape.values, self.tape.unknown, self.tape.next))

    @torch.inference_mode()
    def restore(self, snapshot: Snapshot, rows: Sequence[int] | None = None) -> None:
        """Go back to a snapshot: all rows, or some. The snapshot stays held."""
        rows = None if rows is None else self._both(rows)
        self.state.rewind(snapshot.mark, rows)
        pick = torch.arange(len(self.rngs)) if rows is None else torch.tensor(rows, dtype=torch.long)
        values, unknown, following = snapshot.tape
        self.tape.values = self.tape.values.index_copy(0, pick, values[pick])
        self.tape.unknown = self.tape.unknown.index_copy(0, pick, unknown[pick])
        self.tape.next = self.tape.next.index_copy(0, pick, following[pick])

    def release(self, snapshot: Snapshot) -> None:
        """Give a snapshot up."""
        self.state.release(snapshot.mark)

    def _call(self, decoder: Decoder, step: Step) -> list[Emitted]:
        """One call of the network; codes of the rows of the rollout."""
        objective = cast(Objective, decoder.objective)
        system = self.system if objective is self.system.objective else replace(self.system, objective=objective)
        clocks = [row.clock for row in self.state.rows[: self.capacity]]
        evict(self.setting.policy, self.state)
        made = guided(decoder, self.guidance, system, step, clocks).step(step, self.state)
        return [item for item in made if item[0] < self.capacity]

    def _tell(self, actions: Tensor) -> None:
        self.tape.append(self._twice(actions), self._untold)

    def _both(self, rows: Sequence[int]) -> list[int]:
        """Rows of the rollout -> rows of the forward."""
        return [*rows] if self.guidance is None else [*rows, *(self.capacity + row for row in rows)]

    def _twice(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[b, ...] of rows -> of the rows of the forward; other: of those without actions, where it is not x."""
        return x if self.guidance is None else torch.cat([x, x if other is None else other])

    def _fresh(self, batch: int) -> RingState:
        network = self.setting.network
        grids = [self.system.grid] * batch
        return RingState.create(self.order, grids, network.rings, network.dtype, network.device)

    def _group(self, objective: Objective) -> list[Step]:
        return OneByOne().group(objective, self.frames)

    def _calls_of(self, steps: int) -> tuple[Objective, list[Step]]:
        """The objective with so many calls of a frame, and these calls."""
        if steps not in self._calls:
            objective = self.setting.faster(steps)
            self._calls[steps] = objective, self._group(objective)
        return self._calls[steps]

    def _joined(self, codes: Mapping[int, Tensor]) -> Tensor:
        """Codes of the frames of the group that the newest of these units is of, [F, n, C]."""
        return self.frames.join(self.frames.group(max(codes)), codes)

    def _complete(self, codes: Mapping[int, Sequence[Tensor]], group: int) -> bool:
        """Whether all units of a group that are asked for are there, of all rows."""
        asked = [unit for unit in self.frames.units(group) if unit not in self.system.objective.given]
        return all(len(codes.get(unit, ())) == self.capacity for unit in asked)

    def _left(self, step: Step, clock: int, source: Ahead) -> Step:
        """A Step without the units behind the last frame that has an action: what is in flight runs out at the end."""
        if not source.ended:
            return step
        first = {row: self.frames.frames(self.frames.group(clock + row.unit)).start for row in step.rows}
        return replace(step, rows=tuple(row for row in step.rows if first[row] < source.total))

    def _lacks(self, unit: int, start: int) -> bool:
        """Whether a unit needs one before unit `start`."""
        return any(self.order.need(unit, v) for v in range(max(0, start - self.order.reach), start))

    def _decoder(self, tape: ActionTape, rngs: Sequence[Rng], objective: Objective, model: Model) -> Decoder:
        grids = [self.system.grid] * len(rngs)
        return Decoder(model, self.order, grids, objective, rngs, objective.given, tape, layouts=self.layouts)


def check_interactive(system: System[Objective], name: str) -> None:
    """Raises UsageError for a system whose frames are not made one after the other."""
    if not system.interactive:
        raise UsageError(f"{name} does not make frame after frame, so it cannot be played; generate")


def check_in_turn(system: System[Objective], name: str) -> None:
    """Raises UsageError for a system whose groups of frames are not made one after the other."""
    if not system.in_turn:
        raise UsageError(f"{name} has frames in flight together; what happens between frames has no place there")


def played(setting: Setting, capacity: int, model: Model | None = None, groups: bool = False) -> Rollout:
    """A rollout for `frame`, or with `groups` for `group`. model: makes the calls of frames, and is warmed up by one
    that is taken back.

    Raises UsageError where frames, or groups of them, are not made one after the other.
    """
    (check_in_turn if groups else check_interactive)(setting.system, setting.name)
    rollout = Rollout(setting, capacity, model)
    if model is not None:
        snapshot = rollout.snapshot()
        rollout.group(setting.rest.expand(capacity, rollout.per_group, -1))
        rollout.restore(snapshot)
        rollout.release(snapshot)
    return rollout
