"""What all sessions of a server share: the engine, the queue for its slots, and the admission of new sessions.

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
from vidar.play.dream import ShownFrame
from vidar.play.engine import PlayEngine, Start
from vidar.play.gallery import Clip, Gallery
from vidar.play.guard import Counts, Guard, Limits
from vidar.play.messages import Closed
from vidar.printable import one_line


class Lobby:
    """The sessions of one engine.

    clips: where a dream may begin, see `Gallery`; it begins at the first one unless another is chosen. beside: the real
    game, for the slot of row 0. codec: the coding that pages ask for unless their address names one, "jpeg" or "h264";
    they are sent JPEG until they ask. told: prompt or label of every dream. h264: what a decoder must support, None if
    this machine cannot encode H.264. per_address: most sessions of one address.
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
        self.clips = Gallery(clips, lambda line: print(f"vidar: {one_line(line)}", file=sys.stderr, flush=True))
        config = engine.world.config
        self.beside, self.codec, self.told = beside, codec, told
        self.fps = 1.0 / engine.clock.period if engine.clock.period else config.fps
        self.h264 = codec_string(config.height, config.width, self.fps)
        self.downloads = Downloads(self.limits.download)
        self.counts = Counts()
        self.wait_queue: list[asyncio.Event] = []  # of those who wait for a slot: set when something moves
        self.present: Counter[str] = Counter()  # sessions by address
        self.per_address = self.limits.per_ip or engine.capacity + 1
        self.watched: tuple[ShownFrame, bytes] | None = None  # the newest frame that was coded for those who wait
        self.stopping = asyncio.Event()
        self.pool = ThreadPoolExecutor(3 * engine.capacity, "vidar-look")

    def free(self) -> bool:
        """Whether a slot is free."""
        return len(self.engine.slots) < self.engine.capacity

    def running(self) -> ShownFrame | None:
        """The frame of a player whose dream moves, or of any player; None if there is none."""
        engine = self.engine
        with engine.wake:
            now = engine.now()
            playing = sorted(engine.slots.values(), key=lambda slot: (slot.waits(now), slot.row))
            return next((slot.shown for slot in playing if slot.shown is not None), None)

    def coded(self, shown: ShownFrame) -> bytes:
        """A frame as JPEG, coded once for all who wait."""
        if self.watched is None or self.watched[0] is not shown:
            self.watched = shown, messages.to_jpeg(shown.frame)
        return self.watched[1]

    def admit(self, address: str) -> None:
        """One more session of an address. Raises Closed if there is no room for it."""
        if self.stopping.is_set():
            raise Closed(messages.GOING_AWAY, "the server stops")
        reason = None
        if self.present[address] >= self.per_address:
            most = self.per_address
            reason = "address", f"your address has as many pages here as it may: {most} (option --per-address)"
        elif not self.free() and len(self.wait_queue) >= self.limits.queue:
            reason = "queue", f"all places are taken, and the queue of {self.limits.queue} is full"
        if reason is not None:
            self.counts.refused[reason[0]] += 1
            raise Closed(messages.TRY_LATER, reason[1])
        self.present[address] += 1
        self.counts.sessions += 1

    def forget(self, address: str) -> None:
        """A session that was admitted has ended."""
        self.present[address] -= 1
        self.present += Counter()  # forgets addresses without sessions

    def moved(self) -> None:
        """A slot or a place in the queue has become free."""
        for turn in self.wait_queue:
            turn.set()

    async def close(self, seconds: float = 2.0) -> None:
        """End all sessions; returns when they have ended, or after `seconds`."""
        self.stopping.set()
        end = time.monotonic() + seconds
        while self.present and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.downloads.close()

    def figures(self) -> dict[str, float]:
        """Figures of the engine: frames, fps, late, ms of the model, hits and misses of speculation, players."""
        engine = self.engine
        with engine.wake:
            counts = {"hits": engine.hits, "misses": engine.misses, "playing": len(engine.slots)}
            return {**engine.meter.figures(), **counts}

    def metrics(self) -> str:
        """Prometheus text."""
        gauges = self.figures()
        counters = {"frames": gauges.pop("frames")}
        counters |= {f"speculation_{name}": gauges.pop(name) for name in ("hits", "misses")}
        return self.counts.text({**gauges, "waiting": len(self.wait_queue)}, counters)

    def coder(self, codec: str) -> Coder:
        """A coder for one player. Raises VidarError if this machine lacks it."""
        config = self.engine.world.config
        return H264(config.height, config.width, self.fps) if codec == H264.name else Jpeg()

    def start(self, seed: int, clip: int = 0) -> Start:
        """The start at a clip, by its number, with a seed. Raises VidarError if the clip cannot be read."""
        return Start(self.clips[clip], None, seed, self.told)
