"""Files that one session may download once, within a time limit, under a name that nobody can guess."""

from __future__ import annotations

import hmac
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Offer:
    """A file, the session that may fetch it, and until when (seconds, monotonic)."""

    file: Path
    session: str
    until: float


class Downloads:
    """Keeps at most one file of each session; a newer one replaces it. For use from one thread.

    session: a secret that only that session knows. Every file lies in a folder of its own, made by `room`.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.now = seconds, now
        self.folder = tempfile.TemporaryDirectory(prefix="vidar-play-", ignore_cleanup_errors=True)
        self.homes: dict[str, Path] = {}
        self.offers: dict[str, Offer] = {}

    def room(self, session: str) -> Path:
        """A fresh folder for one file of a session."""
        if session not in self.homes:
            self.homes[session] = Path(tempfile.mkdtemp(dir=self.folder.name))
        return Path(tempfile.mkdtemp(dir=self.homes[session]))

    def offer(self, session: str, file: Path) -> str:
        """The name by which the session may fetch it."""
        for name in [name for name, offer in self.offers.items() if offer.session == session]:
            self._drop(name)
        name = secrets.token_hex(16)
        self.offers[name] = Offer(file, session, self.now() + self.seconds)
        return name

    def take(self, name: str, session: str) -> Path | None:
        """The file, which is offered no longer; the caller has to `delete` its folder. None if the session has none."""
        self.expire()
        offer = self.offers.get(name)
        if offer is None or not hmac.compare_digest(offer.session.encode(), session.encode()):
            return None
        del self.offers[name]
        return offer.file

    def expire(self) -> None:
        """Delete files that were not fetched in time."""
        for name in [name for name, offer in self.offers.items() if self.now() >= offer.until]:
            self._drop(name)

    def forget(self, session: str) -> None:
        """Delete all files of a session that has ended."""
        self.offers = {name: offer for name, offer in self.offers.items() if offer.session != session}
        if (home := self.homes.pop(session, None)) is not None:
            shutil.rmtree(home, ignore_errors=True)

    def delete(self, room: Path) -> None:
        """Delete a folder made by `room` and its content."""
        shutil.rmtree(room, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        self.offers.clear()
        self.folder.cleanup()

    def _drop(self, name: str) -> None:
        self.delete(self.offers.pop(name).file.parent)
