"""Re-encoding: a long dream goes on from its own pictures (VideoAR's way beyond the training length; scale-wise 6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from vidar.rng import Rng
from vidar.types import UsageError
from vidar.world.streams import Streams

APART = 2**32  # between the video numbers of noise before and after a renewal, as frames count from 0 again


class Renewal:
    """After every `every` frames all streams begin anew after the last ones of them, decoded and encoded.

    As many as a context may have, at most `every`; the frame counter starts at 0 again, so positions stay those of
    training. What a code holds that no picture shows is dropped.
    """

    def __init__(self, streams: Streams, every: int, rngs: Sequence[Rng]) -> None:
        """rngs: one per stream. Raises UsageError for `every` below 1."""
        if every < 1:
            raise UsageError(f"renew is {every}; give a number of frames, 1 or more")
        self.streams, self.every, self.rngs, self.count = streams, every, rngs, 0
        keep = min(every, streams.world.config.context)
        self.codes: deque[Tensor] = deque(maxlen=keep)
        self.actions: deque[Tensor] = deque(maxlen=keep)

    def after(self, code: Tensor, action: Tensor) -> None:
        """Tell of a frame that was made: code [B, n, C], its action [B, A]."""
        self.codes.append(code)
        self.actions.append(action)
        self.count += 1
        if self.count % self.every:
            return
        world, number = self.streams.world, self.count // self.every
        context = world.encode(world.decode(torch.stack(list(self.codes), 1))[0])
        rngs = [Rng(rng.seed, rng.video + number * APART) for rng in self.rngs]
        self.streams.open(range(len(context)), context, torch.stack(list(self.actions), 1), rngs)
