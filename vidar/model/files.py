"""Write generated videos and images to disk, each with a JSON side file that records how it was generated."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

import vidar
from vidar.conditioning.config import Told
from vidar.config import Config, to_dict
from vidar.data.atomic import replacing
from vidar.data.gif import FASTEST, write_gif
from vidar.data.outputs import check_outputs, written_by
from vidar.data.text import check_regular
from vidar.data.video import read_video, write_video
from vidar.model.load import load, load_config, locate
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.model.schedules import ScheduleConfig, with_schedule
from vidar.model.start_hashes import START
from vidar.types import UsageError, VidarError

Progress = Callable[[int, int], None]
ENDLESS = ("actions", "renew", "recache", "schedule")  # options that clips of a fixed length do not take
VIDEOS = (".mp4", ".webm", ".gif")
DAMAGE = (OSError, ValueError, EOFError, SyntaxError, TokenError, MemoryError, OverflowError)  # of .npy and pictures
LARGEST = 8192  # pixels of a side
LONGEST = 86_400.0  # seconds of a video that is asked for in seconds


class GenerateRequest(Config):
    """The arguments of one generation.

    out: x.mp4, x.webm or x.gif, or x.png for an image; x.json is written beside it. frames or seconds: the length; both
    None: one frame per action, or the length of a clip. size: width and height in pixels, to which the frames are
    resized (Lanczos); None: those of the model. context: .mp4 or .png (None: start.mp4 of the model). actions: .npy
    [N, A] (None: no key is pressed). label, prompt: class or text, for models that take it. steps: network calls per
    frame, for models that take it. renew, recache: see `vidar.rollout.hooks`. schedule: None: that of the model.
    no_memory: whether to run a world without its memory. compile: whether to compile the network calls.
    """

    model: str
    out: str
    frames: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    size: tuple[int, int] | None = None
    context: str | None = None
    actions: str | None = None
    label: int | None = None
    prompt: str | None = None
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    renew: int | None = Field(default=None, ge=1)
    recache: bool = False
    schedule: ScheduleConfig | None = None
    no_memory: bool = False
    compile: bool = False
    device: str = "cpu"

    @property
    def told(self) -> Told:
        """Prompt and label of the video."""
        return Told(self.prompt, self.label)


def write(request: GenerateRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Generate a video or image and write it; returns the content of the side file.

    All arguments are checked before the model is built. Context frames are never written. Raises UsageError or
    VidarError in one line; no partly written file remains.
    """
    folder = locate(request.model)
    config = load_config(folder)
    _check_told(request, config)
    if request.no_memory:
        config.check_memory()
    if config.clips:
        return _write_clip(request, config, folder, progress)
    wanted = _wanted(request, config.fps)
    out, side = _outputs(request, folder, config.fps, VIDEOS)
    if request.schedule is not None:
        config = with_schedule(config.with_steps(request.steps or config.steps), request.schedule)
    actions = None if request.actions is None else read_actions(request.actions, config)
    count = _count(request, wanted, actions)
    context = read_context(request.context or _start(folder, request.model), config)
    model = _loaded(request, folder)
    model.config = config
    seconds: list[float] = []
    _write_frames(out, _frames(model, request, context, actions, count, seconds, progress), config.fps)
    return _write_side(side, out, request, model, count, len(context), _latency(seconds))


