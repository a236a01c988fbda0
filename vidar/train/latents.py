"""Clips of latents: a frozen tokenizer encodes the data set once; batches are then read from memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

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
from vidar.types import UsageError


@dataclass(frozen=True)
class LatentBatch:
    """codes bfloat16 [B, T, n, C]; actions float32 [B, T, A], unknown bool [B, T]; number long [B]; names.

    told: the class or caption of each clip, where the data has an annotation. seen: codes as later frames see them,
    where they are not the true ones. views: what a memory shows before each frame, [B, T, n, W].
    """

    codes: Tensor
    actions: Tensor
    unknown: Tensor
    number: Tensor
    names: Sequence[str]
    told: Sequence[int | str] | None = None
    seen: Tensor | None = None
    views: Tensor | None = None


class LatentClipsConfig(Config):
    """Clips of `clip_frames` latent frames from shards at `path`, encoded by the tokenizer in directory `tokenizer`.

    For a tokenizer that quantises, they are the latents before quantisation. They are stored, see `Encoding`; cache is
    the folder for them (None: the data folder if it can be written).
    """

    path: str
    tokenizer: str
    split: str = "train"
    clip_frames: int = Field(ge=2)
    batch: int = Field(ge=1)
    patch: int = Field(default=2, ge=1)
    seed: int = 0
    annotation: AnnotationConfig | None = None
    most: int = Field(default=256, ge=1)
    cache: str | None = None

    def build(self) -> LatentClips:
        """Read the stored latents, and encode the shards that have none.

        Before encoding, raises UsageError for a missing tokenizer or if the latents cannot be stored, VidarError for
        missing data or too short episodes.
        """
        return LatentClips(self)


class LatentClips:
    """`batch(index)` is a pure function of the index: windows in a new order every epoch."""

    def __init__(self, config: LatentClipsConfig):
        self.config = config
        weights = component_digest(config.tokenizer)
        check_clips(config.path, config.split, config.clip_frames, "data.clip_frames and method.clip_frames")
        self.told = None if config.annotation is None else clip_annotations(config)
        self.stored = self.encoding(weights).read()
        tensors, self.names = self.stored.tensors, self.stored.names
        self.codes, self.actions, lengths = (tensors[name] for name in ("codes", "actions", "lengths"))
        self.first = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        windows = (lengths - config.clip_frames + 1).clamp(min=0)
        self.windows = torch.cat([windows.new_zeros(1), windows.cumsum(0)])
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def encoding(self, weights: str) -> Encoding:
        """Codes, actions and lengths of every episode, each encoded as one stream. weights: digest of the tokenizer."""
        return _encoding(self.config, weights)

    def batch(self, index: int) -> LatentBatch:
        """Running batch `index`, from 0."""
        rows, numbers, names = self.windows_of(index)
        unknown = torch.zeros(rows.shape, dtype=torch.bool)
        unknown[:, 0] = True
        told = None if self.told is None else [self.told[name] for name in names]
        return LatentBatch(self.codes[rows], self.actions[rows], unknown, numbers, names, told)

    def windows_of(self, index: int) -> tuple[Tensor, Tensor, list[str]]:
        """The clips of running batch `index`: frame numbers over all episodes, long [B, T]; sample numbers; names."""
        count, size = int(self.windows[-1]), self.config.batch
        numbers = torch.arange(index * size, (index + 1) * size)
        frames, names = [], []
        for number in numbers.tolist():
            epoch, place = divmod(number, count)
            if self._order[0] != epoch:
                self._order = (epoch, Rng(self.config.seed).permutation("shuffle", count, epoch))
            window = self._order[1][place]
            episode = int(torch.searchsorted(self.windows, window, right=True)) - 1
            start = int(window - self.windows[episode])
            frames.append(int(self.first[episode]) + start + torch.arange(self.config.clip_frames))
            names.append(f"{self.names[episode]}@{start}")
        return torch.stack(frames), numbers, names


def clip_annotations(config: LatentClipsConfig) -> dict[str, int | str]:
    """The class or caption of every clip, by the name of the clip (EPISODE@START); stored like the latents.

    Raises VidarError if an episode has none, UsageError for a caption of more than `most` bytes.
    """
    assert config.annotation is not None
    annotate, count = config.annotation.build(), config.clip_frames

    def made(episodes: Iterator[Episode]) -> Part:
        found = dict[str, int | str]()
        for episode in episodes:
            for start in range(len(episode.frames) - count + 1):
                found[f"{episode.name}@{start}"] = annotate(episode, slice(start, start + count))
        return Part({"told": as_bytes(list(found.values()))}, list(found))

    settings = {"annotation": to_dict(config.annotation), "clip_frames": count}
    index = load_index(config.path)
    encoding = Encoding("annotations", Path(config.path), config.split, index, settings, made, lambda: 0, config.cache)
    told = dict[str, int | str]()
    for part in encoding.read().parts:
        told.update(zip(part.names, from_bytes(part.tensors["told"])))
    for name, one in told.items():
        if isinstance(one, str) and len(one.encode()) > config.most:
            size = len(one.encode())
            raise UsageError(f"{config.path}: {name} has a caption of {size} bytes; set data.most to as many")
    return told


def _encoding(config: LatentClipsConfig, weights: str) -> Encoding:
    """Codes, actions and lengths of every episode, each encoded as one stream."""
    index, settings = load_index(config.path), {"weights": weights, "patch": config.patch}

    @cache
    def tokenizer() -> Any:
        return load_component(config.tokenizer)

    def frame_bytes() -> float:
        frame = np.zeros((2, index.height, index.width, 3), np.uint8)
        return codes(tokenizer(), frame, config.patch).nbytes / 2 + 4 * index.spec.width

    def made(episodes: Iterator[Episode]) -> Part:
        names, found = list[str](), list[tuple[Tensor, Tensor]]()
        for episode in episodes:
            names.append(episode.name)
            found.append((codes(tokenizer(), episode.frames, config.patch), torch.from_numpy(episode.actions)))
        lengths = torch.tensor([len(actions) for _, actions in found])
        parts = {"codes": torch.cat([one for one, _ in found]), "actions": torch.cat([one for _, one in found])}
        return Part({**parts, "lengths": lengths}, names)

    return Encoding("latents", Path(config.path), config.split, index, settings, made, frame_bytes, config.cache)


@torch.inference_mode()
def codes(tokenizer: Any, frames: np.ndarray, patch: int) -> Tensor:
    """Frames uint8 [T, H, W, 3] of one episode -> codes bfloat16 [T, n, C]."""
    encode = tokenizer.latents if isinstance(tokenizer, PyramidAutoencoder) else tokenizer.encode
    state, parts = None, list[Tensor]()
    for start in range(0, len(frames), 32):
        video = torch.from_numpy(np.ascontiguousarray(frames[start : start + 32]))[None]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16):
            made, state = encode(to_float(video), state)
        parts.append(to_sites(made.data, patch)[0].unflatten(0, (video.shape[1], -1)))
    return torch.cat(parts).to(torch.bfloat16)
