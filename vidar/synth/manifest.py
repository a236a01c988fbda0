"""The manifest of a folder of videos: how they are made, and what became of every job. Written whole."""

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
        if not (folder / MANIFEST).is_file() and any(file.name != LOCK for file in folder.iterdir()):
            raise UsageError(f"{folder}: holds other files and no {MANIFEST}; give a new or empty folder")
        yield


class Manifest:
    """header: how all videos are made. jobs: an entry for each. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Read what is there. Raises VidarError where it is damaged."""
        self.file = folder / MANIFEST
        self.header: dict[str, Any] = {}
        self.jobs: list[dict[str, Any]] = []
        self._known: dict[str, dict[str, Any]] = {}  # entries of jobs by id, without refused lines
        self._lock = threading.Lock()
        if not self.file.is_file():
            return
        try:
            stored = json.loads(self.file.read_text())
            if stored["schema"] != SCHEMA:
                raise VidarError(
                    f"{self.file}: has schema {stored['schema']}, this vidar writes {SCHEMA}; give another folder"
                )
            self.jobs = list(stored.pop("jobs"))
            self.header = dict(stored)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise VidarError(
                f"{self.file}: damaged; remove it and what lies beside it, or give another folder"
            ) from None

    def settle(self, wanted: dict[str, Any], defaults: dict[str, Any]) -> None:
        """Fix what all videos are made with. wanted: None where it was left open; then what is stored, or the default.

        Raises UsageError where the videos that are there were made otherwise.
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
        """Bring the jobs of this run in; those still to be made, and those refused because their id means another job.

        What an earlier run refused is forgotten; its other jobs stay as they are.
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
            elif entry["status"] == DONE and all((self.file.parent / n).is_file() for n in outputs(plan.job.id)[:2]):
                entry["line"] = plan.line
            else:
                entry |= {"status": WAITING, "error": None, "segments": [], "line": plan.line}
                todo.append(plan)
        for one in [*refused, *changed]:
            self.jobs.append({"id": one.id, "line": one.line, "status": FAILED, "error": one.error})
        self.save()
        return todo, changed

    def entry(self, plan: ResolvedJob) -> dict[str, Any]:
        """What stands there of a job."""
        return self._known[plan.job.id]

    def note(self, plan: ResolvedJob, status: str, error: str | None = None, output: VideoOutput | None = None) -> None:
        """A job is now in another state."""
        with self._lock:
            self.entry(plan).update(status=status, error=error)
            if output is not None:
                self.entry(plan).update(segments=list(output.hashes))
            self._write()

    def save(self) -> None:
        """Write the file."""
        with self._lock:
            self._write()

    def told(self) -> dict[str, Any]:
        """Header and jobs, as they stand in the file."""
        return {**self.header, "jobs": self.jobs}

    def _write(self) -> None:
        with replacing(self.file) as temporary:
            temporary.write_text(json.dumps(self.told(), indent=1) + "\n")
