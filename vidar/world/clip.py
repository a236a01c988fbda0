"""A clip on disk: a world, a start and actions -> mp4, and a JSON side file that says how it was made."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

import vidar
from vidar.config import Config, load_file, to_dict
from vidar.data.atomic import check_output, replacing
from vidar.data.video import read_video, write_video
from vidar.types import UsageError, VidarError
from vidar.world.load import CONFIG, START, load, locate
from vidar.world.scheduled import ScheduleConfig, with_schedule
from vidar.world.world import World, WorldConfig


class ClipRequest(Config):
    """What to make. out: x.mp4; x.json is written beside it. frames None: as many as actions.

    context: .mp4 or .png (None: start.mp4 of the model). actions: .npy [N, A] (None: nothing is pressed).
    label, prompt: what a model of pictures is told (vidar.world.models). renew, recache: see `vidar.rollout.hooks`.
    schedule: None: as the model has it. compile: the calls of the network.
    """

    model: str
    out: str
    frames: int | None = Field(default=None, ge=1)
    context: str | None = None
    actions: str | None = None
    label: int | None = None
    prompt: str | None = None
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    renew: int | None = Field(default=None, ge=1)
    recache: bool = False
    schedule: ScheduleConfig | None = None
    compile: bool = False
    device: str = "cpu"


def write_clip(request: ClipRequest, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Generate and write; returns what stands in the side file. Everything given is checked before the model is built.

    Context is never written. Raises UsageError or VidarError in one line; nothing half-written stays.
    """
    video, side = _outputs(request.out)
    folder = locate(request.model)
    config = load_file(folder / CONFIG)
    if not isinstance(config, WorldConfig):
        raise VidarError(f"{folder / CONFIG}: is not the config of a world")
    for name in ("label", "prompt"):
        if getattr(request, name) is not None:
            raise UsageError(f"{request.model}: a world dreams from frames and actions and takes no --{name}")
    if request.schedule is not None:
        config = with_schedule(config.with_steps(request.steps or config.steps), request.schedule)
    actions = None if request.actions is None else read_actions(request.actions, config)
    count = _count(request, actions)
    context = read_context(request.context or _start(folder, request.model), config)
    world = load(folder, request.device)
    world.config = config
    world = world.compile() if request.compile else world
    seconds: list[float] = []
    write_video(video, _frames(world, request, context, actions, count, seconds, progress), config.fps)
    made = {
        "video": str(video),
        "arguments": to_dict(request),
        "frames": count,
        "fps": config.fps,
        "context_frames": len(context),
        "latency_ms": _latency(seconds),
        **versions(),
        "dtype": str(next(world.net.parameters()).dtype).removeprefix("torch."),
        "world": to_dict(config),
    }
    with replacing(side) as file:
        file.write_text(json.dumps(made, indent=2) + "\n")
    return made


def versions() -> dict[str, Any]:
    """What made a clip, for its side file."""
    made = {"vidar": vidar.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"versions": made, "threads": torch.get_num_threads()}


def read_actions(path: str, config: WorldConfig) -> np.ndarray:
    """float32 [N, A] from .npy, checked against the world. Raises VidarError."""
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise VidarError(f"{path}: no such file of actions") from None
    except (OSError, ValueError, EOFError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VidarError(f"{path}: not readable as .npy numbers ({problem})") from None
    if not isinstance(values, np.ndarray):
        raise VidarError(f"{path}: holds several arrays; save one with numpy.save")
    return config.actions.validate_actions(values, path)


def read_context(path: str, config: WorldConfig) -> np.ndarray:
    """uint8 [T, H, W, 3] from .mp4 or .png, of the world's size. Raises VidarError."""
    file = Path(path)
    frames = read_picture(file)[None] if file.suffix == ".png" else read_video(file)[0]
    if frames.shape[1:3] != (config.height, config.width):
        height, width = frames.shape[1:3]
        raise VidarError(f"{file}: is {width}x{height}, this world is {config.width}x{config.height}; resize it first")
    return frames


def read_picture(file: Path) -> np.ndarray:
    """uint8 [H, W, 3]. Raises VidarError."""
    try:
        with Image.open(file) as picture:
            return np.array(picture.convert("RGB"))  # a copy, so that it is writable
    except FileNotFoundError:
        raise VidarError(f"{file}: no such picture") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise VidarError(f"{file}: not readable as a picture ({str(error).splitlines()[0]})") from None


def _outputs(out: str) -> tuple[Path, Path]:
    video = check_output(out)
    if video.suffix != ".mp4":
        raise UsageError(f"{video}: a clip is written as .mp4")
    return video, check_output(video.with_suffix(".json"))


def _start(folder: Path, name: str) -> str:
    if not (folder / START).is_file():
        raise UsageError(f"{name}: ships no {START}; give a start: --context clip.mp4 or picture.png")
    return str(folder / START)


def _count(request: ClipRequest, actions: np.ndarray | None) -> int:
    count = request.frames or (0 if actions is None else len(actions))
    if count < 1:
        raise UsageError("generate needs --frames N, or --actions with at least one row")
    if actions is not None and len(actions) < count:
        raise VidarError(f"{request.actions}: {len(actions)} actions are too few for {count} frames; one row a frame")
    return count


def _frames(
    world: World,
    request: ClipRequest,
    context: np.ndarray,
    actions: np.ndarray | None,
    count: int,
    seconds: list[float],
    progress: Callable[[int, int], None] | None,
) -> Iterator[np.ndarray]:
    """The new frames; notes what each took."""
    last = time.perf_counter()
    told = request.seed, None, request.steps, request.renew, request.recache
    for frame in islice(world.stream(context, actions, *told), count):
        seconds.append(time.perf_counter() - last)
        yield frame
        if progress is not None:
            progress(len(seconds), count)
        last = time.perf_counter()


def _latency(seconds: list[float]) -> dict[str, float]:
    """First frame (with the context), median and 95th percentile of the others."""
    rest = np.array(seconds[1:] or seconds) * 1000
    return {
        "first": round(seconds[0] * 1000, 2),
        "median": round(float(np.median(rest)), 2),
        "p95": round(float(np.quantile(rest, 0.95)), 2),
    }
