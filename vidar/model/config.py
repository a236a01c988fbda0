"""The config of a model, and the System that it compiles to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from pydantic import Field, model_validator

from vidar.actions import ActionSpec
from vidar.cache.policy import PolicyConfig
from vidar.conditioning.config import ConditionerConfig, Told
from vidar.conditioning.net import WorldNetConfig
from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.system import Asked, System
from vidar.model.schedules import OneByOneConfig, ScheduleConfig, check_schedule
from vidar.nn.outcome import OutcomeNetConfig
from vidar.objectives.flow import Flow, FlowConfig
from vidar.objectives.protocols import Coded, ObjectiveConfig
from vidar.orders.config import OrderConfig
from vidar.rollout.memory import MemoryConfig
from vidar.sampling.guidance import GuideConfig
from vidar.tokenizers.config import TokenizerConfig
from vidar.types import UsageError


class ModelConfig(Config):
    """The config of a model: its parts, and the conditions that it takes.

    frames: number of frames of a clip, for models of clips of a fixed length (1: images); None: an endless stream.
    actions: the actions that the model takes for each frame; None: none. classes: names of the labels, or empty.
    patch: side length in latents of the patch that is one site. context: maximum number of context frames. guidance:
    classifier-free guidance on the conditions at sampling time; doubles the batch of every call. schedule: when each
    unit is generated, see schedules.py. policy: the cache policy, which evicts slots between calls; generation is then
    approximate (`Order.approximate`). memory: what is remembered of a video beyond the window and shown to the
    network.
    """

    name: str
    fps: float = Field(default=1.0, gt=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    frames: int | None = Field(default=None, ge=1)
    actions: ActionSpec | None = None
    classes: tuple[str, ...] = ()
    patch: int = Field(default=1, ge=1)
    context: int = Field(default=16, ge=1)
    tokenizer: TokenizerConfig
    order: OrderConfig
    objective: ObjectiveConfig
    net: WorldNetConfig
    guidance: GuideConfig | None = None
    schedule: ScheduleConfig = OneByOneConfig()
    policy: PolicyConfig | None = None
    memory: MemoryConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        parts = (self.tokenizer, self.order, self.objective)
        if self.order.codes != self.objective.codes or self.order.codes not in self.tokenizer.codes:
            names = ", ".join(type(p).__name__ for p in parts)
            raise ValueError(
                f"tokenizer, order and objective must all use latents, scales or pyramids; they do not agree: {names}"
            )
        if self.by_scales and self.patch != 1:
            raise ValueError("a model that predicts scales has patch 1: its sites are the latents")
        if self.order.codes == "pyramids" and self.frames is None:
            raise ValueError("whole pyramids make clips of a fixed length; give frames, 1 for an image")
        if self.clips:
            self._check_clips()
        elif self.actions is None:
            raise ValueError("a model of endless streams needs actions; give actions, or frames, the length of a clip")
        self.order.check_scales(self.tokenizer.sides)
        if self.classes and len(self.classes) != self.conditioner_labels:
            raise ValueError(f"{len(self.classes)} names of classes; give one name per label, or none")
        check_schedule(self)
        shows = 0 if self.memory is None else self.memory.values(self.tokenizer.channels, self.patch)
        if (takes := self.objective.shown_values()) != shows:
            raise ValueError(f"the memory shows {shows} values of a site, the objective takes {takes}; make them equal")
        return self

    def _check_clips(self) -> None:
        """Raises ValueError if clips do not fit the tokenizer, or the model reads neither label nor prompt."""
        stride = self.tokenizer.strides[1]
        sides = self.tokenizer.sides or ((self.height // stride, self.width // stride),)
        last_height, last_width = sides[-1]
        if (last_height * stride, last_width * stride) != (self.height, self.width):
            raise ValueError(
                f"{self.height} x {self.width} pixels make latents of {self.height / stride:g} x "
                f"{self.width / stride:g}, the last scale of the tokenizer is {last_height} x {last_width}; make them "
                "equal"
            )
        if not {"label", "prompt"} & {*self.accepts}:
            raise ValueError("net.conditioner must read a label or a prompt: a class or a text")

    @property
    def by_scales(self) -> bool:
        """Whether the model predicts frames scale by scale; otherwise it denoises them."""
        return self.objective.codes != "latents"

    @property
    def clips(self) -> bool:
        """Whether the model generates clips of a fixed length."""
        return self.frames is not None

    @property
    def conditioner(self) -> ConditionerConfig | None:
        """The config of the conditioner, or None."""
        return self.net.conditioner

    @property
    def conditioner_labels(self) -> int:
        """Number of labels that the model knows."""
        return 0 if self.conditioner is None else self.conditioner.labels()

    @property
    def accepts(self) -> tuple[str, ...]:
        """Names of the conditions that the model takes: "actions", "prompt", "label"."""
        told = () if self.conditioner is None else self.conditioner.takes
        return (
            *(() if self.actions is None else ("actions",)),
            *(name for name in told if name != "actions"),
        )

    @property
    def spec(self) -> ActionSpec:
        """The action spec of the model. Raises UsageError if the model takes no actions."""
        if self.actions is None:
            raise UsageError(f"model {self.name!r} takes no actions")
        return self.actions

    def check_memory(self) -> None:
        """Raises UsageError for a model that has no memory which it could be run without."""
        if self.memory is None:
            raise UsageError(f"model {self.name!r} has no memory; leave --no-memory out")

    def check_told(self, told: Told) -> None:
        """Raises UsageError for a prompt or label that the model does not take, or if a clip gets neither."""
        if self.conditioner is not None:
            self.conditioner.check(told, self.name)
            if self.clips and not told.given:
                raise UsageError(f"model {self.name!r} takes {' or '.join(self.conditioner.described())}; give it one")
        elif told.given:
            raise UsageError(f"model {self.name!r} takes no {told.given[0]}")

    @property
    def sites(self) -> tuple[int, int]:
        """Rows and columns of sites of one frame. Raises UsageError if the frame size is not a multiple of a site."""
        time, space = self.tokenizer.strides
        stride = space * self.patch
        for name, size in (("height", self.height), ("width", self.width)):
            if size % stride:
                low = size // stride * stride
                raise UsageError(f"{name} {size} does not divide by {stride}; use {low or stride} or {low + stride}")
        if time != 1 and not self.clips:
            raise UsageError("a world with an action per frame needs tokenizer.time_stride 1")
        return self.height // stride, self.width // stride

    @property
    def channels(self) -> int:
        """Number of values per site."""
        return self.tokenizer.channels * self.patch**2

    def latent_frames(self, frames: int) -> int:
        """Number of latent frames of a clip of `frames` frames. Raises UsageError if the time stride does not fit."""
        stride = self.tokenizer.strides[0]
        if (frames - 1) % stride:
            low = (frames - 1) // stride * stride + 1
            raise UsageError(f"{frames} frames do not fit a time stride of {stride}; use {low} or {low + stride}")
        return (frames - 1) // stride + 1

    def pyramids_of(self, known: int, frames: int | None = None) -> int:
        """Number of pyramids in `known` frames of context.

        Raises UsageError unless the frames fill whole pyramids and leave some to generate.
        """
        order, total = self.order.over(self.tokenizer.sides), frames or self.frames or 1
        sizes = order.sizes(self.latent_frames(total))
        count = len(order.sizes(self.latent_frames(known))) if known > 1 else 1
        if count >= len(sizes):
            raise UsageError(f"{known} context frames leave nothing to generate of {total}; request more frames")
        return count

    def system(
        self, num_frames: int | None = None, dtype: torch.dtype = torch.float32, pyramid: Any = None
    ) -> System[Objective]:
        """The System that the config compiles to.

        num_frames: number of frames; None: `frames`, and endless if that is None too. pyramid: the trained quantiser
        of the tokenizer, for models that predict scales; None: one with fresh weights. Raises UsageError if widths do
        not fit, or if the trained pyramid has another codebook or other scales.
        """
        (order, grid), sizes = self._order(num_frames)
        objective = self.objective.make(Coded(self.channels, self._pyramid(pyramid), sizes), grid, dtype)
        return self._system(order, grid, objective)

    def _order(self, num_frames: int | None) -> tuple[tuple[Order, Grid], Any]:
        length, order = num_frames or self.frames, self.order.over(self.tokenizer.sides)
        frames = None if length is None else self.latent_frames(length)
        return order.build(*self.sites, frames), order.sizes(frames or 1)

    def _pyramid(self, trained: Any) -> Any:
        """A function that returns the multi-scale quantiser; None if the tokenizer has none."""
        own = self.tokenizer.pyramid_config
        if own is not None and trained is not None and self.clips and trained.config != own:
            raise UsageError(
                f"the tokenizer's pyramid ({_codebook(trained.config)}) differs from the model's ({_codebook(own)}); "
                "train the model on this tokenizer"
            )
        return None if own is None else lambda: trained or own.build()

    @property
    def flow(self) -> FlowConfig:
        """The config of the rectified-flow objective. Raises UsageError if the world has another objective."""
        if isinstance(self.objective, FlowConfig):
            return self.objective
        if self.by_scales:
            raise UsageError(f"world {self.name!r} predicts its frames scale by scale; this needs one that denoises")
        kind = type(self.objective).__name__.removesuffix("Config")
        raise UsageError(f"world {self.name!r} has the objective {kind}; this needs rectified flow (FlowConfig)")

    def flow_system(self, num_frames: int | None = None, dtype: torch.dtype = torch.float32) -> System[Flow]:
        """`system` of a world with the rectified-flow objective. Raises UsageError for another objective."""
        (order, grid), _ = self._order(num_frames)
        return self._system(order, grid, self.flow.build(self.channels, grid, dtype))

    def _system(self, order: Order, grid: Grid, objective: Asked) -> System[Asked]:
        """Assemble the System. Raises UsageError if the widths of the network do not fit the objective."""
        for field, width in (("in_width", objective.input_width), ("out_width", objective.output_width)):
            if getattr(self.net.backbone, field) != width:
                raise UsageError(
                    f"net.backbone.{field} is {getattr(self.net.backbone, field)}, this model needs {width}"
                )
        frames = self.order.frame_map(grid, self.patch, objective)
        order = replace(order.needing(objective.needs), approximate=order.approximate or self.policy is not None)
        return System(order, grid, objective, frames, self.schedule.build())

    def check_outcome(self, head: OutcomeNetConfig) -> None:
        """Raises UsageError if the reward and termination head reads other latents or actions than this world's."""
        ours, theirs = (*self.sites, self.channels), (head.rows, head.columns, head.channels)
        if ours != theirs or head.spec != self.actions:
            names, own = (", ".join(spec.names) for spec in (head.spec, self.spec))
            raise UsageError(
                f"a reward and termination head for latents {' x '.join(map(str, theirs))} and actions {names}; world "
                f"{self.name!r} has {' x '.join(map(str, ours))} and {own}: train it for this world"
            )

    @property
    def steps(self) -> int:
        """Number of network calls per frame: solver steps, or scales."""
        return self.objective.calls(self.order.over(self.tokenizer.sides))

    def with_steps(self, steps: int) -> Self:
        """The same model with another number of solver steps.

        Raises UsageError if the model predicts frames scale by scale, because it makes one call per scale.
        """
        if steps == self.steps:
            return self
        if self.by_scales:
            raise UsageError(f"world {self.name!r} makes one call per scale, {self.steps} per frame; leave --steps out")
        return self.replace(objective=self.objective.with_calls(steps))


def _codebook(config: Any) -> str:
    kind = type(config.quantiser).__name__.removesuffix("Config")
    size = getattr(config.quantiser, "size", None)
    return f"{kind}{'' if size is None else f' of {size} codes'}, {len(config.sizes)} scales"
