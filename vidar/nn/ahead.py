"""Ahead-of-time compilation (torch.export and AOTInductor), cached on disk: a world compiles once, then loads."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, BinaryIO

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from vidar.data.atomic import replacing
from vidar.data.cache import cache_folder, clean, hold, remove, say, unwritable
from vidar.types import UsageError, VidarError

SOURCES = ("nn", "core", "types.py")  # the parts of vidar that a compiled function depends on
FAILURES = (OSError, RuntimeError, SubprocessError)  # of the compiler


class NotMade(UsageError):
    """Raised for a function that is not compiled yet and must not be compiled now."""


class AheadOfTime:
    """Compiles functions for this machine, see `StaticBackbone`; `folder` is the cache of compiled functions.

    make: if False, NotMade is raised for a function that is not in the cache.

    The name of a file is KEY-CONTENT.pt2. KEY is a digest of the function's weights, example shapes, the source of
    vidar that it traces, the torch version, the processor and the number of threads; CONTENT is a digest of the file. A
    damaged file is compiled again, with one line. Where the folder cannot be written, functions are compiled for this
    process only, with one line. Raises UsageError if there is no C++ compiler, VidarError if compiling fails.
    """

    def __init__(self, folder: Path | None = None, make: bool = True) -> None:
        self.folder, self.make = cache_folder() if folder is None else folder, make
        self.loaded: dict[str, Callable[..., Any]] = {}
        self.held: list[BinaryIO] = []

    def __call__(self, module: nn.Module, example: tuple[Any, ...]) -> Callable[..., Any]:
        """The module with its weights as constants, for arguments in the shapes of `example`."""
        key = digest(module, example)
        if key not in self.loaded:
            self.loaded[key] = self._stored(key) or self._made(key, module, example)
        return self.loaded[key]

    def _stored(self, key: str) -> Callable[..., Any] | None:
        """The function from the folder, or None. Says what is damaged."""
        problems = list[str]()
        for file in sorted(self.folder.glob(f"{key}-*.pt2")):
            held = hold(file)
            if held is None:
                continue
            try:
                if content(file) != file.stem.partition("-")[2]:
                    raise ValueError("damaged: not the content that was written")
                function = load(file)
            except (OSError, RuntimeError, ValueError) as error:
                problems.append(f"{file}: cannot be used ({first_line(error)}); it is compiled again")
                held.close()
            else:
                self.held.append(held)
                return function
        for problem in problems:
            say(problem)
        return None

    def _made(self, key: str, module: nn.Module, example: tuple[Any, ...]) -> Callable[..., Any]:
        if not self.make:
            raise NotMade(f"{self.folder}: {key} is not compiled yet")
        check_compiler()
        problem = unwritable(self.folder, 1)
        if problem:
            say(f"{problem}; compiling for this process only (--cache DIR: another folder)")
        with tempfile.TemporaryDirectory(prefix="vidar-compile-") as place:
            made = Path(place) / "function.pt2"
            compile_to(made, module, example)
            if problem:
                return load(made)
            file = self.folder / f"{key}-{content(made)}.pt2"
            with replacing(file) as temporary:
                shutil.move(made, temporary)
        for other in self.folder.glob(f"{key}-*.pt2"):
            if other != file:
                remove(other)
        clean(self.folder, [file])
        return self._stored(key) or load(file)


def compile_to(file: Path, module: nn.Module, example: tuple[Any, ...]) -> None:
    """`package`; if it fails, again without the files that torch's compiler keeps, which may be damaged.

    Raises VidarError if it fails again.
    """
    from torch._inductor.utils import fresh_inductor_cache

    try:
        package(module, example, file)
    except FAILURES as error:
        say(f"compiling failed ({first_line(error)}); trying once more without the cache of torch's compiler")
        try:
            with fresh_inductor_cache():
                package(module, example, file)
        except FAILURES as again:
            raise VidarError(f"compiling failed ({first_line(again)}); --no-compile goes without") from again


def load(file: Path) -> Callable[..., Any]:
    """The function in a .pt2 file. Raises RuntimeError if it cannot be loaded."""
    import torch._inductor as inductor

    return inductor.aoti_load_package(str(file))


def content(file: Path) -> str:
    """16 hex digits of the hash of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def package(module: nn.Module, example: tuple[Any, ...], file: Path) -> str:
    """Export the module, compile it with constant weights (`freezing`), and write it."""
    import torch._inductor as inductor

    exported = torch.export.export(module, example)
    options = {"freezing": True}
    return inductor.aoti_compile_and_package(exported, package_path=str(file), inductor_configs=options)


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
