"""A world that gets faster while it is played: its frame is compiled by a process beside it and taken over when ready.

    python -m vidar.play.compiling MODEL CAPACITY STEPS THREADS [FOLDER [GIB [CACHE]]]

compiles as `vidar play MODEL` would (STEPS 0: the model's own) and keeps the functions in FOLDER (default: the cache
folder); it is what runs beside. GIB, CACHE: see `vidar.data.cache.keep_in`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from vidar.data.cache import cache_folder, chosen, keep_in, limit, say
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.nn.ahead import AheadOfTime, NotMade, check_compiler
from vidar.nn.static import Build
from vidar.play.engine import PlayEngine
from vidar.types import UsageError, VidarError


def kept(world: VideoModel, capacity: int, steps: int | None, folder: Path | None = None) -> bool | Build:
    """What a PlayEngine takes as `compiled` if this world's functions are in the folder; False: they are not."""
    build = AheadOfTime(folder, make=False)
    try:
        world.rollout(capacity, steps, build)
    except NotMade:
        return False
    return build  # which holds them now


def may_compile(world: VideoModel) -> bool:
    """Whether this machine and this world let their frames be compiled."""
    try:
        check_compiler()
    except UsageError:
        return False
    relations = world.config.system(pyramid=world.pyramid).order.relations.values()
    return world.device.type == "cpu" and not any(relation.fold for relation in relations)


class Compiling:
    """Compile beside an engine that plays, at the lowest priority; then the engine goes over to it (`PlayEngine.use`).

    model: the shipped name or folder of the engine's world. folder: for the functions; None: the cache folder. Use as a
    context: at its end the process ends too, and the engine stays as it is. If compiling fails, one line says why and
    the engine stays as it is.
    """

    def __init__(self, engine: PlayEngine, model: str, steps: int | None = None, folder: Path | None = None) -> None:
        self.engine, self.steps, self.folder = engine, steps, folder or cache_folder()
        told = model, engine.capacity, steps or 0, torch.get_num_threads(), self.folder, limit() / 2**30, chosen() or ""
        self.command = [sys.executable, "-m", "vidar.play.compiling", *map(str, told)]
        self.thread = threading.Thread(target=self._run, name="vidar-compile", daemon=True)
        self._left = False

    def __enter__(self) -> Compiling:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, text=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self.process.kill()
        self.thread.join()

    def _run(self) -> None:
        told = self.engine.world, self.engine.capacity, self.steps
        _, said = self.process.communicate()
        if self._left:
            return
        if self.process.returncode == 0 and (build := kept(*told, self.folder)):
            self.engine.use(told[0].rollout(*told[1:], compiled=build).model)
        else:
            why = ([line for line in said.splitlines() if line.strip()] or ["no reason was given"])[-1]
            say(f"compiling failed ({why.removeprefix('vidar: ')}); the game goes on as it is")


def main(model: str, capacity: int, steps: int, threads: int, *kept_in: str) -> None:
    """See the top of the file."""
    folder, gib, cache = (*kept_in, *("", "", "")[len(kept_in) :])
    if hasattr(os, "nice"):
        os.nice(19)
    torch.set_num_threads(threads)
    try:
        keep_in(cache or None, float(gib) if gib else None)
        load(model).rollout(capacity, steps or None, AheadOfTime(Path(folder) if folder else None))
    except VidarError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
