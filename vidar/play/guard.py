"""Who may come in, and how much of it: names, token, limits."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = (  # of every response
    (
        "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
)


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them, may ask for. Times in seconds.

    handshake: until a connection is a player's; a connection that is not by then is cut, whatever it does. half_open:
    connections that are not yet a player's; the oldest goes. write_bytes: what waits for a slow reader beside the frame
    under way. burst, excess: messages beyond the rate that are let through, then that are dropped, before the end.
    recording: of the world's own time in one recording. download: how long its file is kept, and how long fetching it
    may then take.
    """

    message_bytes: int = 64 * 1024
    write_bytes: int = 32 * 1024
    messages: float = 120.0  # a second
    burst: float = 120.0
    excess: int = 120
    handshake: float = 10.0
    half_open: int = 200
    send: float = 10.0
    ping: float = 20.0
    idle: float = 120.0
    session: float = 30 * 60.0
    per_ip: int = 2
    queue: int = 16  # sessions that wait for a slot
    recording: float = 300.0
    recording_bytes: int = 64 * 1024 * 1024
    download: float = 120.0


class Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.now = rate, burst, now
        self.level, self.at = burst, now()

    def take(self) -> bool:
        """Take one, where there is one."""
        now = self.now()
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class Guard:
    """Names by which the server may be called, and its token: None where only this machine can reach it.

    Choice: an Origin must be the very host and port of the Host header, so that no other page of this machine gets in;
    a request without an Origin comes from no browser and needs none. A Host may also be the address a connection came
    in by: no foreign name can stand for it.
    """

    def __init__(self, host: str) -> None:
        self.names = {*LOOPBACK, host.lower().strip("[]")}
        self.token = None if is_loopback(host) else secrets.token_hex(16)

    def refusal(self, headers: Mapping[str, str], address: str | None) -> str | None:
        """The header at fault ("host" or "origin"), or None. address: the server's own end of the connection."""
        host = headers.get("host", "").lower()
        name = _name(host)
        if name is None or not (name in self.names or (address is not None and name == address.lower())):
            return "host"
        origin = headers.get("origin")
        return None if origin is None or origin.lower() in (f"http://{host}", f"https://{host}") else "origin"

    def knows(self, token: str) -> bool:
        """Whether it is the token; takes as long for every wrong one."""
        return self.token is None or hmac.compare_digest(self.token.encode(), token.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None where it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        plain = parts.netloc == host and parts.username is None and (parts.port is None or parts.port >= 0)
        return parts.hostname if plain else None
    except ValueError:
        return None


class Counts:
    """What happened, for /metrics. All of it from one thread."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.sessions = self.frames = self.dropped = self.recordings = self.downloads = 0

    def text(self, gauges: Mapping[str, float], counters: Mapping[str, float]) -> str:
        """Prometheus text: these figures, and the counts."""
        own = {"sessions": self.sessions, "frames_sent": self.frames, "messages_dropped": self.dropped}
        own |= {"recordings": self.recordings, "downloads": self.downloads}
        lines: list[str] = []
        for kind, values in (("gauge", gauges), ("counter", {**counters, **own})):
            end = "_total" if kind == "counter" else ""
            for name, value in values.items():
                lines += [f"# TYPE vidar_play_{name}{end} {kind}", f"vidar_play_{name}{end} {value:g}"]
        for name, label, table in (("refused", "reason", self.refused), ("closed", "code", self.closed)):
            lines.append(f"# TYPE vidar_play_{name}_total counter")
            lines += [f'vidar_play_{name}_total{{{label}="{key}"}} {count}' for key, count in sorted(table.items())]
        return "\n".join(lines) + "\n"
