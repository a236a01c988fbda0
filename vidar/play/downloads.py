"""Files that one session may fetch, once, for a while, by a name that nobody can guess."""

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
    """A file, whose it is, and until when it may be fetched (seconds, monotonic)."""

    file: Path
    session: str
    until: float


class Downloads:
    """At most one file is kept for a session: a newer one takes its place. For use from one thread.

    session: a secret that only that session knows. Every file lies in a folder of its own, from `room`.
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
        """The file, no longer offered, its folder the caller's to `delete`; None where the session has no such one."""
        self.expire()
        offer = self.offers.get(name)
        if offer is None or not hmac.compare_digest(offer.session.encode(), session.encode()):
            return None
        del self.offers[name]
        return offer.file

    def expire(self) -> None:
        """Delete what was not fetched in time."""
        for name in [name for name, offer in self.offers.items() if self.now() >= offer.until]:
            self._drop(name)

    def forget(self, session: str) -> None:
        """A session has ended: delete all that is its own."""
        self.offers = {name: offer for name, offer in self.offers.items() if offer.session != session}
        if (home := self.homes.pop(session, None)) is not None:
            shutil.rmtree(home, ignore_errors=True)

    def delete(self, room: Path) -> None:
        """A folder from `room`, and what is in it."""
        shutil.rmtree(room, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        self.offers.clear()
        self.folder.cleanup()

    def _drop(self, name: str) -> None:
        self.delete(self.offers.pop(name).file.parent)
