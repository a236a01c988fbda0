"""Ahead-of-time compilation (torch.export and AOTInductor), cached on disk: a world compiles once, then loads."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from vidar.data.atomic import replacing
from vidar.types import UsageError

SOURCES = ("nn", "core", "types.py")  # the parts of vidar that a compiled function depends on


class NotMade(UsageError):
    """Raised for a function that is not compiled yet and must not be compiled now."""


class AheadOfTime:
    """Compiles functions for this machine, see `StaticBackbone`; `folder` is the cache of compiled functions.

    make: if False, NotMade is raised for a function that is not in the cache.

    The file name of a function is a digest of its weights, example shapes, the source of vidar that it traces, the
    torch version, the processor and the number of threads. Raises UsageError if there is no C++ compiler.
    """

    def __init__(self, folder: Path | None = None, make: bool = True) -> None:
        self.folder, self.make = cache_folder() if folder is None else folder, make
        self.loaded: dict[Path, Callable[..., Any]] = {}

    def __call__(self, module: nn.Module, example: tuple[Any, ...]) -> Callable[..., Any]:
        """The module with its weights as constants, for arguments in the shapes of `example`."""
        file = self.folder / f"{digest(module, example)}.pt2"
        if file in self.loaded:
            return self.loaded[file]
        if not file.is_file():
            if not self.make:
                raise NotMade(f"{file}: not compiled yet")
            check_compiler()
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as made, replacing(file) as temporary:
                shutil.move(package(module, example, Path(made) / "function.pt2"), temporary)
        import torch._inductor as inductor

        self.loaded[file] = inductor.aoti_load_package(str(file))
        return self.loaded[file]


def package(module: nn.Module, example: tuple[Any, ...], file: Path) -> str:
    """Export the module, compile it with constant weights (`freezing`), and write it."""
    import torch._inductor as inductor

    exported = torch.export.export(module, example)
    options = {"freezing": True}
    return inductor.aoti_compile_and_package(exported, package_path=str(file), inductor_configs=options)


def cache_folder() -> Path:
    """The cache folder, next to torch's other model files ($TORCH_HOME, by default ~/.cache/torch)."""
    return Path(torch.hub.get_dir()).parent / "vidar"


def check_compiler() -> None:
    """Raises UsageError if the compiler that torch would call is missing."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise UsageError(f"compiling needs a C++ compiler, but {name} is missing; install it or use --no-compile")


def digest(module: nn.Module, example: tuple[Any, ...]) -> str:
    """20 hex digits; see `AheadOfTime`."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for name in SOURCES:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    leaves, shape = pytree.tree_flatten(example)
    told = [(tuple(x.shape), str(x.dtype)) if isinstance(x, Tensor) else x for x in leaves]
    machine = torch.__version__, torch.cpu.get_capabilities(), torch.get_num_threads()
    found.update(repr((told, str(shape), str(module), machine)).encode())
    return found.hexdigest()[:20]
