"""One session of a player: admission, the queue, frames and messages, and the limits.

Nothing here knows a web server: a connection is two coroutines, as ASGI has them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from vidar.play import messages
from vidar.play.beside import Beside, Picture
from vidar.play.capture import Capture
from vidar.play.codec import Coded, Coder, Jpeg
from vidar.play.connection import Gone, Socket
from vidar.play.dream import Charted, ShownFrame
from vidar.play.engine import PlayerSlot, Start
from vidar.play.guard import Bucket
from vidar.play.keys import DEGREES_PER_PIXEL
from vidar.play.lobby import Lobby
from vidar.play.messages import Closed
from vidar.types import VidarError

LOOK = 0.25  # seconds of one wait for a frame
TICK = 1.0  # seconds between two messages of figures
WATCH = 0.1  # seconds between two frames for a session that waits
RESETS = 2.0  # a second, which is also how many at once: each costs a prefill that all players wait for
RECORDINGS, RECORDINGS_AT_ONCE = 0.2, 3.0  # begun, a second and at once
CODERS, CODERS_AT_ONCE = 0.5, 4.0  # asked for, a second and at once
BESIDE_ROW = 0  # the slot that has the real game

Made = TypeVar("Made")


class ClientSession:
    """One session. `session`: a secret of this server and this client, by which the client fetches its own files."""

    def __init__(self, lobby: Lobby, socket: Socket) -> None:
        self.lobby, self.socket = lobby, socket
        self.session = secrets.token_hex(16)
        self.seed, self.clip = secrets.randbelow(2**31), 0
        self.slot: PlayerSlot | None = None
        self.beside: Beside | None = None
        self.capture: Capture | None = None
        self.turn, self.ready = asyncio.Event(), asyncio.Event()
        self.after: int | None = None
        self.charted: Charted | None = None  # the map that was sent last
        self.coder: Coder = Jpeg()
        self.resets = 0
        limits = lobby.limits
        self.began = self.active = time.monotonic()
        self.rate, self.reset_rate = Bucket(limits.messages, limits.burst), Bucket(RESETS, RESETS)
        self.record_rate = Bucket(RECORDINGS, RECORDINGS_AT_ONCE)
        self.coder_rate = Bucket(CODERS, CODERS_AT_ONCE)
        self.dropped = 0

    async def show_token(self) -> None:
        """The first message has to be the token. Raises Closed(4401), or Gone."""
        try:
            async with asyncio.timeout(self.lobby.limits.handshake / 2):  # in time to say so before the cut
                message = messages.parse(await self.socket.text())
            right = isinstance(message, messages.Token) and self.lobby.guard.knows(message.token)
        except (Closed, TimeoutError):
            right = False
        if not right:
            self.lobby.counts.refused["token"] += 1
            raise Closed(messages.NO_TOKEN, "the token is missing or wrong")

    async def run(self) -> None:
        """Until something ends it: raises Closed or Gone."""
        parts = (self._listen(), self._play(), self._accompany(), self._show_starts(), self._watch(), self._stopped())
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
            self._leave()

    def _leave(self) -> None:
        if self.capture is not None:
            self.capture.stop()
        if self.beside is not None:
            self.beside.leave()
        if self.slot is not None:
            self.slot.leave()
        self.lobby.downloads.forget(self.session)
        self.lobby.moved()

    async def _listen(self) -> None:
        while True:
            text = await self.socket.text()
            if self.rate.take():
                await self._answer(messages.parse(text))
            else:
                self._drop()

    def _drop(self) -> None:
        self.dropped += 1
        self.lobby.counts.dropped += 1
        if self.dropped > self.lobby.limits.excess:
            raise Closed(messages.POLICY, "the page sends too many messages")

    async def _answer(self, message: messages.Message) -> None:
        slot = self.slot
        if isinstance(message, messages.Ping):
            await self.socket.send(messages.to_json("pong", at=message.at))
        elif slot is None or not self.ready.is_set() or isinstance(message, messages.Token):
            return
        elif isinstance(message, messages.Codec):
            await self._choose(message.codec)
        elif isinstance(message, messages.Input):
            slot.hold(message.keys, message.dx, message.dy, message.seq)
            if message.keys or message.dx or message.dy:
                self.active = time.monotonic()
        else:
            self.active = time.monotonic()
            if isinstance(message, messages.Pause):
                slot.pause(message.on)
            elif isinstance(message, messages.Step):
                slot.step()
            elif isinstance(message, messages.Record):
                await self._record(slot, message.on)
            else:
                await self._reset(slot, message)

    async def _reset(self, slot: PlayerSlot, message: messages.Reset) -> None:
        clip = self.clip if message.start is None else message.start
        if clip >= self._choices():
            raise Closed(messages.BAD_DATA, "there is no such start")
        if not self.reset_rate.take():
            return self._drop()
        await self._deliver()  # a recording is of one dream
        try:
            start = await self._start(message.seed, clip)
        except VidarError:  # a damaged clip: the dream goes on as it is
            return await self.socket.send(messages.to_json("seed", seed=self.seed, start=self.clip))
        self.seed, self.clip, self.after = message.seed, clip, None
        self.resets += 1
        self._take_up(slot, start)
        await self.socket.send(messages.to_json("seed", seed=self.seed, start=clip))

    async def _choose(self, codec: str) -> None:
        """Change the coding from the present frame on; JPEG if this machine lacks the other one."""
        if not self.coder_rate.take():
            return self._drop()
        try:
            coder, why = self.lobby.coder(codec), {}
        except VidarError:
            coder, why = Jpeg(), {"why": "this server has no encoder for it"}
        await self._take_coder(coder, **why)

    async def _take_coder(self, coder: Coder, **why: str) -> None:
        await self.socket.send(messages.to_json("codec", codec=coder.name, **why))  # before the first frame in it
        self.coder, self.after = coder, None

    def _choices(self) -> int:
        """The number of starts. A dream beside the real game begins where the game does."""
        return len(self.lobby.clips) if self.beside is None else 1

    async def _start(self, seed: int, clip: int) -> Start:
        """Where a dream begins: at the real game, or at the clip if the game has stopped for good."""
        if self.beside is not None:
            try:
                return replace(await asyncio.wrap_future(self.beside.begin(seed)), told=self.lobby.told)
            except VidarError as error:
                self.beside = None
                await self.socket.send(messages.to_json("beside", on=False, why=str(error)))
        return await self._blocking(self.lobby.start, seed, clip)

    @property
    def _accompanied(self) -> bool:
        """Whether this player has the real game now."""
        return self.beside is not None

    def _take_up(self, slot: PlayerSlot, start: Start) -> None:
        slot.reset(start)
        if self.beside is not None:
            self.beside.follow(slot)

    async def _record(self, slot: PlayerSlot, on: bool) -> None:
        if not on:
            await self._deliver()
        elif self.capture is None:
            if not self.record_rate.take():
                return self._drop()
            limits, fps = self.lobby.limits, self.lobby.engine.world.config.fps
            room = self.lobby.downloads.room(self.session)
            self.capture = Capture(slot, room, max(2, round(limits.recording * fps)), limits.recording_bytes)
            await self.socket.send(messages.to_json("recording", on=True, seconds=limits.recording))

    async def _deliver(self) -> None:
        """End the recording, if there is one, and send the address of its file."""
        capture, self.capture = self.capture, None
        if capture is None:
            return
        packed, why = None, "fewer than two frames were shown"
        try:
            packed = await self._blocking(capture.pack)
        except VidarError:  # its text is the server's own affair
            why = "the server could not write it"
        if packed is None:
            self.lobby.downloads.delete(capture.folder)
            return await self.socket.send(messages.to_json("recording", on=False, why=why))
        name = self.lobby.downloads.offer(self.session, packed.file)
        self.lobby.counts.recordings += 1
        offer = {"path": messages.RECORDINGS + name, "name": packed.file.name, "frames": packed.frames}
        await self.socket.send(messages.to_json("recorded", **offer))

    async def _play(self) -> None:
        slot = await self._sit()
        if slot.row == BESIDE_ROW and self.lobby.beside is not None:
            self.beside = self.lobby.beside
            start = await self._start(self.seed, self.clip)
            if self._accompanied:
                self._take_up(slot, start)
        self.ready.set()
        await self.socket.send(self._greeting(slot))
        while True:
            await self._show(slot)
            await self._show_chart(slot)

    async def _show(self, slot: PlayerSlot) -> None:
        """Send the next frame if there is one soon; none of an earlier dream or by an earlier coder."""
        resets, coder = self.resets, self.coder
        try:
            seen = await self._blocking(latest_frame, slot, self.after, coder, resets)
        except VidarError:
            return await self._take_coder(Jpeg(), why="the server could not encode")
        if seen is None or resets != self.resets or coder is not self.coder:
            return
        shown, coded = seen
        self.after = shown.number
        stamp = int(shown.ready * 1e3)
        await self.socket.send(
            messages.frame_message(shown.number, stamp, shown.echo, coded.data, coded.kind, coded.flags)
        )
        self.lobby.counts.frames += 1

    async def _show_chart(self, slot: PlayerSlot) -> None:
        """Send the map of what the world remembers, if there is a new one."""
        charted = slot.charted
        if charted is not None and charted.chart is not None and charted is not self.charted:
            self.charted = charted
            await self.socket.send(messages.chart_message(charted.number, charted.chart))

    async def _show_starts(self) -> None:
        """Send the small pictures, if there is a choice, while the dream runs; then wait for the session to end."""
        await self.ready.wait()
        count = self._choices()
        for number in range(count if count > 1 else 0):
            jpeg = await self._blocking(self.lobby.clips.picture, number)
            if jpeg is not None:
                await self.socket.send(messages.frame_message(number, count, 0, jpeg, messages.START_PICTURE))
        await asyncio.Event().wait()

    async def _accompany(self) -> None:
        """The pictures beside a player's own: of a running game while it waits, then of the real game."""
        watched: ShownFrame | None = None
        while self.slot is None:
            shown = self.lobby.running()
            if shown is not None and shown is not watched:
                watched, jpeg = shown, await self._blocking(self.lobby.coded, shown)
                await self.socket.send(messages.frame_message(shown.number, 0, 0, jpeg, messages.WATCHED_FRAME))
            await asyncio.sleep(WATCH)
        await self.ready.wait()
        after: Picture | None = None
        while True:
            beside = self.beside
            if beside is None:
                await asyncio.sleep(TICK)
                continue
            seen = await self._blocking(latest_game_frame, beside, after)
            if seen is None:
                continue
            after, jpeg = seen
            if jpeg is None:
                await self.socket.send(messages.to_json("beside", on=False, why="the game is over"))
            else:
                await self.socket.send(messages.frame_message(after.number, 0, 0, jpeg, messages.GAME_FRAME))

    async def _sit(self) -> PlayerSlot:
        """A slot when it is this session's turn; meanwhile it is sent its place in the queue."""
        lobby, sent, config = self.lobby, 0, self.lobby.engine.world.config
        lobby.wait_queue.append(self.turn)
        try:
            while lobby.wait_queue[0] is not self.turn or not lobby.free():
                self.turn.clear()
                place = lobby.wait_queue.index(self.turn) + 1
                if place != sent:
                    sent = place
                    size = {"world": config.name, "height": config.height, "width": config.width}
                    await self.socket.send(messages.to_json("queue", place=place, **size))
                else:
                    await self.turn.wait()
            self.slot = lobby.engine.sit(lobby.start(self.seed, self.clip))
            self.active = time.monotonic()
            return self.slot
        finally:
            lobby.wait_queue.remove(self.turn)
            lobby.moved()

    async def _watch(self) -> None:
        """Send the figures, and keep to the limits of time. A key that is held counts as playing."""
        limits = self.lobby.limits
        while True:
            await asyncio.sleep(min(TICK, limits.idle / 4, limits.session / 4))
            now = time.monotonic()
            self.lobby.downloads.expire()
            if now - self.began > limits.session:
                raise Closed(messages.NORMAL, f"a session ends after {limits.session / 60:.3g} minutes")
            if self.slot is not None:
                if self.slot.inputs.holding and not self.slot.paused:
                    self.active = now
                if now - self.active > limits.idle:
                    raise Closed(messages.NORMAL, f"nobody has played for {limits.idle:.3g} seconds")
                if self.capture is not None and self.capture.ended:
                    await self._deliver()
                await self.socket.send(messages.to_json("figures", **self.lobby.figures()))

    async def _stopped(self) -> None:
        await self.lobby.stopping.wait()
        raise Closed(messages.GOING_AWAY, "the server stops")

    async def _blocking(self, call: Callable[..., Made], *arguments: object) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self.lobby.pool, call, *arguments)

    def _greeting(self, slot: PlayerSlot) -> str:
        engine = self.lobby.engine
        config = engine.world.config
        return messages.to_json(
            "hello",
            world=config.name,
            fps=1.0 / engine.clock.period if engine.clock.period else 0.0,
            height=config.height,
            width=config.width,
            keys=engine.keys.names(),
            mouse=any(action.kind in ("camera", "continuous") for action in config.spec.actions),
            degrees=DEGREES_PER_PIXEL,
            seed=self.seed,
            capacity=engine.capacity,
            seat=slot.row,
            session=self.session,
            starts=self._choices(),
            beside=self._accompanied,
            codec=self.lobby.codec,
            h264=self.lobby.h264,
            **({"map": True} if engine.streams.draws else {}),
        )


