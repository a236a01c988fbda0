"""Training of a model of pictures: classes or texts, and latents of images or clips before quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.core.layout import Layout, compile_layout
from vidar.core.step import single
from vidar.data.index import Index
from vidar.data.video import write_video
from vidar.model.load import load, save
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.nn.pretrained import load_component
from vidar.objectives.pyramids import Pyramids
from vidar.rng import Rng
from vidar.tokenizers.pixels import to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.train.checks import DryRun, check_equal, check_tokenizer
from vidar.train.pictures import PictureBatch
from vidar.types import Codes, Loss, UsageError

SHOWN = 8  # pictures of a sample
MOST_SLOTS = 16_384  # of a sequence whose step is estimated


class TrainPicturesConfig(Config):
    """tokenizer: directory of the trained one. start: directory of a model whose network is gone on from.

    p_none: share of pictures whose class or text is hidden from the model (VAR, Infinity: 0.1).
    """

    pictures: VideoModelConfig
    tokenizer: str
    start: str | None = None
    p_none: float = Field(default=0.1, ge=0, le=1)

    def build(self) -> TrainPictures:
        """The method."""
        return TrainPictures(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`: widths, scales and clips; the data holds what the model is told."""
        self.pictures.system()
        check_equal(data, {"tokenizer": self.tokenizer, "frames": self.pictures.frames})
        reader = self.pictures.conditioner
        if reader is None or not reader.reads_words:
            raise UsageError("the model reads features of an outside text encoder, which no data set here holds")
        told = getattr(data, "annotation", None)
        if told is not None and told.classes != ("label" in self.pictures.accepts):
            raise UsageError(
                f"data.annotation gives {'classes' if told.classes else 'captions'}; the model reads the other"
            )

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.Checks`: frame size, tokenizer."""
        pictures = self.pictures
        if index is not None and (index.height, index.width) != (pictures.height, pictures.width):
            raise UsageError(
                f"{data.path}: frames are {index.height} x {index.width}, the model's {pictures.height} x "
                f"{pictures.width}"
            )
        check_tokenizer(self.tokenizer, pictures.tokenizer)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Captions count as long as they may be; sequences too long for the table of
        who sees whom are not estimated."""
        built, pictures = self.replace(start=None).build(), self.pictures
        with torch.device("meta"):
            model = built.build_model()
        slots = built.layout.slots.site.shape[1]
        if slots > MOST_SLOTS:
            return DryRun(model, None)
        assert pictures.conditioner is not None
        conditions = pictures.conditioner.blank(data.batch, data.most)
        inputs = torch.empty(data.batch, slots, pictures.net.backbone.in_width, device="meta")
        return DryRun(model, lambda: model(inputs, built.layout, conditions))


class TrainPictures:
    """`step` is one loss on latents, all scales in one call; `export` writes a model directory."""

    def __init__(self, config: TrainPicturesConfig):
        self.config = config
        system = config.pictures.system()
        self.layout: Layout = compile_layout(single(range(system.order.num_units or 0)), system.order, [system.grid])

    @cached_property
    def tokenizer(self) -> PyramidAutoencoder:
        """The trained one, read when it is first asked for. Raises VidarError where it is missing or damaged."""
        return cast(PyramidAutoencoder, load_component(self.config.tokenizer)).requires_grad_(False)

    @cached_property
    def objective(self) -> Pyramids:
        """With the pyramid of the trained tokenizer."""
        return cast(Pyramids, self.config.pictures.system(pyramid=self.tokenizer.pyramid).objective)

    def to(self, device: torch.device) -> None:
        """Move the tokenizer, whose pyramid is asked in every step."""
        self.tokenizer.to(device)

    def build_model(self) -> WorldNet:
        """The network, fresh or as `start` has it. Raises UsageError where that is another network."""
        net, start = self.config.pictures.net.build(), self.config.start
        if start is not None:
            known = load(start, dtype=torch.float32)
            if known.config.net != self.config.pictures.net:
                raise UsageError(f"{start}: its network differs from method.pictures.net; start from an equal one")
            net.load_state_dict(known.net.state_dict())
        return net

    def step(self, model: WorldNet, batch: PictureBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of pictures, one Rng for each."""
        hidden = [float(rng.uniform("hidden_label")) < self.config.p_none for rng in rngs]
        with torch.no_grad():
            seen, target, _ = self.objective.prepare(batch.codes.flatten(1, 2), self.layout, rngs)
        conditions = self._conditions(batch, batch.mask.new_tensor(hidden))
        return self.objective.loss(model(seen, self.layout, conditions), target)

    def _conditions(self, batch: PictureBatch, hidden: Tensor) -> Any:
        assert self.config.pictures.conditioner is not None
        return self.config.pictures.conditioner.record(batch.told, batch.mask, hidden)

    def product(self, model: WorldNet) -> VideoModel:
        """A model of this network and the frozen tokenizer."""
        return VideoModel(self.config.pictures, self.tokenizer, model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a model directory (bfloat16)."""
        save(self.product(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: PictureBatch, path: Path) -> None:
        """Write PATH.png or, of clips, PATH.mp4: above what the tokenizer leaves of the data, below what is made."""
        pictures, config = self.product(model), self.config.pictures
        h, w = config.tokenizer.sides[-1]
        latents = batch.codes[:SHOWN].float().flatten(1, 2).unflatten(1, (-1, h, w)).permute(0, 4, 1, 2, 3)
        total = self.tokenizer.pyramid.per_frame(latents.to(pictures.device)).total
        known = to_uint8(self.tokenizer.decode(Codes("latent", total))[0]).cpu()
        shown = replace(batch, told=batch.told[:SHOWN].to(pictures.device), mask=batch.mask[:SHOWN].to(pictures.device))
        told = self._conditions(shown, shown.mask.new_zeros(len(known)))
        made, _ = pictures.clip(told, [Rng(0, row) for row in range(len(known))])
        rows = [torch.cat(list(video), dim=2) for video in (known, made)]  # [T, H, B W, 3]
        _write(torch.cat(rows, 1), path, config.fps)


def _write(video: Tensor, path: Path, fps: float) -> None:
    if len(video) == 1:
        Image.fromarray(video[0].numpy()).save(path.with_suffix(".png"))
    else:
        write_video(path.with_suffix(".mp4"), iter(video.numpy()), fps)
