"""Time that decoding spends outside the network: a raster of tokens, and frames of a world, eager and compiled.

    python scripts/bench_bookkeeping.py [MODEL] [FRAMES]

Every turn times the whole and, inside it, the network (embedding to head, with the conditioner's layers and the
writes of keys). The rest is bookkeeping: layouts, masks, places, noise, the objective, codes. Turns alternate (A, B,
A, B). Times are thread CPU time, so other work on the machine does not count. The picture is not decoded. The tokens:
256 in raster order, at batch 8 and 1, with one of 512 labels each and a network of width 512 with 8 layers; each token
sees all earlier ones.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidar.cache.ring import RingState
from vidar.core.decode import Decoder
from vidar.core.step import by_waves
from vidar.eval.provenance import hardware
from vidar.model.load import load
from vidar.nn.backbone import BackboneConfig
from vidar.nn.static import StaticBackbone
from vidar.orders.token import token_order
from vidar.rng import Rng
from vidar.types import MEMORY, Past

TURNS, WARM_UP, LABELS = 3, 20, 512


class Inside:
    """CPU seconds spent in the functions that it wraps; a function called by another wrapped function counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that it is timed."""

        def run(*args: Any, **named: Any) -> Any:
            begun, self._depth = time.thread_time(), self._depth + 1
            try:
                return function(*args, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.thread_time() - begun

        return run


class Tokens:
    """Predict and commit: the label of a token from the previous token."""

    passes = ((MEMORY, 0),)
    input_width = 64

    def __init__(self) -> None:
        self.book = torch.randn(LABELS, self.input_width, generator=torch.Generator().manual_seed(0))

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The code of the previous token, [1, I]."""
        return torch.zeros(1, self.input_width) if unit == 0 else self.book[past.codes[unit - 1]]

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """Return x."""
        return x

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """A label [1] (Gumbel-max)."""
        return (out + rng.gumbel("token", unit, 0, tuple(out.shape))).argmax(-1)

    def finish(self, x: Tensor) -> Tensor:
        """The label."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """The input that it was predicted from."""
        return self.start(unit, past, rng)


def token_side(batch: int) -> Callable[[], tuple[float, float]]:
    """A turn of 256 tokens: total seconds, and seconds of the network."""
    order, grid = token_order(1, 16, 16)
    config = BackboneConfig(width=512, depth=8, heads=8, head_width=64, in_width=64, out_width=LABELS)
    torch.manual_seed(0)
    net, inside = config.build().eval(), Inside()
    run = inside(net.run)

    def model(inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        net.run = run
        return net(inputs, layout, None, state)

    @torch.inference_mode()
    def turn() -> tuple[float, float]:
        state = RingState.create(order, [grid] * batch, net.ring_shapes())
        decoder = Decoder(model, order, [grid] * batch, Tokens(), [Rng(0, b) for b in range(batch)])
        inside.seconds, begun = 0.0, time.thread_time()
        for step in by_waves(order, Tokens.passes):
            decoder.step(step, state)
        return time.thread_time() - begun, inside.seconds

    return turn


def frame_side(model: str, frames: int, compiled: bool) -> Callable[[], tuple[float, float]]:
    """A turn of `frames` frames: median seconds per frame, and those of the network."""
    world, inside = load(model), Inside()
    streams = world.rollout(1, compiled=compiled)
    rest = torch.from_numpy(world.config.actions.noop()).expand(1, -1)
    world.net.conditioner._mapped = inside(world.net.conditioner._mapped)
    world.net.backbone.run = inside(world.net.backbone.run)
    streams.state.write = inside(streams.state.write)
    if compiled:
        built = StaticBackbone._function
        StaticBackbone._function = lambda self, layout, args: inside(built(self, layout, args))
    streams.begin(0, None, None, 0)
    for _ in range(WARM_UP):
        streams.frame(rest)

    def turn() -> tuple[float, float]:
        spent: list[tuple[float, float]] = []
        for _ in range(frames):
            inside.seconds, begun = 0.0, time.thread_time()
            streams.frame(rest)
            spent.append((time.thread_time() - begun, inside.seconds))
        whole, network = zip(*spent)
        return statistics.median(whole), statistics.median(network)

    return turn


def main(model: str = "doom", frames: str = "100") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    sides = {
        "256 tokens, batch 8": token_side(8),
        "256 tokens, batch 1": token_side(1),
        f"a frame of {model}, eager": frame_side(model, int(frames), False),
        f"a frame of {model}, compiled": frame_side(model, int(frames), True),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, turn in sides.items():
            found[name].append(turn())
    print(f"{hardware('cpu')}, torch {torch.__version__}, one thread; ms in all, of the network, share outside")
    for name, turns in found.items():
        shares = [100 * (1 - network / whole) for whole, network in turns]
        whole, network = (1e3 * statistics.median(column) for column in zip(*turns))
        each = ", ".join(f"{share:.1f}" for share in shares)
        print(f"{name:28} {whole:9.2f} {network:9.2f}   {statistics.median(shares):5.1f} %  (turns {each})")


if __name__ == "__main__":
    main(*sys.argv[1:])
