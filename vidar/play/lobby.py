"""What there is for all players who come in from outside: the engine, the queue for its slots, who is let in.

All of it runs in one event loop; what may block runs in `Lobby.pool`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vidar.conditioning.config import NOTHING, Told
from vidar.play import messages
from vidar.play.beside import Beside
from vidar.play.codec import H264, Coder, Jpeg, codec_string
from vidar.play.downloads import Downloads
from vidar.play.engine import PlayEngine, Start
from vidar.play.gallery import Clip, Gallery
from vidar.play.guard import Counts, Guard, Limits
from vidar.play.messages import Closed


class Lobby:
    """The sessions of one engine.

    clips: where a dream may begin, see `Gallery`; the first one is where it does unless another is chosen.
    beside: the real game, for the slot of row 0. codec: what players are told to ask for, "jpeg" or "h264"; they are
    sent JPEG until they do. told: of every dream as a whole. h264: what their decoder must be able to do, None where
    nothing here encodes H.264.
    """

    def __init__(
        self,
        engine: PlayEngine,
        clips: Sequence[Clip],
        guard: Guard,
        limits: Limits | None = None,
        beside: Beside | None = None,
        codec: str = Jpeg.name,
        told: Told = NOTHING,
    ) -> None:
        self.engine, self.guard, self.limits = engine, guard, limits or Limits()
        self.clips = Gallery(clips, lambda line: print(f"vidar: {line}", file=sys.stderr, flush=True))
        config = engine.world.config
        self.beside, self.codec, self.told = beside, codec, told
        self.fps = 1.0 / engine.clock.period if engine.clock.period else config.fps
        self.h264 = codec_string(config.height, config.width, self.fps)
        self.downloads = Downloads(self.limits.download)
        self.counts = Counts()
        self.wait_queue: list[asyncio.Event] = []  # of those who wait for a slot: set when something moves
        self.present: Counter[str] = Counter()  # sessions by address
        self.stopping = asyncio.Event()
        self.pool = ThreadPoolExecutor(3 * engine.capacity, "vidar-look")

    def free(self) -> bool:
        """Whether a slot is free."""
        return len(self.engine.slots) < self.engine.capacity

    def admit(self, address: str) -> None:
        """One more session of an address. Raises Closed where there is no room for it."""
        limits = self.limits
        reason = None
        if self.stopping.is_set():
            raise Closed(messages.GOING_AWAY, "the server stops")
        if self.present[address] >= limits.per_ip:
            reason = "address"
        elif not self.free() and len(self.wait_queue) >= limits.queue:
            reason = "queue"
        if reason is not None:
            self.counts.refused[reason] += 1
            raise Closed(messages.TRY_LATER, "too many sessions")
        self.present[address] += 1
        self.counts.sessions += 1

    def forget(self, address: str) -> None:
        """A session that was admitted is over."""
        self.present[address] -= 1
        self.present += Counter()  # forgets addresses without sessions

    def moved(self) -> None:
        """A slot or a place in the queue is free."""
        for turn in self.wait_queue:
            turn.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Tell everybody; returns when they have left, or after `seconds`."""
        self.stopping.set()
        end = time.monotonic() + seconds
        while self.present and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.downloads.close()

    def figures(self) -> dict[str, float]:
        """Of the engine: frames, fps, late, ms of the model, hits and misses of speculation, players."""
        engine = self.engine
        with engine.wake:
            told = engine.meter.figures()
            return {**told, "hits": engine.hits, "misses": engine.misses, "playing": len(engine.slots)}

    def metrics(self) -> str:
        """Prometheus text."""
        gauges = self.figures()
        counters = {"frames": gauges.pop("frames")}
        counters |= {f"speculation_{name}": gauges.pop(name) for name in ("hits", "misses")}
        return self.counts.text({**gauges, "waiting": len(self.wait_queue)}, counters)

    def coder(self, codec: str) -> Coder:
        """A player's own. Raises VidarError where this machine has none of that name."""
        config = self.engine.world.config
        return H264(config.height, config.width, self.fps) if codec == H264.name else Jpeg()

    def start(self, seed: int, clip: int = 0) -> Start:
        """A clip by number, and a seed. Raises VidarError if the clip cannot be read."""
        return Start(self.clips[clip], None, seed, self.told)
