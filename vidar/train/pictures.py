"""Latents of images and clips with their classes or captions; a frozen tokenizer encodes the data set once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidar.conditioning.text import utf8
from vidar.config import Config, to_dict
from vidar.data.annotations import AnnotationConfig
from vidar.data.atomic import replacing
from vidar.data.reader import check_clips, data_info, episodes
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pixels import to_float
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.types import UsageError, VidarError

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

    The tokenizer in directory `tokenizer` encodes every clip by itself. The latents are stored beside the shards, under
    a name that is a hash of the tokenizer's weights and of these settings. most: maximum number of bytes of a caption.
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

    def build(self) -> PictureClips:
        """Read the stored latents, or encode the data first.

        Before encoding, raises UsageError for a missing tokenizer, VidarError for missing data or too short episodes.
        """
        return PictureClips(self)


class PictureClips:
    """`batch(index)` is a pure function of the index: clips in a new order every epoch."""

    def __init__(self, config: PictureClipsConfig):
        self.config = config
        weights = Path(config.tokenizer) / "model.safetensors"
        if not weights.is_file():
            raise UsageError(f"{config.tokenizer}: no tokenizer there; train one first: vidar train tokenizer_...")
        self.info = data_info(config.path)
        check_clips(config.path, config.split, config.frames, "data.frames")
        said = {"stride": config.stride, "frames": config.frames, "annotation": to_dict(config.annotation)}
        key = hashlib.sha256(weights.read_bytes() + json.dumps(said).encode()).hexdigest()[:12]
        stored = Path(config.path) / f"pictures-{config.split}-{key}.safetensors"
        if not stored.is_file():
            encode_clips(config, stored)
        with safe_open(stored, "pt") as file:
            self.codes = file.get_tensor("codes")
            known = file.metadata() or {}
        self.names: list[str] = json.loads(known["names"])
        self.told: list[int | str] = json.loads(known["told"])
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


def clips_of(config: PictureClipsConfig) -> Iterator[tuple[str, int | str, np.ndarray]]:
    """Yield name, class or caption, and frames uint8 [T, H, W, 3] of every clip of a split, in order."""
    said = config.annotation.build()
    for episode in episodes(config.path, config.split, extras=()):
        for start in range(0, len(episode.frames) - config.frames + 1, config.stride):
            clip = slice(start, start + config.frames)
            yield f"{episode.name}@{start}", said(episode, clip), episode.frames[clip]


@torch.inference_mode()
def encode_clips(config: PictureClipsConfig, stored: Path) -> None:
    """Encode every clip of a split and store latents, names, and classes or captions.

    Raises VidarError if the tokenizer does not make pyramids.
    """
    tokenizer = load_component(config.tokenizer)
    if not isinstance(tokenizer, PyramidAutoencoder):
        raise VidarError(f"{config.tokenizer}: holds a {type(tokenizer).__name__}; pictures need PyramidAutoencoder")
    codes, names, told, waiting = list[Tensor](), list[str](), list[int | str](), list[np.ndarray]()

    def encode() -> None:
        video = torch.from_numpy(np.stack(waiting))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16):
            made = tokenizer.latents(to_float(video))[0].data
        codes.append(to_sites(made, 1).unflatten(1, (made.shape[2], -1)).to(torch.bfloat16))
        waiting.clear()

    for name, said, frames in clips_of(config):
        waiting.append(frames)
        names.append(name)
        told.append(said)
        if len(waiting) == ENCODED_AT_ONCE:
            encode()
    if waiting:
        encode()
    with replacing(stored) as file:
        save_file({"codes": torch.cat(codes)}, file, metadata={"names": json.dumps(names), "told": json.dumps(told)})
