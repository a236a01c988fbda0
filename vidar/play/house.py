"""Players who come in from outside: each waits for a seat, is shown its frames, and keeps to the limits.

Nothing here knows a web server: a connection is two coroutines, as ASGI has them. All of it runs in one event loop;
what may block runs in `House.pool`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vidar.play import messages as say
from vidar.play.guard import Bucket, Counts, Guard, Limits
from vidar.play.keys import code_of
from vidar.play.messages import Closed
from vidar.play.session import Seat, Shown, Start, Table

Event = MutableMapping[str, Any]
LOOK = 0.25  # seconds of one wait for a frame
TICK = 1.0  # seconds between two messages of figures
RESETS = 2.0  # a second, which is also how many at once: each costs a prefill that all players wait for


class Gone(Exception):
    """The client is no longer there."""


class Socket:
    """A WebSocket: text in, text and bytes out. A client that does not take a message within `seconds` is let go."""

    def __init__(
        self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]], seconds: float
    ):
        self._receive, self._send, self.seconds = receive, send, seconds

    async def accept(self) -> None:
        """End the handshake."""
        await self._receive()
        await self._send({"type": "websocket.accept"})

    async def text(self) -> str:
        """The next message. Raises Gone, or Closed where it is not text."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        if message.get("text") is None:
            raise Closed(say.BAD_TYPE, "text messages only")
        return message["text"]

    async def send(self, message: str | bytes) -> None:
        """Returns when the client has room for more. Raises Gone, or Closed where it is too slow."""
        key = "text" if isinstance(message, str) else "bytes"
        try:
            async with asyncio.timeout(self.seconds):
                await self._send({"type": "websocket.send", key: message})
        except TimeoutError:
            raise Closed(say.POLICY, "too slow") from None
        except (OSError, RuntimeError):
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        """Say why, to who still listens."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(min(1.0, self.seconds)):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})


class House:
    """The sessions at one table. frames: uint8 [T, H, W, 3], where every dream begins."""

    def __init__(self, table: Table, frames: np.ndarray, guard: Guard, limits: Limits | None = None) -> None:
        self.table, self.frames, self.guard, self.limits = table, frames, guard, limits or Limits()
        self.counts = Counts()
        self.line: list[Visit] = []  # who waits for a seat
        self.present: Counter[str] = Counter()  # sessions by address
        self.stopping = asyncio.Event()
        self.pool = ThreadPoolExecutor(2 * table.capacity, "vidar-look")

    def free(self) -> bool:
        """Whether a seat is."""
        return len(self.table.seats) < self.table.capacity

    async def welcome(self, socket: Socket, address: str, admitted: Callable[[], None]) -> None:
        """One connection from handshake to end. admitted: called when it is a player's."""
        await socket.accept()
        visit = Visit(self, socket)
        try:
            if self.guard.token is not None:
                await visit.show_token()
            self._admit(address)
            admitted()
            try:
                await visit.run()
            finally:
                self.present[address] -= 1
                self.present += Counter()  # forgets addresses without sessions
        except Gone:
            return
        except Closed as end:
            self.counts.closed[end.code] += 1
            await socket.close(end.code, end.reason)

    def _admit(self, address: str) -> None:
        limits = self.limits
        reason = None
        if self.stopping.is_set():
            raise Closed(say.GOING_AWAY, "the server stops")
        if self.present[address] >= limits.per_ip:
            reason = "address"
        elif not self.free() and len(self.line) >= limits.queue:
            reason = "queue"
        if reason is not None:
            self.counts.refused[reason] += 1
            raise Closed(say.TRY_LATER, "too many sessions")
        self.present[address] += 1
        self.counts.sessions += 1

    def moved(self) -> None:
        """A seat or a place in the line is free."""
        for visit in self.line:
            visit.turn.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Tell everybody; returns when they have left, or after `seconds`."""
        self.stopping.set()
        end = time.monotonic() + seconds
        while self.present and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self.pool.shutdown(wait=False, cancel_futures=True)

    def figures(self) -> dict[str, float]:
        """Of the table: frames, fps, late, ms of the model, hits and misses of speculation, players."""
        table = self.table
        with table.wake:
            told = table.meter.figures()
            return {**told, "hits": table.hits, "misses": table.misses, "playing": len(table.seats)}

    def metrics(self) -> str:
        """Prometheus text."""
        gauges = self.figures()
        counters = {"frames": gauges.pop("frames")}
        counters |= {f"speculation_{name}": gauges.pop(name) for name in ("hits", "misses")}
        return self.counts.text({**gauges, "waiting": len(self.line)}, counters)

    def start(self, seed: int) -> Start:
        """The world's own clip, and a seed."""
        return Start(self.frames, None, seed)


