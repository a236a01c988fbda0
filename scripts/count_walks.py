"""How many files and functions of vidar one operation enters: a training update, a key press to its picture.

    python scripts/count_walks.py

Uses a profile hook in real runs on one thread: the update of a tiny world_doom (2 clips of 5 frames, with
self-generated context), and a frame of a tiny doom for one player, in which a wrong guess is discarded and the frame
is generated, decoded and encoded. Counts what a run enters once it is warm: the second update, the fourth frame.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import vidar
from vidar.configs.doom import world_doom
from vidar.play.codec import Jpeg
from vidar.play.engine import PlayEngine, Start
from vidar.train.engine import PlainEngine
from vidar.train.latents import LatentBatch
from vidar.train.loop import TrainState, train_step

ROOT = str(Path(vidar.__file__).resolve().parent)


def entered(work: Callable[[], object]) -> tuple[int, int, int]:
    """Files, functions, and calls from one file into another."""
    files, functions, crossed = set[str](), set[tuple[str, str, int]](), 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal crossed
        name = str(Path(frame.f_code.co_filename).resolve()) if event == "call" else ""
        if not name.startswith(ROOT) and "/vidar/" not in name.replace("site-packages", ""):
            return
        files.add(name)
        if not frame.f_code.co_name.startswith("<"):  # comprehensions and lambdas are parts of functions
            functions.add((name, frame.f_code.co_qualname, frame.f_code.co_firstlineno))
        back = frame.f_back
        crossed += back is not None and back.f_code.co_filename != frame.f_code.co_filename

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return len(files), len(functions), crossed


def batch(number: int, channels: int, sites: int) -> LatentBatch:
    """Artificial latents of two clips."""
    generator = torch.Generator().manual_seed(number)
    codes = torch.randn(2, 5, sites, channels, generator=generator).bfloat16()
    unknown = torch.zeros(2, 5, dtype=torch.bool)
    return LatentBatch(codes, torch.zeros(2, 5, 5), unknown, torch.arange(2) + 2 * number, ["a", "b"])


def training() -> tuple[int, int, int]:
    """The second update of a run."""
    config: Any = world_doom(preset="tiny")
    own = config.method.own_context.replace(share=1.0)
    method = config.method.replace(clip_frames=5, own_context=own).build()
    model = method.build_model()
    nothing: Any = None
    with tempfile.TemporaryDirectory() as folder:
        plain = config.replace(precision="fp32")
        job = TrainState(plain, Path(folder), method, nothing, PlainEngine(plain, model, torch.device("cpu")))
        height, width = config.method.world.sites
        told = config.method.world.channels, height * width
        train_step(job, batch(0, *told), 1e-3)
        job.counters.cursor += 1
        return entered(lambda: train_step(job, batch(1, *told), 1e-3))


def playing() -> tuple[int, int, int]:
    """A key press and the encoded frame that answers it."""
    world = world_doom(preset="tiny").method.world.build()
    engine = PlayEngine(world, 1, fps=1.0)
    frames = np.zeros((4, world.config.height, world.config.width, 3), np.uint8)
    slot, coder, key = engine.sit(Start(frames, None, 1)), Jpeg(), np.zeros(5, np.float32)
    for _ in range(3):
        slot.asked = time.monotonic()
        engine.round()

    def press() -> None:
        key[0] = 1 - key[0]
        slot.press(key)
        slot.asked = time.monotonic()
        engine.round()
        assert slot.shown is not None
        coder.code(slot.shown.frame, 0, slot.shown.number)

    return entered(press)


def main() -> None:
    """Print both."""
    torch.set_num_threads(1)
    for name, work in (("a training update", training), ("a key press", playing)):
        files, functions, crossed = work()
        print(f"{name}: {files} files, {functions} functions, {crossed} calls from one file into another")


if __name__ == "__main__":
    main()
