"""What may happen to streams between two frames: a dream goes on from its own pictures; a switch counts at once.

Re-encoding is VideoAR's way beyond the training length (scale-wise 6); keys made anew at a switch are LongLive's
(causal-diffusion 11.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidar.rng import Rng
from vidar.types import UsageError
from vidar.world.decoding import looks_back
from vidar.world.streams import Streams

Picture = Callable[[], Tensor]  # -> uint8 [B, H, W, 3]
APART = 2**32  # between the video numbers of noise before and after a renewal, as frames count from 0 again


class Follower:
    """Told of every frame of all streams: before it is made, and after."""

    def before(self, action: Tensor) -> None:
        """The frame will be made under action [B, A]."""

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """A frame was made: code [B, n, C], its action [B, A] and what gives its picture."""


class Renewal(Follower):
    """After every `every` frames all streams begin anew after the last ones of them, decoded and encoded.

    As many as a context may have, at most `every`; the frame counter starts at 0 again, so positions stay those of
    training. What a code holds that no picture shows is dropped. Where the tokenizer looks back, the pictures are those
    that were shown.
    """

    def __init__(self, streams: Streams, every: int, rngs: Sequence[Rng]) -> None:
        """rngs: one per stream. Raises UsageError for `every` below 1."""
        if every < 1:
            raise UsageError(f"renew is {every}; give a number of frames, 1 or more")
        self.streams, self.every, self.rngs, self.count = streams, every, rngs, 0
        keep = min(every, streams.world.config.context)
        self.codes: deque[Tensor] = deque(maxlen=keep)
        self.actions: deque[Tensor] = deque(maxlen=keep)
        self.pictures: deque[Tensor] = deque(maxlen=keep)

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """See `Follower`."""
        self.codes.append(code)
        self.actions.append(action)
        if looks_back(self.streams.world.config):
            self.pictures.append(picture())
        self.count += 1
        if self.count % self.every:
            return
        world, number = self.streams.world, self.count // self.every
        context = world.encode(self._shown())
        rngs = [Rng(rng.seed, rng.video + number * APART) for rng in self.rngs]
        self.streams.open(range(len(context)), context, torch.stack(list(self.actions), 1), rngs)

    def _shown(self) -> Tensor:
        """The last pictures, uint8 [B, T, H, W, 3]."""
        if self.pictures:
            return torch.stack(list(self.pictures), 1)
        return self.streams.world.decode(torch.stack(list(self.codes), 1))[0]


class Switch(Follower):
    """Streams whose action changes see their last frames as if they had been made under the new one (`recache`)."""

    def __init__(self, streams: Streams, context: Tensor, actions: Tensor | None) -> None:
        """context [B, T, n, C]; actions [B, T, A] or None: unknown, so that the first one is no switch."""
        self.streams = streams
        self.codes = deque(context.unbind(1), maxlen=streams.tape.values.shape[1])
        self.last = None if actions is None else actions[:, -1]

    def before(self, action: Tensor) -> None:
        """See `Follower`."""
        if self.last is None:
            return
        rows = torch.nonzero((action != self.last.to(action)).any(1))[:, 0]
        if len(rows):
            codes = torch.stack(list(self.codes), 1)[rows]
            told = action[rows, None].expand(-1, codes.shape[1], -1)
            self.streams.recache(rows.tolist(), codes, told)

    def after(self, code: Tensor, action: Tensor, picture: Picture) -> None:
        """See `Follower`."""
        self.codes.append(code)
        self.last = action


def followed(
    streams: Streams,
    context: Tensor,
    actions: Tensor | None,
    rngs: Sequence[Rng],
    renew: int | None,
    recache: bool,
) -> Follower:
    """What `World.codes` asks for. Raises UsageError where it asks for both."""
    if renew is not None and recache:
        raise UsageError("renew and recache exclude each other: frames before a renewal are no longer seen")
    if recache:
        return Switch(streams, context, actions)
    return Follower() if renew is None else Renewal(streams, renew, rngs)