class Visit:
    """One session."""

    def __init__(self, house: House, socket: Socket) -> None:
        self.house, self.socket = house, socket
        self.seed = secrets.randbelow(2**31)
        self.seat: Seat | None = None
        self.turn = asyncio.Event()
        self.after: int | None = None
        self.resets = 0
        limits = house.limits
        self.began = self.active = time.monotonic()
        self.rate, self.reset_rate = Bucket(limits.messages, limits.burst), Bucket(RESETS, RESETS)
        self.dropped = 0

    async def show_token(self) -> None:
        """The first message has to be the token. Raises Closed(4401), or Gone."""
        try:
            async with asyncio.timeout(self.house.limits.handshake / 2):  # in time to say so before the cut
                message = say.parse(await self.socket.text())
            right = isinstance(message, say.Token) and self.house.guard.knows(message.token)
        except (Closed, TimeoutError):
            right = False
        if not right:
            self.house.counts.refused["token"] += 1
            raise Closed(say.NO_TOKEN, "no token, or a wrong one")

    async def run(self) -> None:
        """Until something ends it: raises Closed or Gone."""
        parts = (self._listen(), self._play(), self._watch(), self._stopped())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.seat is not None:
                self.seat.leave()
            self.house.moved()

    async def _listen(self) -> None:
        while True:
            text = await self.socket.text()
            if self.rate.take():
                await self._answer(say.parse(text))
            else:
                self._drop()

    def _drop(self) -> None:
        self.dropped += 1
        self.house.counts.dropped += 1
        if self.dropped > self.house.limits.excess:
            raise Closed(say.POLICY, "too many messages")

    async def _answer(self, message: say.Message) -> None:
        seat = self.seat
        if isinstance(message, say.Ping):
            await self.socket.send(say.to_json("pong", at=message.at))
        elif seat is None or isinstance(message, say.Token):
            return
        elif isinstance(message, say.Input):
            seat.hold(message.keys, message.dx, message.dy, message.seq)
            if message.keys or message.dx or message.dy:
                self.active = time.monotonic()
        else:
            self.active = time.monotonic()
            if isinstance(message, say.Pause):
                seat.pause(message.on)
            elif isinstance(message, say.Step):
                seat.step()
            elif self.reset_rate.take():
                self.seed, self.after = message.seed, None
                self.resets += 1
                seat.reset(self.house.start(message.seed))
                await self.socket.send(say.to_json("seed", seed=message.seed))
            else:
                self._drop()

    async def _play(self) -> None:
        seat = await self._sit()
        await self.socket.send(self._greeting(seat))
        loop, counts = asyncio.get_running_loop(), self.house.counts
        while True:
            resets = self.resets
            seen = await loop.run_in_executor(self.house.pool, look, seat, self.after)
            if seen is None or resets != self.resets:
                continue
            shown, jpeg = seen
            self.after = shown.number
            await self.socket.send(say.frame_message(shown.number, int(shown.ready * 1e3), shown.echo, jpeg))
            counts.frames += 1

    async def _sit(self) -> Seat:
        """A seat when it is this one's turn; tells the place in the line meanwhile."""
        house, told = self.house, 0
        house.line.append(self)
        try:
            while house.line[0] is not self or not house.free():
                self.turn.clear()
                place = house.line.index(self) + 1
                if place != told:
                    told = place
                    await self.socket.send(say.to_json("queue", place=place))
                else:
                    await self.turn.wait()
            self.seat = house.table.sit(house.start(self.seed))
            self.active = time.monotonic()
            return self.seat
        finally:
            house.line.remove(self)
            house.moved()

    async def _watch(self) -> None:
        """Figures, and the limits of time."""
        limits = self.house.limits
        while True:
            await asyncio.sleep(min(TICK, limits.idle / 4, limits.session / 4))
            now = time.monotonic()
            if now - self.began > limits.session:
                raise Closed(say.NORMAL, "time is up")
            if self.seat is not None:
                if now - self.active > limits.idle:
                    raise Closed(say.NORMAL, "idle")
                await self.socket.send(say.to_json("figures", **self.house.figures()))

    async def _stopped(self) -> None:
        await self.house.stopping.wait()
        raise Closed(say.GOING_AWAY, "the server stops")

    def _greeting(self, seat: Seat) -> str:
        table = self.house.table
        config = table.world.config
        return say.to_json(
            "hello",
            world=config.name,
            fps=1.0 / table.clock.period if table.clock.period else 0.0,
            height=config.height,
            width=config.width,
            keys=key_names(table),
            mouse=any(action.kind in ("camera", "continuous") for action in config.actions.actions),
            seed=self.seed,
            capacity=table.capacity,
            seat=seat.row,
        )


def look(seat: Seat, after: int | None) -> tuple[Shown, bytes] | None:
    """The newest frame as a JPEG; None where there is none for a while. Raises Closed where the world has failed."""
    try:
        shown = seat.newest(after, timeout=LOOK)
    except Exception:  # the table keeps it
        raise Closed(say.INTERNAL, "the world has failed") from None
    return None if shown is None else (shown, say.to_jpeg(shown.frame))


def key_names(table: Table) -> list[dict[str, str]]:
    """The key of each bit of a mask, and what it presses."""
    pressed: dict[str, list[str]] = {code: [] for code in table.keys.codes}
    for action in table.world.config.actions.actions:
        for value, key in enumerate(action.keys):
            name = action.name if action.kind == "binary" else f"{action.name} {value}"
            pressed[code_of(key)].append(name)
    return [{"code": code, "action": ", ".join(names)} for code, names in pressed.items()]
