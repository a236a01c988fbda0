"""Any model by name, a world or pictures: loading it, and writing what it makes to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vidar.conditioning.net import WorldNet
from vidar.config import load_file, to_dict
from vidar.data.atomic import check_output, replacing
from vidar.data.video import read_video, write_video
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.types import UsageError, VidarError
from vidar.world import load as worlds
from vidar.world.clip import ClipRequest, read_picture, versions, write_clip
from vidar.world.pictures import Pictures, PicturesConfig
from vidar.world.world import World

Progress = Callable[[int, int], None]


def load(
    name: str | os.PathLike[str], device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> World | Pictures:
    """A shipped model by name, or a directory that `vidar.world.load.save` wrote; see `vidar.world.load.load`."""
    folder = worlds.locate(name)
    config = load_file(folder / worlds.CONFIG)
    if not isinstance(config, PicturesConfig):
        return worlds.load(name, device, dtype)
    tokenizer, net = load_component(folder / "tokenizer"), load_component(folder / "transformer")
    if not (isinstance(tokenizer, PyramidAutoencoder) and isinstance(net, WorldNet)):
        raise VidarError(f"{folder}: its parts are not those of a model of pictures")
    on_cpu = torch.device(device).type == "cpu"
    return Pictures(config, tokenizer, net).to(device, dtype or (fast_dtype() if on_cpu else torch.bfloat16))


def write(request: ClipRequest, progress: Progress | None = None) -> dict[str, Any]:
    """What a model makes, as a file and its side file; see `vidar.world.clip.write_clip`."""
    folder = worlds.locate(request.model)
    config = load_file(folder / worlds.CONFIG)
    if isinstance(config, PicturesConfig):
        return write_pictures(request, config, folder, progress)
    return write_clip(request, progress)


def write_pictures(
    request: ClipRequest, config: PicturesConfig, folder: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Make one image (.png) or clip (.mp4) from a class or a prompt. Everything is checked before the model is built.

    Raises UsageError or VidarError in one line.
    """
    for name in ("actions", "steps", "renew", "recache", "schedule"):
        if getattr(request, name) not in (None, False):
            raise UsageError(f"{request.model}: makes pictures from a class or a text and takes no --{name}")
    labels = None if request.label is None else [request.label]
    prompts = None if request.prompt is None else [request.prompt]
    if prompts is not None and not config.reads_words:
        raise UsageError(f"{request.model}: reads features of an outside text encoder; use it from Python")
    config.told(labels, prompts)
    config.sizes(request.frames)
    frames = request.frames or config.frames
    out = check_output(request.out)
    if out.suffix not in ((".png", ".mp4") if frames == 1 else (".mp4",)):
        raise UsageError(f"{out}: {'an image is written as .png or .mp4' if frames == 1 else 'a clip is an .mp4'}")
    side = check_output(out.with_suffix(".json"))
    context = None if request.context is None else _context(Path(request.context), config, frames)
    model = load(folder, request.device)
    assert isinstance(model, Pictures)
    model = model.compile() if request.compile else model
    made = model.generate(labels, prompts, request.seed, num_frames=frames, context=context)
    if out.suffix == ".png":
        with replacing(out) as file:
            Image.fromarray(made.frames[0, 0]).save(file, format="png")
    else:
        write_video(out, iter(made.frames[0]), config.fps)
    if progress is not None:
        progress(frames, frames)
    known = {
        "video": str(out),
        "arguments": to_dict(request),
        "frames": frames,
        "fps": config.fps,
        "context_frames": 0 if context is None else context.shape[1],
        "latency_ms": {"calls": len(made.seconds), "total": round(1000 * sum(made.seconds), 2)},
        **versions(),
        "dtype": str(next(model.net.parameters()).dtype).removeprefix("torch."),
        "world": to_dict(config),
    }
    with replacing(side) as file:
        file.write_text(json.dumps(known, indent=2) + "\n")
    return known


def _context(path: Path, config: PicturesConfig, frames: int) -> np.ndarray:
    """uint8 [1, T, H, W, 3]: a picture, or what a video holds of whole pyramids, at most, before `frames` are over."""
    known = read_picture(path)[None] if path.suffix == ".png" else read_video(path)[0]
    if known.shape[1:3] != (config.height, config.width):
        raise VidarError(
            f"{path}: is {known.shape[2]}x{known.shape[1]}, this model is {config.width}x{config.height}; resize it"
        )
    config.known_sizes(len(known), frames)
    return known[None]
