"""The hardware and versions that a measurement was made with, without names of hosts or paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import vidar

PACKAGES = ("torch", "numpy", "av", "vizdoom")


def hardware(device: torch.device | str = "cpu") -> str:
    """The model of the processor with its usable cores, or of the GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor()}, {usable} {'core' if usable == 1 else 'cores'}"


def versions() -> dict[str, str]:
    """Versions of vidar, Python and the packages that affect the figures.

    Packages that are not installed are left out.
    """
    found = {"vidar": vidar.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def shown(path: object) -> str:
    """A path as a page shows it: relative to the working folder if it is below it, else as given."""
    here = Path(str(path))
    inside = here.is_absolute() and here.is_relative_to(Path.cwd())
    return str(here.relative_to(Path.cwd())) if inside else str(path)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def without(no_memory: bool) -> dict[str, bool]:
    """What a report says of a world that ran without its memory; nothing of others."""
    return {"no_memory": True} if no_memory else {}


def option_words(option: str, value: Any) -> list[str]:
    """An option on a command line; True: a flag."""
    return [f"--{option}"] if value is True else [f"--{option}", shown(value)]
