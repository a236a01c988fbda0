"""Joint speculation: generate several frames together under one action, and show them while the action is unchanged.

Next-Frame Diffusion (Cheng et al., 2025), "speculative sampling".
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.core.decode import Decoder
from vidar.core.objective import Objective
from vidar.core.schedules import refinements
from vidar.core.step import Row, Step
from vidar.core.system import System
from vidar.rng import Rng
from vidar.rollout.driver import Rollout
from vidar.rollout.setting import Setting
from vidar.types import MEMORY, QUERY, UsageError, VidarError


class JointStream:
    """One stream of a world that generates `frames` frames at once. The interface is that of a `Rollout` with one row.

    All frames of a proposal have the same level, read the frames before them (block-causal) and receive the action of
    the first frame, so a solver step of all of them is one model call. The first frame is shown at once. The others are
    held: each is accepted if the requested action is exactly equal; a different action discards the rest. Quality is
    not tested and the distribution is not corrected. With frames=1 the result is that of `Rollout`, to the bit.

    An accepted frame is committed with the first model call after its acceptance. The ring therefore never holds a
    discarded frame, and returning to the last accepted frame needs no mark and no journal. A frame never reads a later
    frame, so discarded frames do not affect a single bit of what follows.

    This is in distribution only for a model that was trained with every frame once, each at its own level (SINGLE):
    other models never saw a noisy frame before a noisy frame. A world does not record how it was trained
    (`TrainWorldConfig.stream`), so that cannot be checked here. Refused are content edges between frames in flight
    (`hint`: the code of the previous frame), frames in flight that read forward (kept frames would depend on discarded
    frames), and more frames than the window (the last would see no accepted frame). Only one row is supported: the rows
    of a batch share their calls, and a changed action in one row would make the others propose again.

    hits: number of requested frames that were held. proposals: number of solver runs. discarded: number of discarded
    frames.
    """

    def __init__(self, setting: Setting, frames: int) -> None:
        """Raises UsageError or VidarError (see `check_joint`) before anything is allocated."""
        check_joint(setting, frames)
        if frames > 1:
            setting = replace(setting, system=together(setting.system))
        self.frames, self.objective = frames, setting.system.objective
        self.calls = refinements(self.objective)  # network calls of a proposal
        self.streams = Rollout(setting, 1)
        self.held: deque[Tensor] = deque()
        self.action: Tensor | None = None
        self.hits = self.proposals = self.discarded = 0

    def open(self, codes: Tensor, actions: Tensor | None, rng: Rng) -> None:
        """Restart after a context: codes [1, T, n, C], actions [1, T, A] or None. See `Rollout.open`."""
        self._drop()
        self.streams.open([0], codes, actions, [rng])

    def begin(self, frames: Any, actions: Any, seed: int) -> Tensor:
        """`open` after uint8 frames [T, H, W, 3] and their actions [T, A]; returns codes. See `Rollout.begin`."""
        self._drop()
        return self.streams.begin(0, frames, actions, seed)

    @torch.inference_mode()
    def frame(self, actions: Tensor) -> Tensor:
        """The next frame under its action, [1, A] -> code [1, n, C]."""
        row = self.streams.state.rows[0]
        if self.held and self.action is not None and torch.equal(actions, self.action):
            code = self.held.popleft()
            self.streams.state.give(row.clock, code[None])
            row.clock += 1
            self.hits += 1
        else:
            self._drop()
            self.action = actions.clone()
            code, *later = self._propose(actions)
            self.held.extend(later)
        self.streams.tape.append(actions, torch.zeros(1, dtype=torch.bool))
        return code[None]

    def decode(self, codes: Tensor) -> Tensor:
        """The picture of the frame that was requested last, code [1, n, C] -> uint8 [1, H, W, 3]. See `Rollout`."""
        return self.streams.decode(codes)

    def _drop(self) -> None:
        self.discarded += len(self.held)
        self.held.clear()

    def _propose(self, actions: Tensor) -> list[Tensor]:
        """Codes [n, C] of all frames of a new proposal. Afterwards the state holds only the first, as accepted."""
        state, tape, system = self.streams.state, self.streams.tape, self.streams.system
        values = torch.cat([tape.values, actions[:, None].expand(-1, self.frames, -1).to(tape.values)], 1)
        unknown = torch.cat([tape.unknown, torch.zeros(1, self.frames, dtype=torch.bool)], 1)
        known = Actions(values[:, 1:], unknown[:, 1:], tape.next + self.frames - values.shape[1] + 1)
        told = self.streams.conditions.of(known) if self.streams.conditions.whole else known
        decoder = Decoder(
            self.streams.model,
            system.order,
            [system.grid],
            self.objective,
            self.streams.rngs,
            cond=lambda layout: told,
        )
        row = state.rows[0]
        waiting = len(row.codes.keys() - row.committed)
        made = [item for step in proposal(self.frames, self.calls, waiting) for item in decoder.step(step, state)]
        row.discard(unit for _, unit, _ in made[1:])
        self.proposals += 1
        return [code for _, _, code in made]


def proposal(frames: int, calls: int, waiting: int) -> list[Step]:
    """`frames` units in flight for `calls` refinements; the commit of `waiting` units is part of the first call.

    The clock moves by one: only the first unit is accepted with the proposal. waiting 0: a commit of padding, as in
    `endless`, so that frames=1 is its Steps.
    """
    commits = tuple(Row(unit, MEMORY, None) for unit in range(-max(waiting, 1), 0))
    steps: list[Step] = []
    for i in range(calls):
        flight = tuple(Row(unit, QUERY, i) for unit in range(frames))
        steps.append(Step(commits + flight if i == 0 else flight, int(i == calls - 1)))
    return steps


def together(system: System[Objective]) -> System[Objective]:
    """The same system with units in flight that read the units in flight before them."""
    relations = {name: replace(relation, joint=True) for name, relation in system.order.relations.items()}
    return replace(system, order=replace(system.order, relations=relations))


def check_joint(setting: Setting, frames: int) -> None:
    """Raises UsageError or VidarError, in one line, if `frames` frames of a world cannot be in flight together."""
    system, name = setting.system, setting.name
    order, refined = system.order, system.objective.passes[-1][1] is None
    if frames < 1:
        raise UsageError(f"{frames} frames in flight; joint speculation needs at least 1")
    if setting.guidance is not None:
        raise UsageError(f"{name} has guidance; joint speculation has one row: remove guidance from world.json")
    if setting.policy is not None:
        raise UsageError(f"{name} has a policy that forgets frames; joint speculation needs policy null")
    if setting.memory is not None:
        raise UsageError(f"{name} has a memory, which needs its frames one after another; speculate ahead (vidar play)")
    if not (system.interactive and refined and len(system.frames.units(0)) == 1):
        raise UsageError(f"{name} does not make whole frames one by one; joint speculation needs that")
    if any(order.need(later, earlier) for later in range(frames) for earlier in range(later)):
        raise VidarError(
            f"{name} builds a frame from the code of the previous one (objective.hint), so frames cannot be in flight "
            "together; use a world trained without a hint, or speculate ahead (vidar play)"
        )
    now = torch.tensor(order.reach * order.unit_cells)
    if frames > 1 and any(bool(relation.sees(now, now + order.unit_cells)) for relation in order.relations.values()):
        raise VidarError(f"{name}: frames in flight read later ones (order.forward); none of them can be discarded")
    if frames > max(order.reach, 1):
        raise UsageError(f"{frames} frames in flight do not fit the window of {order.reach} of {name}")
