"""Training of a model of images or clips from classes or texts, on latents before quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet, WorldNetConfig
from vidar.core.layout import Layout, compile_layout
from vidar.core.objective import Objective
from vidar.core.step import single
from vidar.core.system import System
from vidar.data.atomic import replacing
from vidar.data.index import Index
from vidar.data.video import write_video
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.rng import Rng
from vidar.tokenizers.pixels import to_uint8
from vidar.train.checks import check_equal, check_tokenizer
from vidar.train.methods.supervised import SupervisedConfig
from vidar.train.pictures import PictureBatch
from vidar.types import Codes, UsageError

SHOWN = 8  # number of images or clips of a sample file


class TrainPicturesConfig(SupervisedConfig):
    """pictures: config of the model. p_none: share of samples whose class or text is hidden (VAR, Infinity: 0.1)."""

    pictures: VideoModelConfig
    p_none: float = Field(default=0.1, ge=0, le=1)

    @property
    def net(self) -> WorldNetConfig:
        """See `SupervisedConfig`."""
        return self.pictures.net

    @property
    def reads_tokenizer(self) -> bool:
        """See `SupervisedConfig`. Always true, because the tokenizer's pyramid quantises the latents."""
        return True

    def clip_system(self, tokenizer: Any = None) -> System[Objective]:
        """See `SupervisedConfig`."""
        return self.pictures.system(pyramid=None if tokenizer is None else tokenizer.pyramid)

    def layout(self, system: System[Objective]) -> Layout:
        """See `SupervisedConfig`: all scales in one call."""
        return compile_layout(single(range(system.order.num_units or 0)), system.order, [system.grid])

    def told(self, batch: PictureBatch, rngs: Sequence[Rng]) -> Any:
        """See `SupervisedConfig`. The conditions are classes or texts."""
        hidden = [float(rng.uniform("hidden_label")) < self.p_none for rng in rngs]
        return self._conditions(batch, batch.mask.new_tensor(hidden))

    def _conditions(self, batch: PictureBatch, hidden: Tensor) -> Any:
        assert self.net.conditioner is not None
        return self.net.conditioner.record(batch.told, batch.mask, hidden)

    def blank(self, data: Any) -> Any:
        """See `SupervisedConfig`. Captions have the maximum length."""
        assert self.net.conditioner is not None
        return next(iter(self.net.conditioner.blank(data.batch, data.most).values()))

    def product(self, tokenizer: Any, net: WorldNet) -> VideoModel:
        """See `SupervisedConfig`."""
        return VideoModel(self.pictures, tokenizer, net)

    def show(self, product: VideoModel, batch: PictureBatch, path: Path) -> None:
        """Write PATH.png or, for clips, PATH.mp4: reconstructions of the data above, generated samples below."""
        tokenizer, config = product.tokenizer, self.pictures
        h, w = config.tokenizer.sides[-1]
        latents = batch.codes[:SHOWN].float().flatten(1, 2).unflatten(1, (-1, h, w)).permute(0, 4, 1, 2, 3)
        total = tokenizer.pyramid.per_frame(latents.to(product.device)).total
        known = to_uint8(tokenizer.decode(Codes("latent", total))[0]).cpu()
        told, mask = (part[:SHOWN].to(product.device) for part in (batch.told, batch.mask))
        said = self._conditions(replace(batch, told=told, mask=mask), mask.new_zeros(len(known)))
        made, _ = product.clip(said, [Rng(0, row) for row in range(len(known))])
        rows = [torch.cat(list(video), dim=2) for video in (known, made)]  # [T, H, B W, 3]
        _write(torch.cat(rows, 1), path, config.fps)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. Checks widths, scales, clips and the conditions of the data."""
        self.pictures.system()
        check_equal(data, {"tokenizer": self.tokenizer, "frames": self.pictures.frames})
        reader = self.pictures.conditioner
        if reader is None or not reader.reads_words:
            raise UsageError("the model reads features of an external text encoder, which no data set here contains")
        told = getattr(data, "annotation", None)
        if told is not None and told.classes != ("label" in self.pictures.accepts):
            raise UsageError(
                f"data.annotation gives {'classes' if told.classes else 'captions'}; the model needs "
                "the other kind of condition"
            )

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.ChecksData`. Checks the frame size and the tokenizer."""
        pictures = self.pictures
        if index is not None and (index.height, index.width) != (pictures.height, pictures.width):
            raise UsageError(
                f"{data.path}: frames are {index.height} x {index.width}, the model's {pictures.height} x "
                f"{pictures.width}"
            )
        check_tokenizer(self.tokenizer, pictures.tokenizer)


def _write(video: Tensor, path: Path, fps: float) -> None:
    if len(video) == 1:
        with replacing(path.with_suffix(".png")) as file:
            Image.fromarray(video[0].numpy()).save(file, format="png")
    else:
        write_video(path.with_suffix(".mp4"), iter(video.numpy()), fps)
