"""The manifest of a folder of videos: the settings they are made with, and the state of every job."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidar.data.atomic import LOCK, TEMPORARY, lock_folder, replacing
from vidar.synth.jobs import MANIFEST, Refused, ResolvedJob, outputs
from vidar.synth.video_output import VideoOutput
from vidar.types import UsageError, VidarError

SCHEMA = 1
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@contextmanager
def lock_videos(folder: Path) -> Generator[None]:
    """Hold a folder of videos as `lock_folder` does, and remove the unfinished files of a killed process.

    Raises UsageError if it holds something other than videos of this command.
    """
    with lock_folder(folder, "vidar synth"):
        for left in folder.glob(f"*{TEMPORARY}*"):
            left.unlink(missing_ok=True)
        check_videos(folder)
        yield


def check_videos(folder: Path) -> None:
    """Raises UsageError if the folder exists and holds something other than videos of this command."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; give another one")
    if not (folder / MANIFEST).is_file() and folder.exists() and any(file.name != LOCK for file in folder.iterdir()):
        raise UsageError(f"{folder}: holds other files and no {MANIFEST}; give a new or empty folder")


ENTRY = {"id": str, "digest": str, "status": str, "row": int, "segments": list}  # what is read of an entry


def _is_entry(entry: dict[str, Any]) -> bool:
    """Whether it is the entry of a job, or of a line that was refused."""
    return "digest" not in entry or all(type(entry.get(name)) is kind for name, kind in ENTRY.items())


class Manifest:
    """header: the settings of all videos. jobs: one entry per job. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Read the file if there is one. Raises VidarError if it is damaged."""
        self.file = folder / MANIFEST
        self.header: dict[str, Any] = {}
        self.jobs: list[dict[str, Any]] = []
        self._known: dict[str, dict[str, Any]] = {}  # entries by id, without refused lines
        self._lock = threading.RLock()
        if not self.file.is_file():
            return
        try:
            stored = json.loads(self.file.read_text())
            if stored["schema"] != SCHEMA:
                raise VidarError(
                    f"{self.file}: has schema {stored['schema']}, this vidar writes {SCHEMA}; give another folder"
                )
            self.jobs = [dict(entry) for entry in stored.pop("jobs")]
            self.header = {"spread_starts": False, "no_memory": False, **stored}  # older manifests do not say so
            if not all(map(_is_entry, self.jobs)):
                raise ValueError("an entry of a job is not one")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise VidarError(
                f"{self.file}: damaged; remove it and what lies beside it, or give another folder"
            ) from None

    def settle(self, wanted: dict[str, Any], defaults: dict[str, Any]) -> None:
        """Set the settings of all videos. wanted: a value per setting; None: the stored one, or the default.

        Raises UsageError if the videos in the folder were made with other settings.
        """
        for name, value in wanted.items():
            stored = self.header.get(name)
            if stored is not None and value is not None and stored != value:
                raise UsageError(
                    f"{self.file.parent}: its videos are made with {name} {stored}, not {value}; "
                    f"leave that as it was, or give another folder"
                )
            self.header[name] = stored if stored is not None else value if value is not None else defaults[name]
        self.header = {"schema": SCHEMA, **self.header}

    def enter(
        self, plans: Sequence[ResolvedJob], refused: Sequence[Refused], rows: int
    ) -> tuple[list[ResolvedJob], list[Refused]]:
        """Enter the jobs of this run, without writing the file.

        Returns the jobs that are not finished, and those refused because the folder has another job with their id.
        Lines that an earlier run refused are dropped; its other jobs stay as they are.
        """
        self.jobs = [entry for entry in self.jobs if "digest" in entry]
        self._known = known = {entry["id"]: entry for entry in self.jobs}
        todo, changed = list[ResolvedJob](), list[Refused]()
        for plan in plans:
            entry = known.get(plan.job.id)
            if entry is None:
                if there := [name for name in outputs(plan.job.id) if (self.file.parent / name).exists()]:
                    problem = (
                        f"{self.file.parent / there[0]}: exists, and is of no job of {self.file.name}; move it away"
                    )
                    changed.append(Refused(plan.line, plan.job.id, problem))
                    continue
                row = len(known) % rows
                entry = {"id": plan.job.id, "line": plan.line, "status": WAITING, "error": None, "frames": plan.frames}
                entry |= {"digest": plan.digest, "row": row, "segments": []}
                known[plan.job.id] = entry
                self.jobs.append(entry)
            if entry["digest"] != plan.digest:
                problem = f"id {plan.job.id!r} is another job in {self.file}; give the changed job another id"
                changed.append(Refused(plan.line, plan.job.id, problem))
                continue
            entry |= {"seed": plan.seed, "context": plan.start}
            if entry["status"] == DONE and all((self.file.parent / n).is_file() for n in outputs(plan.job.id)[:2]):
                entry["line"] = plan.line
                if problem := self._changed(plan.job.id, entry):
                    changed.append(Refused(plan.line, plan.job.id, problem))
            else:
                entry |= {"status": WAITING, "error": None, "segments": [], "line": plan.line}
                todo.append(plan)
        for one in [*refused, *changed]:
            self.jobs.append({"id": one.id, "line": one.line, "status": FAILED, "error": one.error})
        return todo, changed

    def _changed(self, name: str, entry: dict[str, Any]) -> str:
        """How a finished video differs from what was written ("": not at all, or not known), by its size alone."""
        video = self.file.parent / outputs(name)[0]
        size, written = video.stat().st_size, entry.get("bytes")
        if written in (None, size):
            return ""
        return f"{video}: has {size} bytes, but {written} were written; remove it to have it made again"

    def entry(self, plan: ResolvedJob) -> dict[str, Any]:
        """The entry of a job."""
        return self._known[plan.job.id]

    def note(self, plan: ResolvedJob, status: str, error: str | None = None, output: VideoOutput | None = None) -> None:
        """Set the state of a job, and write the file."""
        with self._lock:
            self.entry(plan).update(status=status, error=error)
            if output is not None:
                self.entry(plan).update(segments=list(output.hashes))
            if status == DONE:
                self.entry(plan).update(bytes=(self.file.parent / outputs(plan.job.id)[0]).stat().st_size)
            self._write()

    def save(self) -> None:
        """Write the file."""
        with self._lock:
            self._write()

    def content(self) -> dict[str, Any]:
        """A copy of header and jobs, as in the file."""
        with self._lock:
            return {**self.header, "jobs": [dict(entry) for entry in self.jobs]}

    def _write(self) -> None:
        with replacing(self.file) as temporary:
            temporary.write_text(json.dumps(self.content(), indent=1) + "\n")
