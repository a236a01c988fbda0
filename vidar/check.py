"""Checks of a training config before anything expensive: do its parts fit each other and the data on disk?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidar.actions import ActionSpec
from vidar.conditioning.label import LabelEmbedConfig
from vidar.config import Config, load_file
from vidar.data.annotations import ShapeClassConfig, StoredClassConfig
from vidar.data.index import Index, load_index
from vidar.data.loader import ClipsConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.next_scale import TrainScalesConfig
from vidar.train.methods.outcome import OutcomeConfig
from vidar.train.methods.pictures import TrainPicturesConfig
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.train.methods.world import TrainWorldConfig
from vidar.train.outcomes import OutcomeClipsConfig
from vidar.train.pictures import PictureClipsConfig
from vidar.types import UsageError
from vidar.world.load import load_config, locate
from vidar.world.world import WorldConfig

LEARNS_WORLDS = TrainWorldConfig | TrainScalesConfig | TrainPrefixConfig


def check_training(config: Any) -> TrainConfig:
    """The config, if it can be trained. Raises UsageError or VidarError naming key or file."""
    if not isinstance(config, TrainConfig):
        raise UsageError(f"{type(config).__name__} is not a training run; `vidar systems` lists the recipes")
    if isinstance(config.method, LEARNS_WORLDS):
        check_world(config.method.world)
        check_pair(config.method, config.data)
    if isinstance(config.method, TrainPicturesConfig):
        check_pictures(config.method, config.data)
    if isinstance(config.method, OutcomeConfig):
        load_config(locate(config.method.world)).check_outcome(config.method.head)
    if isinstance(config.data, ClipsConfig | LatentClipsConfig | OutcomeClipsConfig | PictureClipsConfig):
        index = load_index(config.data.path)
        check_data(config, config.data, index)
    if isinstance(config.method, LEARNS_WORLDS):
        check_tokenizer(config.method.tokenizer, config.method.world.tokenizer)
    if isinstance(config.method, TrainPicturesConfig):
        check_tokenizer(config.method.tokenizer, config.method.pictures.tokenizer)
    return config


def check_world(world: WorldConfig) -> None:
    """Sizes divide; network, objective and actions fit one another."""
    world.system()
    if getattr(world.net.conditioner, "spec", world.actions) != world.actions:
        raise UsageError("net.conditioner.spec differs from the actions of the world; set both to the same")


def check_pair(method: LEARNS_WORLDS, data: Config) -> None:
    """Method and data agree on tokenizer, patch and length."""
    if not isinstance(data, LatentClipsConfig):
        return
    pairs = {
        "tokenizer": (data.tokenizer, method.tokenizer),
        "clip_frames": (data.clip_frames, method.clip_frames),
        "patch": (data.patch, method.world.patch),
    }
    for key, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise UsageError(f"data.{key} is {ours!r}, the method has {theirs!r}; set both to the same value")


def check_pictures(method: TrainPicturesConfig, data: Config) -> None:
    """Widths, scales and clips fit one another; the data holds what the model is told, and can say it."""
    method.pictures.system()
    if not isinstance(data, PictureClipsConfig):
        return
    for key, theirs in {"tokenizer": method.tokenizer, "frames": method.pictures.frames}.items():
        if getattr(data, key) != theirs:
            raise UsageError(f"data.{key} is {getattr(data, key)!r}, the method has {theirs!r}; set both to the same")
    classes = isinstance(data.annotation, StoredClassConfig | ShapeClassConfig)
    if classes != isinstance(method.pictures.net.conditioner, LabelEmbedConfig):
        raise UsageError(f"data.annotation gives {'classes' if classes else 'captions'}; the model reads the other")
    if not method.pictures.reads_words:
        raise UsageError("the model reads features of an outside text encoder, which no data set here holds")


Data = ClipsConfig | LatentClipsConfig | OutcomeClipsConfig | PictureClipsConfig


def check_data(config: TrainConfig, data: Data, index: Index) -> None:
    """The data has the split, and the size and actions of the model."""
    if data.split not in index.splits():
        raise UsageError(f"{data.path}: has no split {data.split!r}; it has {', '.join(index.splits()) or 'none'}")
    if isinstance(config.method, AutoencodeConfig):
        if isinstance(data, ClipsConfig):
            config.method.check_frames(data.clip_frames)
        stride = config.method.tokenizer.space_stride
        for name, size in (("height", index.height), ("width", index.width)):
            if size % stride:
                raise UsageError(f"{data.path}: {name} {size} does not divide by the tokenizer's stride {stride}")
        if isinstance(config.method.tokenizer, PyramidAutoencoderConfig):
            have = (index.height // stride, index.width // stride)
            want = config.method.tokenizer.pyramid.sizes[-1][1:]
            if have != want:
                raise UsageError(
                    f"{data.path}: {index.height} x {index.width} pixels make {have[0]} x {have[1]} latents; the last "
                    f"of method.tokenizer.pyramid.sizes is {want[0]} x {want[1]}"
                )
    if isinstance(config.method, TrainPicturesConfig):
        ours, theirs = (index.height, index.width), (config.method.pictures.height, config.method.pictures.width)
        if ours != theirs:
            raise UsageError(f"{data.path}: frames are {ours[0]} x {ours[1]}, the model's {theirs[0]} x {theirs[1]}")
    if isinstance(config.method, LEARNS_WORLDS):
        world = config.method.world
        if (index.height, index.width) != (world.height, world.width):
            raise UsageError(
                f"{data.path}: frames are {index.height} x {index.width} (height x width), the world is "
                f"{world.height} x {world.width}"
            )
        if abs(index.fps - world.fps) > 1e-3 * world.fps:
            raise UsageError(f"{data.path}: runs at {index.fps:g} frames/s, the world at {world.fps:g}")
        ours, theirs = columns(index.spec), columns(world.actions)
        if ours != theirs:
            raise UsageError(f"{data.path}: actions are {', '.join(ours)}; the world has {', '.join(theirs)}")


def columns(spec: ActionSpec) -> list[str]:
    """What has to agree of two action specs: names and ranges in order."""
    return [f"{action.name} {action.lowest:g}..{action.highest:g}" for action in spec.actions]


def check_tokenizer(directory: str, declared: Config) -> None:
    """The trained tokenizer is there and of the declared kind."""
    folder = Path(directory)
    if not (folder / "model.safetensors").is_file():
        raise UsageError(f"{folder}: no tokenizer there; train one first and give its folder: tokenizer=RUN/model")
    if load_file(folder / "config.json") != declared:
        raise UsageError(f"{folder}: differs from the recipe's tokenizer; train it with the same preset and settings")


def check_device(name: str) -> str:
    """A device that exists here. Raises UsageError."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name