async def welcome(lobby: Lobby, socket: Socket, address: str, admitted: Callable[[], None]) -> None:
    """Serve one connection from handshake to end. admitted: called when the session has been admitted."""
    await socket.accept()
    client = ClientSession(lobby, socket)
    try:
        if lobby.guard.token is not None:
            await client.show_token()
        lobby.admit(address)
        admitted()
        try:
            await client.run()
        finally:
            lobby.forget(address)
    except Gone:
        return
    except Closed as end:
        lobby.counts.closed[end.code] += 1
        await socket.close(end.code, end.reason)


def latest_frame(slot: PlayerSlot, after: int | None, coder: Coder, dream: int) -> tuple[ShownFrame, Coded] | None:
    """The newest frame, coded; None if there is none within LOOK seconds.

    Raises Closed if the world has failed, VidarError if the coder has.
    """
    try:
        shown = slot.newest(after, timeout=LOOK)
    except Exception:  # the engine keeps it
        raise Closed(messages.INTERNAL, "the world has failed") from None
    return None if shown is None else (shown, coder.code(shown.frame, dream, shown.number))


def latest_game_frame(beside: Beside, after: Picture | None) -> tuple[Picture, bytes | None] | None:
    """The real game's newest picture and its JPEG (None: the game is over); None if there is none within LOOK."""
    picture = beside.newest(after, timeout=LOOK)
    if picture is None:
        return None
    return picture, None if picture.frame is None else messages.to_jpeg(picture.frame)