def _write_clip(
    request: GenerateRequest, config: VideoModelConfig, folder: Path, progress: Progress | None
) -> dict[str, Any]:
    """Generate and write an image or a clip of a fixed length."""
    for name in ENDLESS:
        if getattr(request, name) not in (None, False):
            raise UsageError(f"{request.model}: makes images or clips from a class or a text and takes no --{name}")
    config = config if request.steps is None else config.with_steps(request.steps)
    count = _wanted(request, config.fps) or config.frames or 1
    config.system(count)
    out, side = _outputs(request, folder, config.fps, (".png", *VIDEOS) if count == 1 else VIDEOS)
    context = None if request.context is None else read_context(request.context, config)[None]
    if context is not None:
        config.pyramids_of(context.shape[1], count)
    model = _loaded(request, folder)
    told = request.told
    made = model.generate(
        context, num_frames=count, seed=request.seed, prompt=told.prompt, label=told.label, steps=request.steps
    )
    _write_frames(out, (lanczos_resized(frame, request.size) for frame in made.frames[0]), config.fps)
    if progress is not None:
        progress(count, count)
    latency = {"calls": len(made.seconds), "total": round(1000 * sum(made.seconds), 2)}
    return _write_side(side, out, request, model, count, 0 if context is None else context.shape[1], latency)


