"""Features of the frozen encoder of a world's tokenizer: they need no download and know the pictures of the game."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.eval.extractors import LONGEST
from vidar.eval.local_weights import digest
from vidar.model.load import locate
from vidar.nn.pretrained import CONFIG, WEIGHTS, load_component
from vidar.tokenizers.pixels import to_float
from vidar.types import UsageError

DEFAULT = "doom"  # the shipped world whose encoder is used unless another is named
FAR = 4  # latent frames between the two that "later" compares


def tokenizer_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a tokenizer: its own, or that of a model (a folder or the name of a shipped one).

    Raises UsageError or VidarError if there is none.
    """
    folder = Path(name)
    return folder if (folder / CONFIG).is_file() else locate(name) / "tokenizer"


def load_tokenizer(name: str | os.PathLike[str]) -> Any:
    """The tokenizer in `tokenizer_folder`, in float32. Raises UsageError if it is another network, and as that."""
    model = load_component(tokenizer_folder(name)).float()
    if not hasattr(model, "encode"):
        raise UsageError(f"{name}: holds a {type(model).__name__}, not a tokenizer")
    return model


class FrozenEncoder:
    """Five statistics of every latent channel of a clip.

    mean     over space and time
    texture  deviation over space, averaged over time
    now      root mean square of the change from one latent frame to the next
    later    root mean square of the change over 4 latent frames (or all, if there are fewer)
    jump     the largest of the frames' root mean square changes

    Choice: `mean` and `texture` see wrong pictures (blur, colours, grids); a frozen or looping clip has small `now` and
    `later`, flicker a large `now` for its `later`, a teleport a large `jump`. No feature knows the place in a picture,
    so a mirrored clip looks real. For d features a Frechet distance needs more than d clips, so they are few.
    """

    def __init__(self, source: str | os.PathLike[str] = DEFAULT) -> None:
        self.tokenizer: Any = load_tokenizer(source)
        config = self.tokenizer.config
        stride = config.strides[0]
        self.name = f"frozen-{digest(tokenizer_folder(source) / WEIGHTS)}"
        self.dim, self.multiple = 5 * config.channels, config.strides[1]
        self.stride, self.frames = stride, (1 + stride, LONGEST)

    @torch.inference_mode()
    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`. Frames at the end that do not fill a latent frame are left out."""
        whole = (video.shape[1] - 1) // self.stride * self.stride + 1
        return torch.cat([self._one(clip[None, :whole]) for clip in video]).float().numpy()

    def _one(self, clip: np.ndarray) -> Tensor:
        return statistics(latents(self.tokenizer, torch.from_numpy(np.ascontiguousarray(clip))))


def latents(tokenizer: Any, video: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] -> latents [B, C, t, h, w], before quantisation where the tokenizer quantises."""
    encode = getattr(tokenizer, "latents", tokenizer.encode)
    return encode(to_float(video))[0].data.float()


def statistics(z: Tensor) -> Tensor:
    """The features of latents [B, C, t, h, w] with t >= 2: [B, 5 C]."""
    change = (z[:, :, 1:] - z[:, :, :-1]).square().mean((3, 4))  # [B, C, t - 1]
    far = min(FAR, z.shape[2] - 1)
    later = (z[:, :, far:] - z[:, :, :-far]).square().mean((2, 3, 4))
    texture = z.flatten(3).std(3, correction=0).mean(2)
    return torch.cat(
        [z.mean((2, 3, 4)), texture, change.mean(2).sqrt(), later.sqrt(), change.amax(2).sqrt()], 1
    )
