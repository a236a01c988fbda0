"""Records part of a dream while it is played: files for `vidar data convert`, and the file that replays the dream.

The zip holds NAME.mp4 and NAME.csv (a row of actions for each frame; row t acts between frame t-1 and t), actions.yaml
for `--spec`, and NAME.dream for `vidar replay`, which holds the whole dream from its start.
"""

from __future__ import annotations

import csv
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidar.config import to_yaml
from vidar.data.video import write_video
from vidar.play.engine import PlayerSlot, ShownFrame
from vidar.play.recording import keep
from vidar.types import VidarError


@dataclass(frozen=True)
class Packed:
    """A finished recording: its zip, and the frames in it."""

    file: Path
    frames: int


class Capture:
    """Records a slot from its present frame on, until `pack`, a reset of the slot, or a limit.

    It does not count as a reader of the slot. Frames are encoded as they come, so memory does not grow with their
    number; at most `most_frames`, and none after the files in `folder` have reached `most_bytes`. If a busy machine
    misses a frame, the video ends and another one begins, so that every row of actions has its two frames. Time stamps
    are those of the world's own rate.
    """

    def __init__(self, slot: PlayerSlot, folder: Path, most_frames: int, most_bytes: int) -> None:
        self.slot, self.log, self.folder = slot, slot.log, folder
        self.most_frames, self.most_bytes = most_frames, most_bytes
        world = re.sub(r"[^A-Za-z0-9_-]", "_", slot.engine.world.config.name)[:40]
        self.name = f"{world}-{slot.log.start.seed}"
        self.pieces: list[tuple[int, int]] = []  # number of the first frame, and how many: one video each
        self.taken = 0
        self.failed: VidarError | None = None
        self._stopped, self._full = False, False
        self._held: ShownFrame | None = None
        self._thread = threading.Thread(target=self._run, name="vidar-capture", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the recording is over."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Record no further frame. Does not wait for the files."""
        with self.slot.engine.wake:
            self._stopped = True
            self.slot.engine.wake.notify_all()

    def pack(self) -> Packed | None:
        """Stop, and write the zip; None if fewer than two frames in a row were seen. Blocks until all is written.

        Raises VidarError if something cannot be written.
        """
        self.stop()
        self._thread.join()
        if self.failed is not None:
            raise self.failed
        if not self.pieces:
            return None
        first = self.pieces[0][0]
        keep(self.slot, self.folder / f"{self.name}-{first:06d}.dream")
        (self.folder / "actions.yaml").write_text(to_yaml(self.slot.engine.world.config.spec))
        for piece in self.pieces:
            self._write_actions(*piece)
        parts = sorted(self.folder.iterdir())
        file = self.folder / f"{self.name}-{first:06d}.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for part in parts:
                packed.write(part, part.name)
        for part in parts:
            part.unlink()
        return Packed(file, sum(count for _, count in self.pieces))

    def _run(self) -> None:
        try:
            self._held = self._next(None)
            while self._held is not None:
                first, taken = self._held.number, self.taken
                file = self.folder / f"{self.name}-{first:06d}.mp4"
                write_video(file, self._piece(self._held), self.slot.engine.world.config.fps)
                if self.taken - taken > 1:
                    self.pieces.append((first, self.taken - taken))
                else:  # one frame has no action
                    file.unlink(missing_ok=True)
        except VidarError as error:
            self.failed = error

    def _piece(self, shown: ShownFrame) -> Iterator[np.ndarray]:
        """Yield frames up to a gap; the frame after the gap is left in `_held`."""
        while True:
            yield shown.frame
            self.taken += 1
            self._full = self.taken >= self.most_frames or self._bytes() >= self.most_bytes
            self._held = self._next(shown.number)
            if self._held is None or self._held.number != shown.number + 1:
                return
            shown = self._held

    def _next(self, after: int | None) -> ShownFrame | None:
        """The slot's frame once it is no longer number `after`; None at the end."""
        slot, wake = self.slot, self.slot.engine.wake
        with wake:
            wake.wait_for(lambda: self._over() or (slot.shown is not None and slot.shown.number != after))
            return None if self._over() else slot.shown

    def _over(self) -> bool:
        return self._stopped or self._full or self.slot.log is not self.log or self.slot.engine.failed is not None

    def _bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def _write_actions(self, first: int, count: int) -> None:
        names = self.slot.engine.world.config.spec.names
        rows = self.log.rows[first - 1 : first - 1 + count]
        with (self.folder / f"{self.name}-{first:06d}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([names, *([f"{value:.9g}" for value in row] for row in rows)])