def lanczos_resized(frame: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A frame uint8 [H, W, 3], resized (Lanczos) to a width and height in pixels; None: unchanged."""
    if size is None or size == (frame.shape[1], frame.shape[0]):
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _write_frames(out: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Write frames uint8 [H, W, 3] in the format that the name of the file says."""
    if out.suffix == ".png":
        with replacing(out) as file:
            Image.fromarray(next(frames)).save(file, format="png", pnginfo=written_by())
    elif out.suffix == ".gif":
        write_gif(out, frames, fps)
    else:
        write_video(out, frames, fps)


def _loaded(request: GenerateRequest, folder: Path) -> VideoModel:
    model = load(folder, request.device, memory=not request.no_memory)
    return model.compile() if request.compile else model


def _write_side(
    side: Path,
    out: Path,
    request: GenerateRequest,
    model: VideoModel,
    count: int,
    context: int,
    latency: dict[str, Any],
) -> dict[str, Any]:
    """Write the side file; returns its content."""
    made = {
        "video": str(out),
        "arguments": to_dict(request),
        "frames": count,
        "fps": model.config.fps,
        "context_frames": context,
        "latency_ms": latency,
        **versions(),
        "dtype": str(next(model.net.parameters()).dtype).removeprefix("torch."),
        "world": to_dict(model.config),
    }
    with replacing(side) as file:
        file.write_text(json.dumps(made, indent=2) + "\n")
    return made


def _check_told(request: GenerateRequest, config: VideoModelConfig) -> None:
    """Raises UsageError for a prompt or label that the model does not take."""
    reader = config.conditioner
    if request.prompt is not None and reader is not None and not reader.reads_words:
        raise UsageError(f"{request.model}: reads features of an external text encoder; use it from Python")
    config.check_told(request.told)


def versions() -> dict[str, Any]:
    """Versions and thread count for the side file."""
    made = {"vidar": vidar.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"versions": made, "threads": torch.get_num_threads()}


def read_actions(path: str, config: VideoModelConfig) -> np.ndarray:
    """Read float32 [N, A] from .npy and check it against the model. Raises VidarError."""
    check_regular(Path(path))
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise VidarError(f"{path}: no such file of actions") from None
    except DAMAGE as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VidarError(f"{path}: not readable as .npy numbers ({problem})") from None
    if not isinstance(values, np.ndarray):
        raise VidarError(f"{path}: holds several arrays; save one with numpy.save")
    return config.spec.validate_actions(values, path)


def read_context(path: str, config: VideoModelConfig) -> np.ndarray:
    """Read uint8 [T, H, W, 3] of the model's size from .mp4 or .png. Raises VidarError."""
    file = Path(path)
    frames = read_picture(file)[None] if file.suffix == ".png" else read_video(file)[0]
    if frames.shape[1:3] != (config.height, config.width):
        height, width = frames.shape[1:3]
        raise VidarError(f"{file}: is {width}x{height}, this model is {config.width}x{config.height}; resize it first")
    return frames


def read_picture(file: Path) -> np.ndarray:
    """Read a picture as uint8 [H, W, 3]. Raises VidarError."""
    check_regular(file)
    try:
        with Image.open(file) as picture:
            return np.array(picture.convert("RGB"))  # a copy, so that it is writable
    except FileNotFoundError:
        raise VidarError(f"{file}: no such picture") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise VidarError(f"{file}: not readable as a picture ({problem})") from None


def _outputs(request: GenerateRequest, folder: Path, fps: float, kinds: tuple[str, ...]) -> tuple[Path, Path]:
    """The paths of the output and of its side file. kinds: the suffixes that fit what is generated.

    Raises UsageError for another kind of file, a size or frame rate that this kind cannot hold, and a file that cannot
    be replaced.
    """
    file, size = Path(request.out), request.size
    check_outputs([file], [request.context, request.actions, folder / START])
    if file.suffix not in kinds:
        what = "an image" if ".png" in kinds else "a video"
        raise UsageError(f"{file}: {what} is written as {', '.join(kinds[:-1])} or {kinds[-1]}")
    if size is not None and not all(1 <= side <= LARGEST for side in size):
        raise UsageError(f"size {size[0]}x{size[1]}: width and height must be from 1 to {LARGEST} pixels")
    if size is not None and file.suffix in (".mp4", ".webm") and any(side % 2 for side in size):
        raise UsageError(f"size {size[0]}x{size[1]}: width and height of {file.suffix} must be even")
    if file.suffix == ".gif" and fps > FASTEST:
        raise UsageError(f"{file}: a GIF has at most {FASTEST} frames per second, this has {fps:g}; write .mp4")
    side_file = file.with_suffix(".json")
    check_outputs([side_file])
    return file, side_file


def _start(folder: Path, name: str) -> str:
    if not (folder / START).is_file():
        raise UsageError(f"{name}: ships no {START}; give context frames: --context clip.mp4 or picture.png")
    return str(folder / START)


def _wanted(request: GenerateRequest, fps: float) -> int | None:
    """The number of frames from --frames or --seconds, None if neither is given. Raises UsageError."""
    seconds = request.seconds
    if seconds is None:
        return request.frames
    if request.frames is not None:
        raise UsageError("give --frames or --seconds, not both")
    if seconds > LONGEST:
        raise UsageError(f"--seconds {seconds:g}: longer than {LONGEST:g} (one day); give --frames for a longer video")
    count = round(seconds * fps)
    if count < 1:
        raise UsageError(f"--seconds {seconds:g}: less than one frame at {fps:g} frames per second")
    return count


def _count(request: GenerateRequest, wanted: int | None, actions: np.ndarray | None) -> int:
    count = wanted or (0 if actions is None else len(actions))
    if count < 1:
        raise UsageError("generate needs --frames N, --seconds S, or --actions with at least one row")
    if actions is not None and len(actions) < count:
        raise VidarError(
            f"{request.actions}: {len(actions)} actions are too few for {count} frames; give one row per frame"
        )
    return count


def _frames(
    model: VideoModel,
    request: GenerateRequest,
    context: np.ndarray,
    actions: np.ndarray | None,
    count: int,
    seconds: list[float],
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """Yield the new frames and append the duration of each to `seconds`."""
    last = time.perf_counter()
    told = request.seed, None, request.steps, request.renew, request.recache, request.prompt, request.label
    for frame in islice(model.stream(context, actions, *told), count):
        seconds.append(time.perf_counter() - last)
        yield lanczos_resized(frame, request.size)
        if progress is not None:
            progress(len(seconds), count)
        last = time.perf_counter()


def _latency(seconds: list[float]) -> dict[str, float]:
    """Latency in ms: the first frame (with the context), median and 95th percentile of the others."""
    rest = np.array(seconds[1:] or seconds) * 1000
    return {
        "first": round(seconds[0] * 1000, 2),
        "median": round(float(np.median(rest)), 2),
        "p95": round(float(np.quantile(rest, 0.95)), 2),
    }
