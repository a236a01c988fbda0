"""The players of one world: one batched forward of fixed capacity, with a slot for each player.

One thread makes the frames of all dreams, a second one decodes each frame while the next is made. Frames are read with
`PlayerSlot.newest`, keys are set with `PlayerSlot.press`; both are safe from any thread. If a world makes several
frames together, the keys that are held when they are begun act on all of them; they are shown one by one. The frames of
a slot are a function of its start, seed, keys, the capacity and, if a governor lowers them, the solver steps of each
frame, and (in their last bits) of whether its calls were compiled. They do not depend on the other players, on
speculation or on pauses.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from vidar.model.model import VideoModel
from vidar.nn.static import Build
from vidar.play.clock import Clock, Meter
from vidar.play.dream import Charted, Guess, Log, Pictures, Piece, ShownFrame, Start
from vidar.play.governor import Governor
from vidar.play.keys import InputState, Keys
from vidar.rollout.codec import Decoding
from vidar.types import Model, UsageError

CHART = 0.25  # seconds between two maps of a dream
UNREAD = 1.0  # seconds after the last read of a frame, after which a dream waits for its reader


class PlayerSlot:
    """The place of one player. Made by `PlayEngine.sit`."""

    def __init__(self, engine: PlayEngine, row: int, start: Start) -> None:
        self.engine, self.row, self.log = engine, row, Log(start)
        self.shown: ShownFrame | None = None
        self.charted: Charted | None = None  # the newest map of a memory
        self.paused, self.single = False, False
        self.fresh: Start | None = start  # a dream to begin in the next round
        self.asked = time.monotonic()
        self.inputs = InputState(engine.keys)

    def press(self, row: np.ndarray, echo: int = 0) -> None:
        """Set the action from the next frame on. echo: comes back with the frames that answer it.

        Raises VidarError if the action is not legal.
        """
        with self.engine.wake:
            self.inputs.press(row, echo)
            self.engine.wake.notify_all()

    def hold(self, mask: int, dx: float = 0.0, dy: float = 0.0, echo: int = 0) -> None:
        """As `press`, by keys (bit i: PlayEngine.keys.codes[i]) and mouse motion in pixels since the last call."""
        with self.engine.wake:
            self.inputs.hold(mask, dx, dy, echo)
            self.engine.wake.notify_all()

    def newest(self, after: int | None = None, timeout: float | None = None) -> ShownFrame | None:
        """The newest frame; if that is still number `after`, the next one. None after `timeout` seconds."""
        with self.engine.wake:
            self.asked = time.monotonic()
            self.engine.wake.notify_all()
            ready = self.engine.wake.wait_for(lambda: self._next(after) or self.engine.failed is not None, timeout)
            self.asked = time.monotonic()
            self.engine.raise_failure()
            return self.shown if ready else None

    def pause(self, on: bool) -> None:
        """Stop the dream, or let it go on. Mouse motion that no frame has used is dropped."""
        with self.engine.wake:
            self.paused = on
            self.inputs.drop_motion()
            self.engine.wake.notify_all()

    def step(self) -> None:
        """Make one frame of a paused dream."""
        with self.engine.wake:
            self.single = True
            self.engine.wake.notify_all()

    def reset(self, start: Start) -> None:
        """Begin another dream; the log of the old one is lost unless saved. Raises UsageError for a bad start."""
        self.engine.check(start)
        with self.engine.wake:
            self.fresh, self.log, self.shown, self.charted = start, Log(start), None, None
            self.engine.wake.notify_all()

    def leave(self) -> None:
        """Free the slot."""
        with self.engine.wake:
            if self.engine.slots.get(self.row) is self:
                del self.engine.slots[self.row]
            self.engine.wake.notify_all()

    def waits(self, now: float) -> bool:
        """Whether the dream stands still: it is paused, or nobody reads its frames."""
        return (self.paused and not self.single) or now - self.asked > UNREAD

    def _next(self, after: int | None) -> bool:
        return self.shown is not None and self.shown.number != after


@dataclass(frozen=True)
class Round:
    """A frame of every dream that moves. slots: whose; pieces: by row; logs: by row, the dream it belongs to.

    due: when it was to be shown, 0 if frames are never due.
    """

    slots: list[PlayerSlot]
    pieces: dict[int, Piece]
    logs: dict[int, Log]
    due: float


class PlayEngine:
    """`capacity` player slots of one world. fps: frames per second, the same for all; None: no limit.

    speculate: make the next frame with the keys held now if there is time before it is due, and again if the keys
    change while there still is time; if the keys at the due time are others, the guess is dropped. The frames are the
    same either way. hits, misses: guesses that were used, or not; remade: guesses replaced before the frame was due.
    least_steps: the fewest solver steps that the governor may use to hold the rate; None: every frame gets `steps`.
    compiled: see `Rollout`. Use the engine as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        world: VideoModel,
        capacity: int = 1,
        fps: float | None = None,
        steps: int | None = None,
        speculate: bool = True,
        least_steps: int | None = None,
        compiled: bool | Build = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if capacity < 1:
            raise UsageError("an engine needs a capacity of at least 1")
        self.world, self.capacity, self.compiled, self.now = world, capacity, bool(compiled), now
        self.keys = Keys(world.config.spec)
        self.streams = world.rollout(capacity, steps, compiled)
        self.clock, self.meter = Clock(fps, now), Meter()
        most = self.streams.most
        self.governor = Governor(least_steps or most, most, self.clock.period)
        self.speculate = speculate and fps is not None
        self.guess: Guess | None = None
        self.hits = self.misses = self.remade = 0
        self.slots: dict[int, PlayerSlot] = {}
        self.left: dict[int, deque[Piece]] = {}  # by row, frames that are made and not yet shown
        self.wake = threading.Condition()
        self.failed: BaseException | None = None
        self._faster: Model | None = None
        self._thread: threading.Thread | None = None
        self._painter = ThreadPoolExecutor(1, "vidar-decode")
        self._showing: Future[None] | None = None  # of the frame before
        self._painted = 0.0  # seconds the latest decoding took
        self._stop = False

    def __enter__(self) -> PlayEngine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="vidar-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Slots keep their last frame."""
        with self.wake:
            self._stop = True
            self.wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._painter.shutdown()

    def sit(self, start: Start) -> PlayerSlot:
        """A free slot. Raises UsageError if there is none, or if the start does not fit the world."""
        self.check(start)
        with self.wake:
            free = [row for row in range(self.capacity) if row not in self.slots]
            if not free:
                raise UsageError(f"all {self.capacity} player slots are in use")
            slot = self.slots[free[0]] = PlayerSlot(self, free[0], start)
            self.wake.notify_all()
        return slot

    def use(self, model: Model) -> None:
        """From the next frame on, use calls that were compiled for this engine's streams (`compiling.py`)."""
        with self.wake:
            self._faster = model

    def check(self, start: Start) -> None:
        """Raises UsageError or VidarError if a start does not fit the world."""
        self.world.config.check_told(start.told)
        frames = self.world.context_frames(start.frames)
        self.streams.check_start(min(len(frames), self.world.config.context))
        if start.actions is not None:
            rows = self.world.config.spec.validate_actions(np.asarray(start.actions), "actions of the start")
            if len(rows) != len(frames):
                raise UsageError(
                    f"a start has {len(frames)} frames and {len(rows)} rows of actions; give one row per frame"
                )

    def raise_failure(self) -> None:
        """Raise the error that ended the thread, if there was one."""
        if self.failed is not None:
            raise self.failed

    def _run(self) -> None:
        try:
            while self._wait():
                self._move()
            self._settle()
        except BaseException as error:
            with self.wake:
                self.failed = error
                self.wake.notify_all()

    def _wait(self) -> bool:
        """Wait until a frame is due and read by somebody, and guess meanwhile. False: the engine stops."""
        with self.wake:
            while not self._stop:
                moving = self._moving()
                left = self.clock.left()
                if moving and not left:
                    self.clock.tick()
                    return True
                if moving and self._may_guess(moving, left):
                    actions = self._actions({slot.row: slot.inputs.row() for slot in self._lacking(moving)})
                    rows = frozenset(slot.row for slot in self._lacking(moving))
                    if self.guess is None or not self.guess.fits(actions, rows):
                        self.wake.release()
                        try:
                            self._guess(actions, rows)
                        finally:
                            self.wake.acquire()
                        continue
                self.wake.wait(left if moving and left else UNREAD / 4)
        return False

    def _moving(self) -> list[PlayerSlot]:
        now = self.now()
        return [slot for slot in self.slots.values() if slot.fresh is not None or not slot.waits(now)]

    def round(self) -> None:
        """Make one frame of every dream that moves; it is shown when this returns."""
        self._move()
        self._settle()

    def _move(self) -> None:
        """Make one frame of every dream that moves. It is shown when it is decoded, after at most one other frame."""
        self._change_over()
        with self.wake:
            moving, read = self._moving(), self.now()
            fresh = {slot.row: slot.fresh for slot in moving if slot.fresh is not None}
            lacking = self._lacking(moving)
            taken = {slot.row: (slot.inputs.row(), slot.inputs.echo) for slot in lacking}
            logs = {slot.row: slot.log for slot in moving}
            for slot in moving:
                slot.fresh, slot.single = None, False
            for slot in lacking:
                slot.inputs.used()
        if fresh:
            self._drop_guess()
            for row, start in fresh.items():
                self.streams.begin(row, start.frames, start.actions, start.seed, start.told)
        if taken:
            actions = self._actions({row: action for row, (action, _) in taken.items()})
            pictures, steps = self._advance(actions, frozenset(taken))
            for row, (action, echo) in taken.items():
                made = action, echo, steps, read, self.compiled
                self.left[row] = deque(Piece(pictures, place, *made) for place in range(self.streams.per_group))
        pieces = {slot.row: self.left[slot.row].popleft() for slot in moving}
        showing = self._painter.submit(self._show, Round(moving, pieces, logs, self.clock.due))
        self._settle()
        self._showing = showing

    def _lacking(self, moving: list[PlayerSlot]) -> list[PlayerSlot]:
        """The slots whose next frame is not made yet."""
        return [slot for slot in moving if slot.fresh is not None or not self.left.get(slot.row)]

    def _change_over(self) -> None:
        """Change to the model of `use`, if there is a new one; a guess of the old one is dropped."""
        with self.wake:
            model, self._faster = self._faster, None
        if model is not None:
            self._drop_guess()
            self.streams.model, self.compiled = model, True

    def _settle(self) -> None:
        """Wait until the previous frame is shown. Raises its error, if there was one."""
        if self._showing is not None:
            self._showing.result()

    def _show(self, made: Round) -> None:
        """Runs on the thread that decodes, after the pictures of the pieces."""
        frames = {row: piece.pictures.frames.result()[row, piece.place] for row, piece in made.pieces.items()}
        ready = self.now()
        with self.wake:
            self.meter.frame(ready, bool(self.clock.period) and ready > made.due)
            for slot in made.slots:
                if slot.fresh is None and slot.log is made.logs[slot.row]:  # not reset meanwhile
                    piece = made.pieces[slot.row]
                    slot.log.rows.append(piece.action)
                    slot.log.steps.append(piece.steps)
                    slot.log.eager += not piece.compiled
                    slot.shown = ShownFrame(len(slot.log.rows), frames[slot.row], piece.echo, piece.read, ready)
            self.wake.notify_all()
        for slot in made.slots:
            self._chart(slot, made.logs[slot.row], made.pieces[slot.row], ready)

    def _chart(self, slot: PlayerSlot, log: Log, piece: Piece, now: float) -> None:
        """Draw the map of a shown frame if one is due, without a lock, on the thread that decodes."""
        last, draw = slot.charted, piece.pictures.charts[slot.row]
        if draw is None or (last is not None and now - last.at < CHART and not slot.paused):
            return
        chart = draw()
        with self.wake:
            if slot.log is log:
                slot.charted = Charted(len(log.rows), chart, now)

    def _advance(self, actions: np.ndarray, rows: frozenset[int]) -> tuple[Pictures, int]:
        """The next frames of these rows and their steps."""
        guess, self.guess = self.guess, None
        if guess is not None:
            hit = guess.fits(actions, rows)
            if not hit:
                self.streams.restore(guess.snapshot)
            self.streams.release(guess.snapshot)
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
            if hit:
                return guess.pictures, guess.steps
        steps = self.governor.steps  # read once: the frame itself may change it
        return self._frame(actions, rows, steps), steps

    def _frame(self, actions: np.ndarray, rows: frozenset[int], steps: int) -> Pictures:
        """As `_advance`; dreams that stand still are put back to where they were."""
        began = self.now()
        standing = [row for row in self.slots if row not in rows]
        snapshot = self.streams.snapshot() if standing else None
        held = torch.from_numpy(actions)[:, None].expand(-1, self.streams.per_group, -1)
        decoding, charts = self.streams.decoding(self.streams.group(held, steps)), self.streams.charts()
        if snapshot is not None:
            self.streams.restore(snapshot, standing)
            self.streams.release(snapshot)
        self.governor.spent((self.now() - began + self._painted) / self.streams.per_group, steps)
        return Pictures(self._painter.submit(self._paint, decoding, self.now() - began), charts)

    def _paint(self, decoding: Decoding, dreamed: float) -> np.ndarray:
        """Decode the frames of all rows -> uint8 [capacity, F, H, W, 3]; runs on the thread that decodes.

        dreamed: seconds the network took for them.
        """
        began = self.now()
        frames = decoding.frames().numpy()
        self._painted = self.now() - began
        with self.wake:
            self.meter.spend("model", (dreamed + self._painted) / self.streams.per_group)
        return frames

    def _may_guess(self, moving: list[PlayerSlot], left: float) -> bool:
        soon = self.speculate and self.governor.cost() * self.streams.per_group <= left
        return soon and all(slot.fresh is None for slot in moving) and bool(self._lacking(moving))

    def _guess(self, actions: np.ndarray, rows: frozenset[int]) -> None:
        self.remade += self.guess is not None
        self._drop_guess()
        snapshot, steps = self.streams.snapshot(), self.governor.steps
        self.guess = Guess(snapshot, actions, rows, steps, self._frame(actions, rows, steps))

    def _drop_guess(self) -> None:
        if self.guess is not None:
            self.streams.restore(self.guess.snapshot)
            self.streams.release(self.guess.snapshot)
            self.guess = None

    def _actions(self, taken: dict[int, np.ndarray]) -> np.ndarray:
        actions = np.tile(self.world.config.spec.noop(), (self.capacity, 1))
        for row, action in taken.items():
            actions[row] = action
        return actions
