"""A world that gets faster while it is played: its frame is compiled by a process beside it and taken over when ready.

    python -m vidar.play.compiling MODEL CAPACITY STEPS THREADS

compiles as `vidar play MODEL` would (STEPS 0: the model's own) and keeps the functions on disk; it is what runs beside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import torch

from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.nn.ahead import AheadOfTime, NotMade, check_compiler
from vidar.nn.static import Build
from vidar.play.engine import PlayEngine
from vidar.types import UsageError


def kept(world: VideoModel, capacity: int, steps: int | None) -> bool | Build:
    """What a PlayEngine takes as `compiled` where this world's functions are on disk already; False: they are not."""
    build = AheadOfTime(make=False)
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

    model: the shipped name or folder of the engine's world. Use as a context: at its end the process ends too, and the
    engine stays as it is. It stays eager where compiling fails.
    """

    def __init__(self, engine: PlayEngine, model: str, steps: int | None = None) -> None:
        self.engine, self.steps = engine, steps
        told = model, str(engine.capacity), str(steps or 0), str(torch.get_num_threads())
        self.command = [sys.executable, "-m", "vidar.play.compiling", *told]
        self.thread = threading.Thread(target=self._run, name="vidar-compile", daemon=True)

    def __enter__(self) -> Compiling:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdin=quiet, stdout=quiet, stderr=quiet)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.thread.join()

    def _run(self) -> None:
        told = self.engine.world, self.engine.capacity, self.steps
        if self.process.wait() == 0 and (build := kept(*told)):
            self.engine.use(told[0].rollout(*told[1:], compiled=build).model)


def main(model: str, capacity: int, steps: int, threads: int) -> None:
    """See the top of the file."""
    if hasattr(os, "nice"):
        os.nice(19)
    torch.set_num_threads(threads)
    load(model).rollout(capacity, steps or None, compiled=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
