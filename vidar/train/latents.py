"""Clips of latents: a frozen tokenizer encodes the data set once; batches are then read from memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidar.config import Config, to_dict
from vidar.data.annotations import AnnotationConfig
from vidar.data.atomic import replacing
from vidar.data.index import load_index
from vidar.data.reader import check_clips, data_info, episodes
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pixels import to_float
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.types import UsageError


@dataclass(frozen=True)
class LatentBatch:
    """codes bfloat16 [B, T, n, C]; actions float32 [B, T, A], unknown bool [B, T]; number long [B]; names.

    told: the class or caption of each clip, where the data has an annotation.
    """

    codes: Tensor
    actions: Tensor
    unknown: Tensor
    number: Tensor
    names: Sequence[str]
    told: Sequence[int | str] | None = None


class LatentClipsConfig(Config):
    """Clips of `clip_frames` latent frames from shards at `path`, encoded by the tokenizer in directory `tokenizer`.

    The latents are stored beside the shards, under a name that is a hash of the tokenizer's weights. For a tokenizer
    that quantises, they are the latents before quantisation.
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

    def build(self) -> LatentClips:
        """Read the stored latents, or encode the data first.

        Before encoding, raises UsageError for a missing tokenizer, VidarError for missing data or too short episodes.
        """
        return LatentClips(self)


class LatentClips:
    """`batch(index)` is a pure function of the index: windows in a new order every epoch."""

    def __init__(self, config: LatentClipsConfig):
        self.config = config
        weights = Path(config.tokenizer) / "model.safetensors"
        if not weights.is_file():
            raise UsageError(f"{config.tokenizer}: no tokenizer there; train one first: vidar train tokenizer_...")
        self.info = data_info(config.path)
        check_clips(config.path, config.split, config.clip_frames, "data.clip_frames and method.clip_frames")
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
        stored = Path(config.path) / f"latents-{config.split}-{digest}-p{config.patch}.safetensors"
        if not stored.is_file():
            encode_split(config, stored)
        with safe_open(stored, "pt") as file:
            self.codes, self.actions = file.get_tensor("codes"), file.get_tensor("actions")
            lengths = file.get_tensor("lengths")
            self.names = (file.metadata() or {})["names"].split("\n")
        self.first = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        windows = (lengths - config.clip_frames + 1).clamp(min=0)
        self.windows = torch.cat([windows.new_zeros(1), windows.cumsum(0)])
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self.told = None if config.annotation is None else clip_annotations(config)

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
    """The class or caption of every clip, by the name of the clip (EPISODE@START); kept beside the shards.

    Raises VidarError if an episode has none, UsageError for a caption of more than `most` bytes.
    """
    assert config.annotation is not None
    shards = [shard.sha256 for shard in load_index(config.path).shards if shard.split == config.split]
    said = to_dict(config.annotation), config.split, config.clip_frames, shards
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
    stored = Path(config.path) / f"told-{config.split}-{key}.json"
    if not stored.is_file():
        annotate, found = config.annotation.build(), dict[str, int | str]()
        for episode in episodes(config.path, config.split, extras=()):
            for start in range(len(episode.frames) - config.clip_frames + 1):
                found[f"{episode.name}@{start}"] = annotate(episode, slice(start, start + config.clip_frames))
        with replacing(stored) as file:
            file.write_text(json.dumps(found))
    told: dict[str, int | str] = json.loads(stored.read_text())
    for name, one in told.items():
        if isinstance(one, str) and len(one.encode()) > config.most:
            size = len(one.encode())
            raise UsageError(f"{config.path}: {name} has a caption of {size} bytes; set data.most to as many")
    return told


@torch.inference_mode()
def encode_split(config: LatentClipsConfig, stored: Path) -> None:
    """Encode every episode of a split as one stream and store codes, actions and lengths."""
    tokenizer = load_component(config.tokenizer)
    encode = tokenizer.latents if isinstance(tokenizer, PyramidAutoencoder) else tokenizer.encode
    codes, actions, lengths, names = [], [], [], []
    for episode in episodes(config.path, config.split, extras=()):
        state, parts = None, []
        for start in range(0, len(episode.frames), 32):
            video = torch.from_numpy(np.ascontiguousarray(episode.frames[start : start + 32]))[None]
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16):
                made, state = encode(to_float(video), state)
            parts.append(to_sites(made.data, config.patch)[0].unflatten(0, (video.shape[1], -1)))
        codes.append(torch.cat(parts).to(torch.bfloat16))
        actions.append(torch.from_numpy(episode.actions))
        lengths.append(len(episode.frames))
        names.append(episode.name)
    tensors = {"codes": torch.cat(codes), "actions": torch.cat(actions), "lengths": torch.tensor(lengths)}
    with replacing(stored) as file:
        save_file(tensors, file, metadata={"names": "\n".join(names)})
