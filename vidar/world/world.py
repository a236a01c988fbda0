"""A world: tokenizer, network and what is known of them; streams and clips from context and actions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.cache.policy import PolicyConfig
from vidar.conditioning.net import WorldNet, WorldNetConfig
from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.system import Asked, System
from vidar.nn.outcome import OutcomeNet, OutcomeNetConfig
from vidar.nn.static import Build, check_static
from vidar.objectives.flow import Flow, FlowConfig
from vidar.objectives.next_scale import Pyramid
from vidar.objectives.protocols import Coded, ObjectiveConfig
from vidar.orders.config import OrderConfig
from vidar.rng import Rng
from vidar.rollout.setting import Setting
from vidar.rollout.stream import in_turns, shown
from vidar.rollout.turns import Turns
from vidar.sampling.guidance import GuideConfig
from vidar.tokenizers.autoencoder import Autoencoder, AutoencoderConfig
from vidar.tokenizers.patch import from_sites, to_sites
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder, PyramidAutoencoderConfig
from vidar.types import Codes, Model, UsageError
from vidar.world.context import check_size, context_frames
from vidar.world.scheduled import OneByOneConfig, ScheduleConfig, check_schedule
from vidar.world.setting import compiled, setting


class WorldConfig(Config):
    """What is known of a world beside its weights: of one that denoises frames, or of one that predicts their scales.

    patch: side of the latent patches that are one site. context: frames of context used at most. guidance: of what is
    dreamed, by its actions; it doubles the rows of every call. schedule: when each unit is made, see scheduled.py.
    policy: what the cache forgets between calls; what is dreamed then is approximate (`Order.approximate`).
    """

    name: str
    fps: float = Field(gt=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    actions: ActionSpec
    patch: int = Field(default=2, ge=1)
    context: int = Field(default=16, ge=1)
    tokenizer: AutoencoderConfig | PyramidAutoencoderConfig
    order: OrderConfig
    objective: ObjectiveConfig
    net: WorldNetConfig
    guidance: GuideConfig | None = None
    schedule: ScheduleConfig = OneByOneConfig()
    policy: PolicyConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> WorldConfig:
        parts = (self.tokenizer, self.order, self.objective)
        if len({part.codes for part in parts}) > 1:
            names = ", ".join(type(p).__name__ for p in parts)
            raise ValueError(f"tokenizer, order and objective must all be of frames or all of scales, not {names}")
        if self.by_scales and self.patch != 1:
            raise ValueError("a world that predicts scales has patch 1: its sites are the latents")
        self.order.check_scales(self.tokenizer.sides)
        check_schedule(self)
        return self

    @property
    def by_scales(self) -> bool:
        """Whether frames are predicted scale by scale; otherwise they are denoised."""
        return self.objective.codes == "scales"

    @property
    def sites(self) -> tuple[int, int]:
        """Rows and columns of sites of one frame. Raises UsageError where the sizes do not divide."""
        stride = self.tokenizer.space_stride * self.patch
        for name, size in (("height", self.height), ("width", self.width)):
            if size % stride:
                low = size // stride * stride
                raise UsageError(f"{name} {size} does not divide by {stride}; use {low or stride} or {low + stride}")
        if self.tokenizer.time_stride != 1:
            raise UsageError("a world acted on frame by frame needs tokenizer.time_stride 1")
        return self.height // stride, self.width // stride

    @property
    def channels(self) -> int:
        """Numbers per site."""
        return self.tokenizer.latent_channels * self.patch**2

    def system(
        self, num_frames: int | None = None, dtype: torch.dtype = torch.float32, pyramid: Pyramid | None = None
    ) -> System[Objective]:
        """What the config compiles to; endless without `num_frames`. Raises UsageError where widths do not fit.

        pyramid: of the trained tokenizer, where frames are predicted scale by scale; None: one with fresh weights.
        """
        order, grid = self.order.build(*self.sites, num_frames)
        own = getattr(self.tokenizer, "pyramid", None)
        known = None if own is None else lambda: pyramid or own.build()
        objective = self.objective.make(Coded(self.channels, known), grid, dtype)
        return self._system(order, grid, objective)

    @property
    def flow(self) -> FlowConfig:
        """The objective of a world of rectified flow. Raises UsageError where it has another one."""
        if isinstance(self.objective, FlowConfig):
            return self.objective
        if self.by_scales:
            raise UsageError(f"world {self.name!r} predicts its frames scale by scale; this needs one that denoises")
        kind = type(self.objective).__name__.removesuffix("Config")
        raise UsageError(f"world {self.name!r} is one of {kind}; this needs one of rectified flow")

    def flow_system(self, num_frames: int | None = None, dtype: torch.dtype = torch.float32) -> System[Flow]:
        """`system` of a world of rectified flow. Raises UsageError where it has another objective."""
        order, grid = self.order.build(*self.sites, num_frames)
        return self._system(order, grid, self.flow.build(self.channels, grid, dtype))

    def _system(self, order: Order, grid: Grid, objective: Asked) -> System[Asked]:
        """Raises UsageError where the network has other widths."""
        for field, width in (("in_width", objective.input_width), ("out_width", objective.output_width)):
            if getattr(self.net.backbone, field) != width:
                raise UsageError(
                    f"net.backbone.{field} is {getattr(self.net.backbone, field)}, this world needs {width}"
                )
        frames = self.order.frame_map(grid, self.patch, objective)
        order = replace(order.needing(objective.needs), approximate=order.approximate or self.policy is not None)
        return System(order, grid, objective, frames, self.schedule.build())

    def check_outcome(self, head: OutcomeNetConfig) -> None:
        """Raises UsageError where a head of reward and end reads other latents or actions than this world's."""
        ours, theirs = (*self.sites, self.channels), (head.rows, head.columns, head.channels)
        if ours != theirs or head.spec != self.actions:
            names, own = (", ".join(spec.names) for spec in (head.spec, self.actions))
            raise UsageError(
                f"a head of reward and end for latents {' x '.join(map(str, theirs))} and actions {names}; world "
                f"{self.name!r} has {' x '.join(map(str, ours))} and {own}: train it for this world"
            )

    @property
    def steps(self) -> int:
        """Calls of the network for a frame: solver steps, or scales."""
        return self.objective.calls(self.order)

    def with_steps(self, steps: int) -> WorldConfig:
        """The same world with another number of solver steps in play.

        Raises UsageError where frames are predicted scale by scale: their calls are the scales.
        """
        if steps == self.steps:
            return self
        if self.by_scales:
            raise UsageError(f"world {self.name!r} makes one call a scale, {self.steps} a frame; leave --steps out")
        return self.replace(objective=self.objective.with_calls(steps))

    def build(self) -> World:
        """A world with fresh weights."""
        return World(self, self.tokenizer.build(), self.net.build())


