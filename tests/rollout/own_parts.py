"""What a newcomer adds: an objective, an order, a policy of the cache and a way to guide, in a file of their own."""

import torch
from pydantic import Field

from vidar.cache.policy import PolicyConfig
from vidar.config import Config
from vidar.core.grid import frame_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, never
from vidar.objectives.protocols import ObjectiveConfig
from vidar.orders.config import OrderConfig
from vidar.sampling.guidance import GuideConfig
from vidar.types import MEMORY, PAD, Loss, Target


class DilatedOrderConfig(OrderConfig):
    """A frame sees itself and the frames 1, 2, 4, .. before it, at most `window`."""

    window: int = Field(default=4, ge=1)

    def build(self, height, width, num_frames=None):
        def sees(q, k):
            back = q - k
            return (back == 0) | ((back > 0) & (back <= self.window) & ((back & (back - 1)) == 0))

        relation, size = Relation(sees, capacity=self.window * height * width), self.window
        order = Order({"main": relation}, num_frames, num_frames, needs=never, reach=size, period=1, warmup=size)
        return order, frame_grid(height, width, num_frames)


class NextFrameConfig(ObjectiveConfig):
    """Regression: the code of a frame from that of the frame before, predicted and committed in one call."""

    def make(self, coded, grid, dtype=torch.float32):
        return NextFrame(coded.channels, grid, dtype)

    def calls(self, order):
        return 1


class NextFrame:
    passes = ((MEMORY, 0),)

    def __init__(self, channels, grid, dtype):
        self.grid, self.dtype, self.channels = grid, dtype, channels
        self.input_width, self.output_width, self.given = channels, channels, {}

    def needs(self, q, k):
        return k == q - 1

    def start(self, unit, past, rng):
        shape = len(self.grid.sites(unit)), self.channels
        return past.codes[unit - 1].to(self.dtype) if unit else torch.zeros(shape, dtype=self.dtype)

    def inputs(self, unit, x, step):
        return x

    def update(self, unit, x, out, step, rng):
        return x + out.to(x)

    def finish(self, x):
        return x

    def memory(self, unit, code, past, rng):
        return self.start(unit, past, rng)

    def latents(self, codes):
        return torch.cat([codes[unit] for unit in sorted(codes)])

    def prepare(self, codes, layout, rngs, *, play=False, levels=None, context=None):
        frames = codes.to(self.dtype).unflatten(1, (-1, len(self.grid.sites(0))))
        before = frames.roll(1, 1)
        before[:, 0] = 0
        known = (torch.arange(frames.shape[1], device=codes.device) > 0).to(frames).expand(len(frames), -1)
        asked = known[..., None].expand(before.shape[:-1]).flatten(1)
        return before.flatten(1, 2), Target((frames - before).flatten(1, 2), asked), None

    def loss(self, out, target):
        error = (out.float() - target.value.float()).square().mean(-1)
        total = (error * target.weight).sum() / target.weight.sum()
        return Loss(total, {"regression": total.detach()})


class ForgetOddConfig(PolicyConfig):
    """Frames of odd numbers are forgotten once they are two frames old."""

    def build(self):
        return forget_odd


def forget_odd(state):
    for name, ring in state.rings.items():
        for row, told in enumerate(state.rows):
            unit = ring.slots.unit[row]
            old = (ring.slots.cell[row] != PAD) & (unit % 2 == 1) & (unit < told.clock - 2)
            if bool(old.any()):
                yield name, row, ring.slots.site[row][old]


class ClippedGuideConfig(GuideConfig):
    """none + w (cond - none), no number further from cond than `most`."""

    weight: float = 2.0
    most: float = 0.5

    def weights(self, call, calls, frames):
        return torch.full(frames.shape, self.weight)

    def combine(self, out, weights):
        cond, none = out.chunk(2)
        far = (weights.to(out).reshape(-1, 1, 1) - 1) * (cond - none)
        joined = cond + far.clamp(-self.most, self.most)
        return torch.cat([joined, joined])


PARTS: tuple[type[Config], ...] = (DilatedOrderConfig, NextFrameConfig, ForgetOddConfig, ClippedGuideConfig)
