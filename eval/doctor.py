"""The capabilities of this machine: versions, devices, threads, back ends, video, disk."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vidar
from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.data.video import read_video, write_video
from vidar.nn.auto import AutoAttentionConfig
from vidar.nn.case import Case
from vidar.nn.choice import choose
from vidar.nn.precision import fast_dtype
from vidar.nn.runs import groups
from vidar.orders.frame import frame_order
from vidar.train.memory import available
from vidar.types import VidarError

EXTRAS = {
    "vizdoom": "vizdoom",
    "serve": "starlette",
    "window": "pygame",
    "deepspeed": "deepspeed",
    "ray": "ray",
    "flash": "flash_attn",
    "decord": "decord",
    "parquet": "pyarrow",
    "minerl": "minerl",
    "text": "transformers",
    "hub": "huggingface_hub",
    "tb": "tensorboard",
    "wandb": "wandb",
}
FOLDERS = ("configs", "data", "eval", "kernels")
LEAST_DISK = 1 << 30  # bytes; Choice: enough for a recording, a run and a demo


def examine() -> dict[str, Any]:
    """The report of `vidar doctor`; `ok` is True if all `checks` pass."""
    package = Path(vidar.__file__).parent
    free = shutil.disk_usage(Path.cwd()).free
    problem = video_problem()
    checks = {
        "folders": all((package / name / "__init__.py").is_file() for name in FOLDERS),
        "video": not problem,
        "disk": free >= LEAST_DISK,
    }
    return {
        "ok": all(checks.values()),
        "checks": checks,
        "versions": {"vidar": vidar.__version__, "python": platform.python_version(), **_versions()},
        "devices": devices(),
        "threads": {"torch": torch.get_num_threads(), "cores": os.cpu_count(), **_policy()},
        "bf16": bf16(),
        "attention": attention(),
        "extras": {name: find_spec(module) is not None for name, module in EXTRAS.items()},
        "folders": {name: _kind(package / name) for name in FOLDERS},
        "memory_gb": memory_gb(),
        "free_disk_gb": round(free / 1e9, 1),
        "problem": problem or None,
    }


def video_problem() -> str:
    """Write and read a video of one second; returns the problem, or an empty string."""
    ramp = np.linspace(0, 255, 16 * 24 * 3).reshape(1, 16, 24, 3)
    frames = np.repeat(ramp, 10, axis=0).astype(np.uint8)
    with tempfile.TemporaryDirectory(prefix="vidar-doctor-") as folder:
        file = Path(folder) / "second.mp4"
        try:
            write_video(file, frames, fps=10)
            back, fps = read_video(file)
        except VidarError as error:
            return str(error)
    if back.shape != frames.shape or fps != 10:
        return f"a video of {frames.shape} at 10 fps came back as {back.shape} at {fps:g}"
    far = float(np.abs(back.astype(float) - frames).mean())
    return f"a video came back {far:.1f} levels of 255 off on average" if far > 8 else ""


def devices() -> list[str]:
    """The CPU and the other devices that torch can compute on."""
    names = [f"{_cpu()} ({torch.backends.cpu.get_cpu_capability()})"]
    names += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return names + (["mps"] if torch.backends.mps.is_available() else [])


def bf16() -> dict[str, str]:
    """Whether bfloat16 is fast on each kind of device, which decides `precision=auto`."""
    kinds = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    fast = {kind: fast_dtype(kind) == torch.bfloat16 for kind in kinds}
    return {kind: "fast" if yes else "emulated, so precision=auto takes fp32" for kind, yes in fast.items()}


def memory_gb() -> dict[str, float | None]:
    """Free memory per device in GB; None if the system does not tell."""
    kinds = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    free = {kind: available(torch.device(kind)) for kind in kinds}
    return {f"{kind}_free": None if left is None else round(left / 1e9, 1) for kind, left in free.items()}


def attention() -> dict[str, str]:
    """The form of attention that a world with a causal frame window uses, in training and in play."""
    order, grid = frame_order(4, 5, 12, past=7)
    view = compile_layout(twin(range(12)), order, [grid]).views["main"]
    if torch.cuda.is_available():
        form = AutoAttentionConfig().build(view, torch.device("cuda"), True)
        return {"train": form.__qualname__.partition(".")[0], "play": "sdpa"}
    runs, slots, dtype = tuple(groups(view) or ()), view.q.cell.shape[1], fast_dtype()
    train = Case("cpu", dtype, 6, 2, slots, slots, 128, masked=True, ring=False, backward=True, groups=runs)
    play = Case("cpu", dtype, 1, 6, 144, 9 * 144, 64, masked=True, ring=True)
    return {"train": choose(train), "play": choose(play)}


def _cpu() -> str:
    """The name of the CPU; platform.processor() often returns its family only."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "cpu"


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"torch": torch.__version__}
    for name in ("av", "numpy", "gymnasium", "vizdoom"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _policy() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}


def _kind(place: Path) -> str:
    return "link" if place.is_symlink() else "folder" if place.is_dir() else "missing: check out with symlinks"
