"""Worlds that plan: first the anchors of a segment, then the frames between them; segments form a chain (MMPL).

`plan` and `populate` are the two tasks of a segment. They are functions of plain values, so they run in one process or
on many workers. `populate` needs only the plan of its own segment; `plan` needs `after` of the previous plan. Only
codes are passed on and keys are recomputed, so that bits do not depend on where a task runs. Frame t of segment s is
frame s (m - k) + t of the video; the k first frames of a segment are the last k frames that the previous segment
yields.

    first = world.encode(video)[:, -k:]                            # k: `Chain.first`, video uint8 [B, T, H, W, 3]
    for s in range(chain.segments(frames, given)):                 # given: frames of `first`
        told = segment_actions(chain, rest, actions, s, given)
        made = plan(world.setting(), first, told, rngs, s)         # codes of anchors
        codes = populate(world.setting(), made, told, rngs, s)     # may run anywhere, at any time
        video += codes[:, chain.new(s, given)]                     # the frames that segment s adds
        first = made.after

Three differences from the released code (MMPL, arXiv 2508.03334): it also cuts frames from the first segment, which has
none to cut; it hides the terminal anchors by the number of a step (`StepMap.sees`); its noise at the ends of a fill is
plain noise (`vidar.objectives.begin`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.config import NOTHING, Told
from vidar.core.state import Content, RowState
from vidar.orders.plan import Chain, SegmentFrames, StepMap
from vidar.rng import Rng
from vidar.rollout.codec import Codec
from vidar.rollout.setting import Setting
from vidar.rollout.tape import tell
from vidar.rollout.task import Task
from vidar.types import UsageError

Segment = int | Sequence[int]  # the number of the segment: one for all rows, or one per row


@dataclass(frozen=True)
class Plan:
    """The codes (float32) that `plan` passes to `populate` and to the next `plan`.

    first    [B, k, n, C]: the frames that the segment starts from
    anchors  [B, p, n, C]: the anchors, in the order of frames
    after    [B, k, n, C]: the anchors that the next segment starts from, decoded and re-encoded
    """

    segment: Segment
    first: Tensor
    anchors: Tensor
    after: Tensor


@dataclass(frozen=True)
class SegmentRng(Rng):
    """The draws of one segment: unit u of the segment draws the numbers of unit `offset` + u of the whole video."""

    offset: int = 0

    def raw(self, name: str, unit: int, step: int, count: int) -> np.ndarray:
        """See `Rng.raw`."""
        return super().raw(name, unit + self.offset, step, count)


def chain_of(setting: Setting) -> Chain:
    """The chain of segments of a model. Raises UsageError for a model that does not plan."""
    frames = setting.system.frames
    if not isinstance(frames, SegmentFrames):
        raise UsageError(f"{setting.name} does not plan segments; this needs an order of PlanOrderConfig")
    return frames.chain


def segment_actions(
    chain: Chain, rest: Tensor, actions: Tensor, segment: int, given: int, before: Tensor | None = None
) -> Actions:
    """The actions of a segment: values [B, N, A] and unknown [B, N]; row t acts between frames t - 1 and t.

    actions: [B, T, A], the actions of the new frames of the video; after their end `rest` [A] (no key pressed) is used.
    given: number of context frames. before: their actions [B, given, A], or None if unknown. The first action of a
    segment is always unknown.
    """
    rest = rest.to(actions)
    start = segment * chain.stride - given  # the first frame of the segment, counted in new frames
    rows, unknown = [rest.expand(len(actions), -1)], [True]
    for new in range(start + 1, start + chain.map.length):
        row = rest
        if 0 <= new < actions.shape[1]:
            row = actions[:, new]
        elif new < 0 and before is not None:
            row = before[:, new].to(actions)  # counted from the end
        rows.append(row.expand(len(actions), -1))
        unknown.append(new < 0 and before is None)
    return Actions(torch.stack(rows, 1), torch.tensor(unknown).expand(len(actions), -1))


@torch.inference_mode()
def plan(
    setting: Setting,
    first: Tensor,
    actions: Actions,
    rngs: Sequence[Rng],
    segment: Segment,
    told: Sequence[Told] | None = None,
) -> Plan:
    """Generate the anchors of a segment jointly.

    first: codes [B, k, n, C], or fewer frames if a step before the plan generates the others (image to video: the
    image). actions: see `segment_actions`. rngs: one per row, those of the video. told: prompt and label per video.
    Raises UsageError if the frames of `first` are not whole steps.
    """
    chain = chain_of(setting)
    map, task = chain.map, _task(setting, rngs, actions, segment, told)
    for step, codes in _split(map, first).items():
        task.give(step, codes)
    made = _frames(map, {**task.given, **task.run(range(map.plan + 1), [map.plan])})
    begun = torch.cat([made[step] for step in range(map.plan)], 1)
    return Plan(segment, begun, made[map.plan], again(setting.codec, _next_first(chain, made[map.plan])))


@torch.inference_mode()
def populate(
    setting: Setting,
    made: Plan,
    actions: Actions,
    rngs: Sequence[Rng],
    segment: Segment,
    told: Sequence[Told] | None = None,
) -> Tensor:
    """Generate the frames between the anchors; returns codes [B, m, n, C] of all frames of the segment, with anchors.

    Given their plans, segments are independent. Raises UsageError if `made` is the plan of another segment.
    """
    if made.segment != segment:
        raise UsageError(f"the plan belongs to segment {made.segment}, not to {segment}")
    chain = chain_of(setting)
    map, task = chain.map, _task(setting, rngs, actions, segment, told)
    for step, codes in {**_split(map, made.first), map.plan: made.anchors.flatten(1, 2)}.items():
        task.give(step, codes)
    wanted = [step for step in range(map.plan + 1, map.units) if map.frames(step)[0] < chain.made]
    codes = _frames(map, {**task.given, **task.run([*range(map.plan + 1), *wanted], wanted)})
    place = [(map.steps[t], map.frames(map.steps[t]).index(t)) for t in range(chain.made)]
    return torch.stack([codes[step][:, number] for step, number in place], 1)


@torch.inference_mode()
def again(codec: Codec, codes: Tensor) -> Tensor:
    """Decode codes [B, k, n, C] of neighbouring frames to uint8 pixels and encode them again; the shape is the same.

    In training the first frames of a segment are encoded from pixels, so they are here too: otherwise colours drift
    and the seam flickers. The released code repeats the first frame to warm up its tokenizer; this tokenizer pads with
    it, to the same effect. Choice: as many frames as latents, because one frame here is one latent.
    """
    return codec.encode(codec.decode(codes)[0])


def boundaries(setting: Setting, num_segments: int) -> dict[int, Content]:
    """For a run of the whole order at once: first units of a segment -> their code from the previous plan (`again`)."""
    chain = chain_of(setting)
    map = chain.map

    def content(unit: int) -> Content:
        segment, step = divmod(unit, map.units)
        source, frames = (segment - 1) * map.units + map.plan, list(map.frames(step))

        def code(row: RowState) -> Tensor:
            anchors = row.codes[source].unflatten(0, (len(map.frames(map.plan)), -1))[None]
            return again(setting.codec, _next_first(chain, anchors))[0, frames].flatten(0, 1)

        return code

    return {
        s * map.units + step: content(s * map.units + step) for s in range(1, num_segments) for step in range(map.plan)
    }


def _next_first(chain: Chain, anchors: Tensor) -> Tensor:
    """The anchors that the next segment starts from, out of anchors [B, p, n, C]."""
    frames = chain.map.frames(chain.map.plan)
    return anchors[:, [frames.index(t) for t in range(chain.stride, chain.made)]]


def _task(
    setting: Setting, rngs: Sequence[Rng], actions: Actions, segment: Segment, told: Sequence[Told] | None
) -> Task:
    """The task of one segment, whose units are counted from 0."""
    units, numbers = chain_of(setting).map.units, [segment] * len(rngs) if isinstance(segment, int) else segment
    told = told or [NOTHING] * len(rngs)
    own = [SegmentRng(rng.seed, rng.video, rng.attempt, number * units) for rng, number in zip(rngs, numbers)]
    cond = tell(setting, told, actions)
    return Task(setting.system, setting.network, own, lambda layout: cond, setting.guidance, setting.policy)


def _split(map: StepMap, first: Tensor) -> dict[int, Tensor]:
    """Codes [B, f, n, C] of the first frames -> codes [B, N, C] by unit. Raises UsageError for incomplete steps."""
    given = [step for step in range(map.plan) if map.frames(step)[-1] < first.shape[1]]
    need = [len(map.frames(step)) for step in range(map.plan)]
    if not given or first.shape[1] != sum(need[: len(given)]):
        ways = " or ".join(str(sum(need[: n + 1])) for n in range(len(need)))
        raise UsageError(f"a segment starts from {ways} frames, not {first.shape[1]}; give that many context frames")
    return {step: first[:, list(map.frames(step))].flatten(1, 2) for step in given}


def _frames(map: StepMap, codes: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Codes [B, N, C] of units -> codes [B, f, n, C] of their frames."""
    return {unit: code.unflatten(1, (len(map.frames(unit)), -1)) for unit, code in codes.items()}
