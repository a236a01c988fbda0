"""The rollout driver: generates the rows of one System in one batched forward pass.

Each row has its own clock, context, actions and noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from vidar.cache.policy import evict
from vidar.cache.ring import Mark, RingState
from vidar.conditioning.config import NOTHING, Told
from vidar.core.decode import Decoder, Emitted
from vidar.core.layouts import Layouts
from vidar.core.objective import Objective
from vidar.core.schedules import OneByOne, refinements
from vidar.core.state import RowState
from vidar.core.step import Step, prefill
from vidar.rng import Rng
from vidar.rollout.codec import EXTRA, following, remember
from vidar.rollout.guide import guided
from vidar.rollout.memory import EXTRA as MEMORY
from vidar.rollout.setting import Setting
from vidar.rollout.tape import ActionPrefetcher, ActionTape, Conditions
from vidar.rollout.turns import Turns
from vidar.types import Model, UsageError


@dataclass(frozen=True)
class Snapshot:
    """The state of all rows at one point, for `Rollout.restore`."""

    mark: Mark
    tape: tuple[Tensor, Tensor, Tensor]


class Rollout(Turns):
    """`capacity` rows of an endless order, which advance together.

    A row that was never opened generates without context, so every call has the same shapes. The content of a row
    depends only on its own context, actions and noise; its bits also depend on the capacity, on the number of rows that
    one `open` starts, and on whether the calls are compiled.

    model: the function that generates frames, for example a compiled one. The context is always read by
    `Setting.network`.
    """

    moving = (*Turns.moving, "state")

    def __init__(self, setting: Setting, capacity: int, model: Model | None = None) -> None:
        super().__init__(setting, capacity, model)
        self.guidance, self.system, self.order = setting.guidance, setting.system, setting.system.order
        self.per_group, self.keep = len(self.frames.frames(0)), _kept_actions(setting)
        self.layouts, self._in_turn = Layouts(), self.system.in_stream
        self._calls = {setting.steps: (self.system.objective, self._group(self.system.objective))}
        total = capacity if self.guidance is None else 2 * capacity
        self.tape = ActionTape(total, len(setting.rest), self.keep)
        self.conditions = self._conditions()
        self._untold = torch.arange(total) >= capacity  # rows of the unconditional branch of guidance
        self.rngs = [Rng(0, b % capacity) for b in range(total)]
        self.state = self._fresh(total)

    @property
    def rows(self) -> Sequence[RowState]:
        """See `Turns`."""
        return self.state.rows[: self.capacity]

    @torch.inference_mode()
    def open(
        self,
        rows: Sequence[int],
        codes: Tensor,
        actions: Tensor | None,
        rngs: Sequence[Rng],
        first: int = 0,
        told: Sequence[Told] | None = None,
        pictures: Tensor | None = None,
    ) -> None:
        """See `Turns.open`. Only the last frames that form whole groups are used (`FrameMap.whole`).

        first: lets a long video be continued elsewhere, with the noise and positions of its own frame numbers. A frame
        that needs the code of a frame before the context is not committed. Units that the schedule leaves pending are
        committed with the first call. Raises UsageError if the context is too short.
        """
        self._restart(rows, codes, actions, rngs, first, told, [{} for _ in rows])
        if self.recall is not None:
            last = slice(-self.frames.whole(codes.shape[1]), None)
            known = None if actions is None else actions[:, last]
            seen = self.codec.decode(codes[:, last])[0] if pictures is None else pictures[:, last]
            self.recall.open([self.state.rows[row] for row in rows], seen, known)

    @torch.inference_mode()
    def reopen(
        self,
        rows: Sequence[int],
        codes: Tensor,
        actions: Tensor | None,
        rngs: Sequence[Rng],
        first: int = 0,
        told: Sequence[Told] | None = None,
    ) -> None:
        """See `Turns.reopen`. The frames of the context are shown what they were shown when they were generated."""
        before, per = [self.state.rows[row] for row in rows], self.per_group
        end = self.frames.units((first + self.frames.whole(codes.shape[1])) // per).start
        shown = [{unit + end - row.clock: one for unit, one in row.shown.items()} for row in before]
        self._restart(rows, codes, actions, rngs, first, told, shown)
        for row, old in zip(rows, before):
            if MEMORY in old.extras:
                self.state.rows[row].extras[MEMORY] = old.extras[MEMORY]

    def _restart(
        self,
        rows: Sequence[int],
        codes: Tensor,
        actions: Tensor | None,
        rngs: Sequence[Rng],
        first: int,
        told: Sequence[Told] | None,
        shown: Sequence[dict[int, Tensor]],
    ) -> None:
        """Restart rows after a context. shown: what was shown to each of them of its units."""
        self.check_start(codes.shape[1])
        length = self.frames.whole(codes.shape[1])
        codes, context = codes[:, -length:], codes[:, -length:]
        known = torch.zeros(len(codes), length, len(self.setting.rest)) if actions is None else actions[:, -length:]
        unknown = torch.ones(len(codes), length, dtype=torch.bool)
        unknown[:, 1:] = actions is None
        said, opened = told or [NOTHING] * len(rows), rows
        rows, codes, known, rngs = self._both(rows), self._twice(codes), self._twice(known), [*rngs, *rngs]
        unknown = self._twice(unknown, torch.ones_like(unknown))
        state = self._given(codes, known, unknown, rngs[: len(codes)], first, said, [*shown, *shown])
        remember(self.codec, state.rows[: len(context)], context)
        self.tape.start(rows, known, unknown, first)
        for row, one in zip(opened, said, strict=True):
            self.told[row] = one
        self.conditions = self._conditions()
        self.state.replace(rows, state)
        for row, rng in zip(rows, rngs):
            self.rngs[row] = rng

    def _given(
        self,
        codes: Tensor,
        known: Tensor,
        unknown: Tensor,
        rngs: Sequence[Rng],
        first: int,
        told: Sequence[Told],
        shown: Sequence[dict[int, Tensor]],
    ) -> RingState:
        """A fresh state in which these frames are committed."""
        state, objective, length = self._fresh(len(codes)), self.system.objective, codes.shape[1]
        per = self.per_group
        groups = range(first // per, (first + length) // per)
        begin, end = self.frames.units(groups.start).start, self.frames.units(groups.stop).start
        units = list[int]()
        for place, group in enumerate(groups):
            for unit, code in self.frames.split(group, codes[:, place * per : (place + 1) * per]).items():
                state.give(unit, code)
                units.append(unit - begin)
        units = [unit for unit in units if not self._lacks(begin + unit, begin)]
        if not units:
            raise UsageError(
                f"a context of {length} frames that starts at frame {first} is too short; include earlier frames"
            )
        whole = units[: len(units) - self.system.schedule.pending]
        for row, known_of in zip(state.rows, shown):
            row.clock, row.shown = begin if whole else end, dict(known_of)
        if whole:
            tape = ActionTape(len(codes), known.shape[2], length)
            tape.start(range(len(codes)), known, unknown, first)
            conditions = Conditions(self.setting, tape, told, self.guidance is not None)
            decoder = self._decoder(conditions, rngs, objective, self.setting.network.call)
            decoder.step(prefill(whole, advance=end - begin), state)
        return state

    def recache(self, rows: Sequence[int], codes: Tensor, actions: Tensor) -> None:
        """See `Turns.recache`: KV re-caching, so that a changed action takes effect at once.

        LongLive (Yang et al., 2025) does this when the prompt changes. Uses as many of the last frames as the next
        frame can see. The implementation is `reopen` at the row's own frame number and noise. Choice: sinks that have
        left the window are not recomputed but forgotten (LongLive with `global_sink` false).
        """
        per = self.per_group
        for row, known, told in zip(rows, codes, actions, strict=True):
            group, most = self.frames.group(self.state.rows[row].clock), len(known) // per
            keep = min(most, group, -(-self.order.reach // len(self.frames.units(0))))
            start = self.frames.units(group - keep).start
            if group > keep < most and self._lacks(start, start):
                keep += 1  # the first frame only provides the hint of the next
            seen, last = self.state.rows[row].extras.get(EXTRA), slice(-keep * per, None)
            mine = [self.rngs[row]], (group - keep) * per, [self.told[row]]
            self.reopen([row], known[None, last], told[None, last], *mine)
            if seen is not None:  # no picture changes, and the tokenizer state covers more than these frames
                self.state.rows[row].extras[EXTRA] = seen

    @torch.inference_mode()
    def group(self, actions: Tensor, steps: int | None = None) -> Tensor:
        """See `Turns.group`. Also raises UsageError for a System that does not make its groups one after another."""
        if not self._in_turn or actions.shape[1] != self.per_group:
            raise UsageError(
                f"{self.setting.name} does not make groups of {actions.shape[1]} frames one after another; use `run`"
            )
        for action in actions.unbind(1):
            self._tell(action)
        if self.recall is not None:
            self.recall.show(self.rows, actions[:, 0], [row.clock for row in self.rows])
            for row, other in zip(self.rows, self.state.rows[self.capacity :]):  # the unconditional branch of guidance
                other.shown = dict(row.shown)
        objective, calls = self._calls_of(steps or self.most)
        decoder = self._decoder(self.conditions, self.rngs, objective, self.model)
        made: list[dict[int, Tensor]] = [{} for _ in range(self.capacity)]
        for step in calls:
            for row, unit, code in self._call(decoder, step):
                made[row][unit] = code
        codes = torch.stack([self._joined(codes) for codes in made])
        if self.recall is not None:
            self.recall.note(self.rows, following(self.codec, self.rows, codes))
        return codes

    @torch.inference_mode()
    def run(self, actions: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the codes [B, n, C] of each frame by the schedule of the System, until the actions [B, A] end.

        All rows share one clock. A frame that starts while earlier frames are in flight requests its action when it
        starts.
        """
        objective, frames = self.system.objective, self.frames
        decoder = self._decoder(self.conditions, self.rngs, objective, self.model)
        if self.recall is not None:
            raise UsageError(f"{self.setting.name} has a memory, which needs its frames one after another")
        source = ActionPrefetcher(self.tape, iter(actions), self._tell, self.setting.rest.expand(self.capacity, -1))
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

    def progress(self) -> dict[str, Any]:
        """See `Turns.progress`."""
        return {**super().progress(), "tape": (self.tape.values, self.tape.unknown, self.tape.next)}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """See `Turns.resume`."""
        super().resume(progress)
        self.tape.values, self.tape.unknown, self.tape.next = progress["tape"]
        self.conditions = self._conditions()

    def snapshot(self) -> Snapshot:
        """See `Turns`."""
        return Snapshot(self.state.mark(), (self.tape.values, self.tape.unknown, self.tape.next))

    @torch.inference_mode()
    def restore(self, snapshot: Snapshot, rows: Sequence[int] | None = None) -> None:
        """See `Turns`."""
        rows = None if rows is None else self._both(rows)
        self.state.rewind(snapshot.mark, rows)
        pick = torch.arange(len(self.rngs)) if rows is None else torch.tensor(rows, dtype=torch.long)
        values, unknown, following = snapshot.tape
        self.tape.values = self.tape.values.index_copy(0, pick, values[pick])
        self.tape.unknown = self.tape.unknown.index_copy(0, pick, unknown[pick])
        self.tape.next = self.tape.next.index_copy(0, pick, following[pick])

    def release(self, snapshot: Snapshot) -> None:
        """See `Turns`."""
        self.state.release(snapshot.mark)

    def _call(self, decoder: Decoder, step: Step) -> list[Emitted]:
        """Make one network call; returns the codes that it finished, without those of the unconditional branch."""
        objective = cast(Objective, decoder.objective)
        system = self.system if objective is self.system.objective else replace(self.system, objective=objective)
        clocks = [row.clock for row in self.state.rows[: self.capacity]]
        evict(self.setting.policy, self.state)
        made = guided(decoder, self.guidance, system, step, clocks).step(step, self.state)
        return [item for item in made if item[0] < self.capacity]

    def _tell(self, actions: Tensor) -> None:
        self.tape.append(self._twice(actions), self._untold)

    def _both(self, rows: Sequence[int]) -> list[int]:
        """Rows of the rollout -> rows of the forward pass, where guidance doubles them."""
        return [*rows] if self.guidance is None else [*rows, *(self.capacity + row for row in rows)]

    def _twice(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """x [b, ...] for the rows of the rollout -> for those of the forward pass. other: the unconditional values."""
        return x if self.guidance is None else torch.cat([x, x if other is None else other])

    def _conditions(self) -> Conditions:
        return Conditions(self.setting, self.tape, self.told, self.guidance is not None)

    def _fresh(self, batch: int) -> RingState:
        network = self.setting.network
        grids = [self.system.grid] * batch
        return RingState.create(self.order, grids, network.rings, network.dtype, network.device)

    def _group(self, objective: Objective) -> list[Step]:
        return OneByOne().group(objective, self.frames)

    def _calls_of(self, steps: int) -> tuple[Objective, list[Step]]:
        """The objective with `steps` calls per frame, and the calls of one group."""
        if steps not in self._calls:
            objective = self.setting.faster(steps)
            self._calls[steps] = objective, self._group(objective)
        return self._calls[steps]

    def _joined(self, codes: Mapping[int, Tensor]) -> Tensor:
        """Codes [F, n, C] of the frames of the group that contains the newest of these units."""
        return self.frames.join(self.frames.group(max(codes)), codes)

    def _complete(self, codes: Mapping[int, Sequence[Tensor]], group: int) -> bool:
        """Whether all units that a group generates are finished in all rows."""
        asked = [unit for unit in self.frames.units(group) if unit not in self.system.objective.given]
        return all(len(codes.get(unit, ())) == self.capacity for unit in asked)

    def _left(self, step: Step, clock: int, source: ActionPrefetcher) -> Step:
        """A Step without the units behind the last frame that has an action: what is in flight runs out at the end."""
        if not source.ended:
            return step
        first = {row: self.frames.frames(self.frames.group(clock + row.unit)).start for row in step.rows}
        return replace(step, rows=tuple(row for row in step.rows if first[row] < source.total))

    def _lacks(self, unit: int, start: int) -> bool:
        """Whether a unit needs the code of a unit before `start`."""
        return any(self.order.need(unit, v) for v in range(max(0, start - self.order.reach), start))

    def _decoder(self, told: Conditions, rngs: Sequence[Rng], objective: Objective, model: Model) -> Decoder:
        grids = [self.system.grid] * len(rngs)
        return Decoder(model, self.order, grids, objective, rngs, objective.given, told, layouts=self.layouts)


def _kept_actions(setting: Setting) -> int:
    """The number of last frames whose actions a call may read."""
    system = setting.system
    depth = system.schedule.depth(refinements(system.objective))
    groups = -(-system.order.reach // len(system.frames.units(0))) + depth
    return setting.context + (groups + 1) * len(system.frames.frames(0))
