"""Training of a world that predicts its frames scale by scale, on latents of clips before quantisation."""

from __future__ import annotations

from typing import Any, cast

from pydantic import Field
from torch import Tensor

from vidar.core.layout import Layout, compile_layout
from vidar.core.objective import Objective
from vidar.core.step import single
from vidar.core.system import System
from vidar.model.model import VideoModel
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.train.methods.latent_clips import LearnsWorldConfig


class TrainScalesConfig(LearnsWorldConfig):
    """Every unit occurs once, because the row that predicts a scale is also the committed row.

    The memory unit of the last frame is left out, because no unit reads it.
    """

    clip_frames: int = Field(ge=2)

    def length(self) -> int:
        """Number of frames of a clip."""
        return self.clip_frames

    def layout(self, system: System[Objective]) -> Layout:
        """See `SupervisedConfig`."""
        units = range(system.frames.units(self.clip_frames).start - 1)
        return compile_layout(single(units), system.order, [system.grid])

    def shown(self, product: VideoModel, codes: Tensor) -> Tensor:
        """Latents [B, T, n, C] -> the sums of their quantised pyramids, the same shape."""
        shape: Any = (codes.shape[1], *self.world.sites)
        grid = codes.flatten(1, 2).transpose(1, 2).unflatten(2, shape)
        pyramid = cast(PyramidAutoencoder, product.tokenizer).pyramid
        return to_sites(pyramid.per_frame(grid).total, 1).unflatten(1, (codes.shape[1], -1))
