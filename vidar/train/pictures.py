"""Latents of images and clips with their classes or captions; a frozen tokenizer encodes the data set once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.text import utf8
from vidar.config import Config, to_dict
from vidar.data.annotations import AnnotationConfig
from vidar.data.episode import Episode
from vidar.data.index import load_index
from vidar.data.reader import check_clips
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pixels import to_float
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.train.encoded import Encoding, Part, as_bytes, component_digest, from_bytes
from vidar.types import VidarError

ENCODED_AT_ONCE = 16  # clips


@dataclass(frozen=True)
class PictureBatch:
    """codes: bfloat16 [B, t, n, C], latents before quantisation. number: long [B]. names: sources of the samples.

    told: classes long [B], or captions as bytes long [B, J] (or features float [B, J, W]). mask: bool [B, J], all True
    for classes.
    """

    codes: Tensor
    told: Tensor
    mask: Tensor
    number: Tensor
    names: Sequence[str]


class PictureClipsConfig(Config):
    """Clips of `frames` frames (1: images) from shards at `path`; consecutive clips start `stride` frames apart.

    The tokenizer in directory `tokenizer` encodes every clip by itself. most: maximum number of bytes of a caption. The
    latents are stored, see `Encoding`; cache: the folder for them (None: the data folder if it can be written).
    """

    path: str
    tokenizer: str
    annotation: AnnotationConfig
    split: str = "train"
    frames: int = Field(default=1, ge=1)
    stride: int = Field(default=4, ge=1)
    batch: int = Field(ge=1)
    most: int = Field(default=256, ge=1)
    seed: int = 0
    cache: str | None = None

    def build(self) -> PictureClips:
        """Read the stored latents, and encode the shards that have none.

        Before encoding, raises UsageError for a missing tokenizer or if the latents cannot be stored, VidarError for
        missing data, too short episodes, or a tokenizer that does not make pyramids.
        """
        return PictureClips(self)


class PictureClips:
    """`batch(index)` is a pure function of the index: clips in a new order every epoch."""

    def __init__(self, config: PictureClipsConfig):
        self.config = config
        weights = component_digest(config.tokenizer)
        check_clips(config.path, config.split, config.frames, "data.frames")
        self.stored = _encoding(config, weights).read()
        self.names, self.codes = self.stored.names, self.stored.tensors["codes"]
        self.told: list[int | str] = [one for part in self.stored.parts for one in from_bytes(part.tensors["told"])]
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def batch(self, index: int) -> PictureBatch:
        """Running batch `index`, from 0."""
        count, size = len(self.codes), self.config.batch
        numbers, picked = torch.arange(index * size, (index + 1) * size), list[int]()
        for number in numbers.tolist():
            epoch, place = divmod(number, count)
            if self._order[0] != epoch:
                self._order = (epoch, Rng(self.config.seed).permutation("shuffle", count, epoch))
            picked.append(int(self._order[1][place]))
        told, mask = told_tensors([self.told[i] for i in picked], self.config.most)
        return PictureBatch(self.codes[picked], told, mask, numbers, [self.names[i] for i in picked])


def told_tensors(told: Sequence[int | str], most: int) -> tuple[Tensor, Tensor]:
    """Classes or captions -> `told` and `mask` of a `PictureBatch`."""
    words = [one for one in told if isinstance(one, str)]
    if words:
        return utf8(words, most)
    return torch.tensor(told), torch.ones(len(told), dtype=torch.bool)


def _encoding(config: PictureClipsConfig, weights: str) -> Encoding:
    """Latents, and classes or captions, of every clip."""
    annotate, index = config.annotation.build(), load_index(config.path)

    @cache
    def tokenizer() -> PyramidAutoencoder:
        found = load_component(config.tokenizer)
        if not isinstance(found, PyramidAutoencoder):
            raise VidarError(f"{config.tokenizer}: holds a {type(found).__name__}; pictures need PyramidAutoencoder")
        return found

    def blank() -> Tensor:
        return latents(tokenizer(), [np.zeros((config.frames, index.height, index.width, 3), np.uint8)])

    def made(episodes: Iterator[Episode]) -> Part:
        codes, names, told, waiting = list[Tensor](), list[str](), list[int | str](), list[np.ndarray]()
        for episode in episodes:
            for start in range(0, len(episode.frames) - config.frames + 1, config.stride):
                clip = slice(start, start + config.frames)
                names.append(f"{episode.name}@{start}")
                told.append(annotate(episode, clip))
                waiting.append(episode.frames[clip])
                if len(waiting) == ENCODED_AT_ONCE:
                    codes.append(latents(tokenizer(), waiting))
                    waiting.clear()
        codes.append(latents(tokenizer(), waiting) if waiting else blank()[:0])
        return Part({"codes": torch.cat(codes), "told": as_bytes(told)}, names)

    said = {"stride": config.stride, "frames": config.frames, "annotation": to_dict(config.annotation)}
    settings = {"weights": weights, **said}
    return Encoding(
        "pictures",
        Path(config.path),
        config.split,
        index,
        settings,
        made,
        lambda: blank().nbytes / config.stride,
        config.cache,
    )


@torch.inference_mode()
def latents(tokenizer: PyramidAutoencoder, clips: Sequence[np.ndarray]) -> Tensor:
    """Clips uint8 [T, H, W, 3] -> bfloat16 [B, t, n, C]."""
    video = torch.from_numpy(np.stack(clips))
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16):
        made = tokenizer.latents(to_float(video))[0].data
    return to_sites(made, 1).unflatten(1, (made.shape[2], -1)).to(torch.bfloat16)
