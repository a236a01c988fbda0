"""Frames per second of a free-running session, with and without work parallel to the generating thread.

    python scripts/bench_overlap.py [MODEL] [CODEC] [FRAMES]

encode: JPEG or H.264 in a thread of the player, compared with encoding on the generating thread. decode: the
tokenizer's decoder in its own thread, one frame behind the network, compared with an engine that waits for it. `vidar
play` runs both in parallel. Sides alternate (A, B, A, B); the cores must be idle for meaningful figures. The CPU time
of each part gives the maximum possible gain.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from vidar.eval.provenance import hardware, versions
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.play.codec import H264, Coder, Jpeg
from vidar.play.engine import Pictures, PlayEngine, Start
from vidar.play.gallery import Gallery, own_clips

WARM_UP, TURNS, SEED = 5, 3, 0


def coder_of(world: VideoModel, codec: str) -> Coder:
    """A new encoder: "jpeg" or "h264"."""
    config = world.config
    return {"jpeg": Jpeg, "h264": lambda: H264(config.height, config.width, config.fps)}[codec]()


class WaitingEngine(PlayEngine):
    """An engine whose network waits for the decoder."""

    def _frame(self, actions: np.ndarray, rows: frozenset[int], steps: int) -> Pictures:
        pictures = super()._frame(actions, rows, steps)
        pictures.result()
        return pictures


class EncodingEngine(PlayEngine):
    """An engine that encodes the frames of its first slot itself."""

    coder: Coder

    def _frame(self, actions: np.ndarray, rows: frozenset[int], steps: int) -> Pictures:
        pictures = super()._frame(actions, rows, steps)
        self.coder.code(pictures.result()[0], 0, self.meter.frames + 1)
        return pictures


def session(engine: PlayEngine, coder: Coder, frames: int) -> float:
    """Frames per second shown to one player, encoded in the player's thread unless the engine encodes."""
    if isinstance(engine, EncodingEngine):
        engine.coder = coder
    with engine:
        slot, after, begun = engine.sit(Start(Gallery(own_clips(engine.world))[0], None, SEED)), None, 0.0
        first = 0
        while after is None or after < first + frames:
            shown = slot.newest(after)
            assert shown is not None
            if not isinstance(engine, EncodingEngine):
                coder.code(shown.frame, 0, shown.number)
            after = shown.number
            if not first and after >= WARM_UP:
                first, begun = after, time.perf_counter()
        return (after - first) / (time.perf_counter() - begun)


def costs(world: VideoModel, codec: str, frames: int) -> dict[str, float]:
    """Median CPU milliseconds of each part of a frame, one after the other on one thread."""
    streams, coder = world.rollout(1), coder_of(world, codec)
    streams.begin(0, Gallery(own_clips(world))[0], None, SEED)
    rest, spent = torch.from_numpy(world.config.actions.noop())[None], list[list[float]]()
    for number in range(1, frames + 1):
        marks = [time.thread_time()]
        codes = streams.frame(rest)[:, None]
        marks.append(time.thread_time())
        frame = world.decode(codes)[0][0, 0].numpy()
        marks.append(time.thread_time())
        coder.code(frame, 0, number)
        marks.append(time.thread_time())
        spent.append([1e3 * (later - mark) for mark, later in zip(marks, marks[1:])])
    return dict(zip(("network", "decoder", codec), map(statistics.median, zip(*spent))))


def alternate(name: str, waiting: Callable[[], float], beside: Callable[[], float]) -> None:
    """One line per side, and the gain of the second."""
    sides = {"one after the other": waiting, "beside": beside}
    rates: dict[str, list[float]] = {told: [] for told in sides}
    for _ in range(TURNS):
        for told, play in sides.items():
            rates[told].append(play())
    for told, found in rates.items():
        print(f"{name}, {told:>19}: {', '.join(f'{rate:.2f}' for rate in found)} frames/s")
    before, after = map(statistics.median, rates.values())
    print(f"{name}, gain: {after / before:.3f}")


def main(model: str = "doom", codec: str = "jpeg", frames: str = "100") -> None:
    """Print both comparisons."""
    torch.set_num_threads(1)
    world, count = load(model), int(frames)
    told = ", ".join(f"{name} {value}" for name, value in versions().items())
    print(f"{hardware('cpu')}, {told}, one thread, world {model}, {codec}, {count} frames per run")
    parts = costs(world, codec, count)
    print("CPU: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in parts.items()))

    def played(kind: type[PlayEngine]) -> Callable[[], float]:
        return lambda: session(kind(world), coder_of(world, codec), count)

    alternate("encode", played(EncodingEngine), played(PlayEngine))
    alternate("decode", played(WaitingEngine), played(PlayEngine))


if __name__ == "__main__":
    main(*sys.argv[1:])
