"""Pictures: images and clips from a class or a text, made scale by scale (VAR, Infinity, InfinityStar)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.conditioning.label import LabelEmbedConfig, Labels
from vidar.conditioning.net import WorldNet, WorldNetConfig
from vidar.conditioning.text import GivenFeaturesConfig, Text, TextConfig, utf8
from vidar.config import Config
from vidar.core.system import System
from vidar.nn.static import Build, check_static
from vidar.objectives.pyramids import Pyramids, PyramidsConfig
from vidar.orders.scale import ClipScaleOrderConfig, PyramidFrames, ScaleOrderConfig, Size
from vidar.rng import Rng
from vidar.rollout.setting import Network
from vidar.rollout.task import Task
from vidar.sampling.guidance import GuidanceConfig, ProjectedGuidanceConfig
from vidar.tokenizers.multi_scale import MultiScale
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder, PyramidAutoencoderConfig
from vidar.types import Codes, UsageError
from vidar.world.setting import compiled
from vidar.world.world import Generated

Conditions = Labels | Text
Features = tuple[Tensor, Tensor]  # of prompts: float [B, J, W] and mask bool [B, J]


Guidance = GuidanceConfig | ProjectedGuidanceConfig


class PicturesConfig(Config):
    """What is known of a model of images or clips beside its weights.

    The scales are those of the tokenizer's pyramid. frames: of a clip, 1 of an image. classes: names of the labels,
    where they have some. guidance: of what is made, by its class or text; it doubles the rows of every call.
    """

    name: str
    fps: float = Field(default=1.0, gt=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    frames: int = Field(default=1, ge=1)
    classes: tuple[str, ...] = ()
    tokenizer: PyramidAutoencoderConfig
    order: ScaleOrderConfig | ClipScaleOrderConfig
    objective: PyramidsConfig
    net: WorldNetConfig
    guidance: Guidance | None = None

    @model_validator(mode="after")
    def _check(self) -> PicturesConfig:
        stride, last = self.tokenizer.space_stride, self.tokenizer.pyramid.sizes[-1][1:]
        if (last[0] * stride, last[1] * stride) != (self.height, self.width):
            raise ValueError(
                f"{self.height} x {self.width} pixels make latents of {self.height / stride:g} x "
                f"{self.width / stride:g}, the last scale of the tokenizer is {last[0]} x {last[1]}; make them equal"
            )
        if not isinstance(self.net.conditioner, LabelEmbedConfig | TextConfig):
            raise ValueError("net.conditioner must be a LabelEmbedConfig or a TextConfig: a class or a text")
        if self.classes and len(self.classes) != getattr(self.net.conditioner, "num_labels", 0):
            raise ValueError(f"{len(self.classes)} names of classes; give one for each label, or none")
        return self

    @property
    def channels(self) -> int:
        """Numbers per site."""
        return self.tokenizer.latent_channels

    def latent_frames(self, frames: int | None = None) -> int:
        """Of a clip of `frames` frames (None: the usual length). Raises UsageError where they do not fit."""
        frames, stride = frames or self.frames, self.tokenizer.time_stride
        if (frames - 1) % stride:
            low = (frames - 1) // stride * stride + 1
            raise UsageError(f"{frames} frames do not fit a time stride of {stride}; use {low} or {low + stride}")
        return (frames - 1) // stride + 1

    def sizes(self, frames: int | None = None) -> list[tuple[Size, ...]]:
        """Sizes of the scales of every pyramid. Raises UsageError where `frames` are not whole pyramids."""
        sides = [(h, w) for _, h, w in self.tokenizer.pyramid.sizes]
        return self.order.pyramids(sides, self.latent_frames(frames))

    def known_sizes(self, known: int, frames: int | None = None) -> list[tuple[Size, ...]]:
        """Sizes of the pyramids of `known` frames of context. Raises UsageError unless they are whole and not all."""
        sizes = self.sizes(known) if known > 1 else self.sizes()[:1]
        if len(sizes) >= len(self.sizes(frames)):
            raise UsageError(
                f"{known} frames of context leave nothing to make of {frames or self.frames}; ask for more frames"
            )
        return sizes

    @property
    def takes_classes(self) -> bool:
        """Whether it is told a class; otherwise a text."""
        return isinstance(self.net.conditioner, LabelEmbedConfig)

    @property
    def reads_words(self) -> bool:
        """Whether a prompt may be words; otherwise features of an outside encoder, or it takes classes."""
        conditioner = self.net.conditioner
        return not (isinstance(conditioner, TextConfig) and isinstance(conditioner.encoder, GivenFeaturesConfig))

    def system(
        self, frames: int | None = None, dtype: torch.dtype = torch.float32, pyramid: MultiScale | None = None
    ) -> System[Pyramids]:
        """What the config compiles to. pyramid: of the trained tokenizer; None: one with fresh weights.

        Raises UsageError where widths do not fit, or the trained pyramid has another codebook or other scales.
        """
        sizes = self.sizes(frames)
        order, grid = self.order.build(sizes)
        own = self.tokenizer.pyramid
        if pyramid is not None and pyramid.config != own:
            raise UsageError(
                f"the tokenizer's pyramid ({_codebook(pyramid.config)}) is not that of the model ({_codebook(own)}); "
                "train the model on this tokenizer"
            )
        pyramid = pyramid or own.build()
        objective = self.objective.build([pyramid.at(size) for size in sizes], dtype)
        for field, width in (("in_width", objective.input_width), ("out_width", objective.output_width)):
            if getattr(self.net.backbone, field) != width:
                raise UsageError(f"net.backbone.{field} is {getattr(self.net.backbone, field)}, this needs {width}")
        pyramids = PyramidFrames([size[-1][0] for size in sizes], len(sizes[0]), objective.latents, objective.labels)
        return System(order.needing(objective.needs), grid, objective, pyramids)

    def conditions(self, told: Tensor, mask: Tensor, none: Tensor) -> Conditions:
        """What the conditioner reads: see `vidar.train.pictures.PictureBatch`; none bool [B]: hidden."""
        if isinstance(self.net.conditioner, LabelEmbedConfig):
            return Labels(told, none)
        return Text(told, mask, none)

    def told(self, labels: Sequence[int] | None, prompts: Sequence[str] | Features | None) -> Features:
        """`told` and `mask` of labels or prompts. Raises UsageError for what this model does not take."""
        conditioner = self.net.conditioner
        if isinstance(conditioner, LabelEmbedConfig):
            top = conditioner.num_labels - 1
            if prompts is not None or labels is None:
                raise UsageError(f"model {self.name!r} takes a class, a label 0 .. {top}, and no prompt")
            wrong = [label for label in labels if not 0 <= label <= top]
            if wrong:
                raise UsageError(f"label {wrong[0]} is out of range; model {self.name!r} has 0 .. {top}")
            return torch.tensor(labels), torch.ones(len(labels), dtype=torch.bool)
        assert isinstance(conditioner, TextConfig)
        if labels is not None or prompts is None:
            raise UsageError(f"model {self.name!r} takes a prompt, and no label")
        if isinstance(prompts, tuple) and isinstance(prompts[0], Tensor):
            return cast(Features, prompts)
        return utf8(cast(Sequence[str], prompts), conditioner.encoder.most)

    def build(self) -> Pictures:
        """A model with fresh weights."""
        return Pictures(self, self.tokenizer.build(), self.net.build())


class Pictures:
    """A learned model of images or clips."""

    def __init__(self, config: PicturesConfig, tokenizer: PyramidAutoencoder, net: WorldNet):
        self.config, self.tokenizer, self.net = config, tokenizer.eval(), net.eval()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Pictures:
        """Move the weights; returns itself."""
        for module in (self.tokenizer, self.net):
            cast(nn.Module, module).to(device=device, dtype=dtype)
        return self

    def compile(self, build: Build | None = None) -> Pictures:
        """Every call from here on is a compiled function of static shapes, see `World.compile`; returns itself."""
        check_static(self.config.system().order.relations.values())
        self._answer = compiled(self.net, build)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.net.parameters()).device

    def generate(
        self,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | Features | None = None,
        seeds: int | Sequence[int] = 0,
        guidance: Guidance | None = None,
        num_frames: int | None = None,
        context: np.ndarray | None = None,
    ) -> Generated:
        """One picture for each label or prompt: frames uint8 [B, T, H, W, 3]; seconds of each call of the network.

        prompts: words, or features with their mask where the model reads those. seeds: of the job (row b is its video
        b), or one for each row. guidance: None: the model's own. context: uint8 [B, T, H, W, 3] that stays: one frame
        (image to video), or frame and clips (continuation). Raises UsageError for what the model does not take.
        """
        told, mask = self.config.told(labels, prompts)
        if isinstance(seeds, int):
            rngs = [Rng(seeds, row) for row in range(len(told))]
        else:
            rngs = [Rng(seed) for seed in seeds]
        if len(rngs) != len(told):
            raise UsageError(f"{len(rngs)} seeds for {len(told)} pictures; give one number, or one for each")
        known = {} if context is None else self.labels(torch.from_numpy(np.array(context)), len(told), num_frames)
        guidance = guidance or self.config.guidance
        codes, seconds = self.codes(told, mask, rngs, guidance, num_frames, known)
        return Generated(self.decode(codes, num_frames).numpy(), seconds)

    @torch.inference_mode()
    def codes(
        self,
        told: Tensor,
        mask: Tensor,
        rngs: Sequence[Rng],
        guidance: Guidance | None = None,
        num_frames: int | None = None,
        known: Mapping[int, Tensor] | None = None,
    ) -> tuple[list[dict[int, Tensor]], list[float]]:
        """Labels of every unit, by row, and the seconds of each call. known: unit -> labels [B, n, G] that stay."""
        batch, known = len(told), known or {}
        hidden = torch.zeros(batch, dtype=torch.bool)
        if guidance is not None:
            told, mask, hidden = torch.cat([told, told]), torch.cat([mask, mask]), torch.cat([hidden, ~hidden])
        conditions = self.config.conditions(*(x.to(self.device) for x in (told, mask, hidden)))
        network = Network(self._answer, self.net.ring_shapes(), next(self.net.parameters()).dtype, self.device)
        task = Task(self._system(num_frames), network, rngs, lambda layout: conditions, guidance)
        for unit, labels in known.items():
            task.give(unit, labels)
        made = {**known, **task.run(fused=False)}
        return [{unit: labels[row] for unit, labels in made.items()} for row in range(batch)], task.seconds

    @torch.inference_mode()
    def decode(self, codes: Sequence[Mapping[int, Tensor]], num_frames: int | None = None) -> Tensor:
        """Labels of every unit, by row -> uint8 [B, T, H, W, 3]."""
        objective = self._system(num_frames).objective
        numbers = range(len(objective.pyramids))
        total = torch.cat([torch.cat([objective.total(row, n) for n in numbers], 2) for row in codes])
        video, _ = self.tokenizer.decode(Codes("latent", total.to(self.device, self.tokenizer.dtype)))
        return to_uint8(video).cpu()

    @torch.inference_mode()
    def labels(self, video: Tensor, batch: int, num_frames: int | None = None) -> dict[int, Tensor]:
        """uint8 [B, T, H, W, 3], the first pyramids of `num_frames` -> their labels [B, n, G] by unit.

        Raises UsageError for other sizes.
        """
        want = (batch, self.config.height, self.config.width, 3)
        if video.dtype != torch.uint8 or video.ndim != 5 or (len(video), *video.shape[2:]) != want:
            raise UsageError(
                f"the context is {video.dtype} {list(video.shape)}; expected uint8 {want[0]} x T x {want[1]} x "
                f"{want[2]} x 3"
            )
        groups = range(len(self.config.known_sizes(video.shape[1], num_frames)))
        latents = self.tokenizer.latents(to_float(video).to(self.device, self.tokenizer.dtype))[0].data.float().cpu()
        codes, frames = latents.flatten(3).permute(0, 2, 3, 1), self._system(num_frames).frames
        known = (frames.split(group, codes[:, list(frames.frames(group))]) for group in groups)
        return {unit: labels for split in known for unit, labels in split.items()}

    def _system(self, num_frames: int | None) -> System[Pyramids]:
        """With the pyramid of the tokenizer, on the CPU in float32, where labels are drawn."""
        return self.config.system(num_frames, pyramid=copy.deepcopy(self.tokenizer.pyramid).to("cpu", torch.float32))

    def _answer(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """One call of the network, from and to the CPU."""
        return self.net(inputs.to(self.device), layout, cond, state).float().cpu()


def _codebook(config: Any) -> str:
    kind = type(config.quantiser).__name__.removesuffix("Config")
    size = getattr(config.quantiser, "size", None)
    return f"{kind}{'' if size is None else f' of {size} codes'}, {len(config.sizes)} scales"