@dataclass(frozen=True)
class Generated:
    """frames uint8 [B, T, H, W, 3]; seconds each frame took."""

    frames: np.ndarray
    seconds: list[float]


class World:
    """A learned world. `stream` and `generate` take context frames and actions and give uint8 frames.

    start: the clip that serves where no context is given. outcome: the head of reward and end, None: neither is known.
    """

    def __init__(
        self,
        config: WorldConfig,
        tokenizer: Autoencoder | PyramidAutoencoder,
        net: WorldNet,
        start: Path | None = None,
        outcome: OutcomeNet | None = None,
    ):
        self.config, self.tokenizer, self.net, self.start = config, tokenizer.eval(), net.eval(), start
        if outcome is not None:
            config.check_outcome(outcome.config)
        self.outcome = None if outcome is None else outcome.eval()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> World:
        """Move the weights; returns itself. The head of reward and end is small and keeps its dtype."""
        for module in (self.tokenizer, self.net):
            cast(nn.Module, module).to(device=device, dtype=dtype)
        if self.outcome is not None:
            self.outcome.to(device=device)
        return self

    @property
    def pyramid(self) -> Pyramid | None:
        """The tokenizer's, where frames are predicted scale by scale."""
        return self.tokenizer.pyramid if isinstance(self.tokenizer, PyramidAutoencoder) else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.backbone.row.device

    @property
    def num_parameters(self) -> int:
        """Weights of tokenizer and network."""
        return sum(p.numel() for module in (self.tokenizer, self.net) for p in module.parameters())

    def model(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """One call of the network, from and to the CPU: what decoding calls."""
        device = self.device
        moved = None if cond is None else cond.to(device)
        return self.net(inputs.to(device), layout, moved, state).float().cpu()

    def compiled(self, build: Build | None = None) -> Model:
        """`model` for the calls of a frame, as functions of static shapes.

        build: makes them, None: `AheadOfTime()` on the CPU (numbers differ from `model`'s by rounding), `Graphed()` on
        CUDA. Raises UsageError on another device, where no C++ compiler is, or where a relation of the order folds.
        """
        return compiled(self.net, build)

    def compile(self, build: Build | None = None) -> World:
        """Every call from here on is such a function (`compiled`); returns itself. Raises UsageError as that does."""
        check_static(self.config.system(pyramid=self.pyramid).order.relations.values())
        self.model = self.compiled(build)
        return self

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> codes float32 [B, T, n, C], by frame."""
        check_size(self.config, video.shape[2], video.shape[3], "the context")
        codes, _ = self.tokenizer.encode(to_float(video).to(self.device))
        return to_sites(codes.data.float(), self.config.patch).unflatten(1, (video.shape[1], -1)).cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Codes [B, T, n, C] of frames -> (uint8 [B, T, H, W, 3], tokenizer state)."""
        stride = self.config.tokenizer.space_stride
        shape = (codes.shape[1], self.config.height // stride, self.config.width // stride)
        latent = from_sites(codes.flatten(1, 2), shape, self.config.patch).to(self.device)
        video, state = self.tokenizer.decode(Codes("latent", latent), state)
        return to_uint8(video).cpu(), state

    @torch.inference_mode()
    def outcomes(self, codes: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, 2, n, C] of two frames, actions [B, A] between them -> reward [B], probability of the end [B].

        Both float32 on the CPU, and 0 where the world has no head for them.
        """
        if self.outcome is None:
            return torch.zeros(len(codes)), torch.zeros(len(codes))
        reward, logit = self.outcome(codes.float().to(self.device), actions.float().to(self.device))
        return reward.cpu(), logit.sigmoid().cpu()

    def codes(
        self,
        context: Tensor,
        actions: Iterable[Tensor],
        context_actions: Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
    ) -> Iterator[Tensor]:
        """Endless codes [B, n, C], one frame at a time.

        context: codes [B, T, n, C]. context_actions [B, T, A]: row t acts between frames t-1 and t; None: unknown.
        actions: yields [B, A] for each new frame, asked for when the frame is begun. The frame is committed with the
        first refinement of the next one. renew, recache: see `ReencodeEvery` (None: never) and `RecacheOnAction`.
        """
        rngs = rngs or rows(0, len(context))
        for code, _ in shown(self.setting(steps), context, actions, context_actions, rngs, renew, recache):
            yield code

    def frames(
        self,
        context: Tensor,
        actions: Iterable[Tensor],
        context_actions: Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
    ) -> Iterator[Tensor]:
        """As `codes`, for frames: context uint8 [B, T, H, W, 3] -> endless uint8 [B, H, W, 3]."""
        keep = min(context.shape[1], self.config.context)
        context = context[:, -keep:]
        context_actions = None if context_actions is None else context_actions[:, -keep:]
        rngs, codes = rngs or rows(0, len(context)), self.encode(context)
        for _, picture in shown(self.setting(steps), codes, actions, context_actions, rngs, renew, recache):
            yield picture()

    def setting(self, steps: int | None = None) -> Setting:
        """What a rollout of this world is made of. steps: calls of a frame, None: as many as usual."""
        config = self.config if steps is None else self.config.with_steps(steps)
        return setting(config, self.net, self.model, self, self.pyramid)

    def rollout(self, capacity: int = 1, steps: int | None = None, compiled: bool | Build = False) -> Turns:
        """`capacity` rows that dream group of frames after group, each when its actions are known.

        compiled: the calls of a group are, at once, which takes a minute the first time; by a Build of its own, if one
        is given. Raises UsageError for a world that has frames in flight together.
        """
        model = self.compiled(None if compiled is True else compiled) if compiled else None
        return in_turns(self.setting(steps), capacity, model)

    @property
    def looks_back(self) -> bool:
        """Whether the picture of a frame depends on the codes of earlier ones."""
        return self.config.tokenizer.time_kernel > 1

    def stream(
        self,
        context: Any = None,
        actions: Iterable[Any] | None = None,
        seed: int = 0,
        context_actions: Any = None,
        steps: int | None = None,
        renew: int | None = None,
        recache: bool = False,
    ) -> Iterator[np.ndarray]:
        """Endless frames uint8 [H, W, 3] of one world.

        context: uint8 [T, H, W, 3], one frame [H, W, 3], or the path of a video; None: the world's own start. actions:
        [A] for each new frame, asked for one by one; None: nothing is pressed, without an end.
        """
        known = self.context_frames(context)
        rest = self.config.actions.noop()
        source = repeat(rest) if actions is None else self._checked(actions)
        steps_of = (torch.as_tensor(np.asarray(a, np.float32))[None] for a in source)
        before = None if context_actions is None else torch.as_tensor(context_actions, dtype=torch.float32)[None]
        for frame in self.frames(known[None], steps_of, before, [Rng(seed)], steps, renew, recache):
            yield frame[0].numpy()

    def generate(
        self,
        context: Any = None,
        actions: Any = None,
        num_frames: int | None = None,
        seed: int = 0,
        context_actions: Any = None,
        steps: int | None = None,
    ) -> Generated:
        """A clip of `num_frames` new frames (default: as many as actions): frames uint8 [1, num_frames, H, W, 3]."""
        if actions is not None:
            actions = self.config.actions.validate_actions(np.asarray(actions), "actions")
        count = len(actions) if num_frames is None and actions is not None else num_frames
        if not count or count < 1:
            raise UsageError("generate needs num_frames >= 1, or actions")
        if actions is not None and len(actions) < count:
            raise UsageError(f"{len(actions)} actions are too few for {count} frames; give one row a frame")
        frames, seconds, last = [], [], time.perf_counter()
        for frame in islice(self.stream(context, actions, seed, context_actions, steps), count):
            frames.append(frame)
            seconds.append(time.perf_counter() - last)
            last = time.perf_counter()
        return Generated(np.stack(frames)[None], seconds)

    def context_frames(self, context: Any) -> Tensor:
        """Frames, one frame, a path or None -> uint8 [T, H, W, 3] of the world's size. Raises VidarError otherwise."""
        return context_frames(self.config, self.start, context)

    def _checked(self, actions: Iterable[Any]) -> Iterator[np.ndarray]:
        for n, action in enumerate(actions):
            yield self.config.actions.validate_actions(np.asarray(action)[None], f"action {n}")[0]


def rows(seed: int, batch: int) -> list[Rng]:
    """One Rng per row of a job."""
    return [Rng(seed, video) for video in range(batch)]
