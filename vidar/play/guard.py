"""Who may use the server: host names, origins, the token, and the limits of what a client may ask for."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from vidar.types import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORTS = {"http": 80, "https": 443}  # that a browser leaves out of an origin
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
    """What one client, and all of them together, may ask for. Times in seconds.

    handshake: from a connection to a player's session; a connection that takes longer is cut. half_open: connections
    that are no player's session yet; beyond that the oldest is cut. write_bytes: what waits for a slow reader, beside
    the frame that is being sent. burst, excess: messages beyond the rate that are let through, and then dropped, before
    the session ends. per_ip: sessions of one address, playing or waiting; None: the number of players plus one.
    recording: the world's own time in one recording. download: how long a file is kept, and how long fetching it may
    then take.
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
    per_ip: int | None = None
    queue: int = 16  # sessions that wait for a slot
    recording: float = 300.0
    recording_bytes: int = 64 * 1024 * 1024
    download: float = 120.0


class Bucket:
    """A token bucket: `rate` tokens a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.now = rate, burst, now
        self.level, self.at = burst, now()

    def take(self) -> bool:
        """Take a token and return True, or return False if there is none."""
        now = self.now()
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class Guard:
    """The names by which the server may be called, the origins of pages that may use it, and its token.

    hosts, origins: names and origins allowed beside the server's own ones; see `host_name` and `origin_of`.
    trust_proxy: believe X-Forwarded-Host and -For, which is right only if every request comes through a proxy that sets
    them. token: None where only this machine can reach the server.

    Choice: an Origin must have the very host and port of the Host header, so that no other page of this machine may
    play; a request without an Origin comes from no browser and needs none. A Host may also be an address: the one that
    the connection came in by, or any address if the server is open to other machines (a published port of a container
    has one that the server does not know). A foreign name can be rebound to a server's address, an address cannot.
    """

    def __init__(
        self, host: str, hosts: Iterable[str] = (), origins: Iterable[str] = (), trust_proxy: bool = False
    ) -> None:
        own = host.lower().strip("[]")
        allowed = [host_name(name) for name in hosts]
        self.names = {*LOOPBACK, own, *(urlsplit(f"//{name}").hostname or "" for name in allowed)}
        self.origins = {origin_of(origin) for origin in origins}
        self.origins |= {origin_of(f"{scheme}://{name}") for name in allowed for scheme in PORTS}
        self.trust_proxy = trust_proxy
        self.token = None if is_loopback(host) else secrets.token_hex(16)

    def refusal(self, headers: Mapping[str, str], address: str | None) -> str | None:
        """The header at fault ("host" or "origin"), or None. address: the server's own end of the connection."""
        host = headers.get("host", "").lower()
        name = _name(host)
        is_own = name in self.names or (address is not None and name == address.lower())
        if name is None or not (is_own or (self.token is not None and _is_address(name))):
            return "host"
        origin = headers.get("origin")
        forwarded = _last(headers.get("x-forwarded-host", "")).lower() if self.trust_proxy else ""
        good = origin is None or origin.lower() in self.origins
        return None if good or any(_same(origin, one) for one in (host, forwarded) if one) else "origin"

    def explain(self, fault: str, headers: Mapping[str, str]) -> str:
        """What to tell who was refused: the reason, and the option that opens the door."""
        value = headers.get(fault, "")[:200].lower()
        if fault == "host":
            try:
                name = _name(host_name(value))
            except UsageError:
                return "403 Forbidden: the Host header names no server.\n"
            return (
                f"403 Forbidden: this vidar play does not answer to the name {name} (a protection against DNS "
                f"rebinding). If the name is its own, start it with: vidar play ... --allow-host {name}\n"
            )
        try:
            origin = origin_of(value)
        except UsageError:
            return "403 Forbidden: pages without an address of their own may not use this vidar play.\n"
        return (
            f"403 Forbidden: pages of {origin} may not use this vidar play. If that is the address under which it is "
            f"reached, start it with: vidar play ... --allow-origin {origin}, or with --trust-proxy behind a proxy "
            "that sets X-Forwarded-Host\n"
        )

    def client(self, headers: Mapping[str, str], peer: str) -> str:
        """The address of the client: the peer's, or the one that a trusted proxy names."""
        named = _last(headers.get("x-forwarded-for", "")) if self.trust_proxy else ""
        return named if _is_address(named) else peer

    def knows(self, token: str) -> bool:
        """Whether it is the token; takes as long for every wrong one."""
        return self.token is None or hmac.compare_digest(self.token.encode(), token.encode())


def host_name(text: str) -> str:
    """A name or address with or without a port, in lower case. Raises UsageError for anything else."""
    lowered = text.lower()
    host = f"[{lowered}]" if _is_address(lowered) and ":" in lowered else lowered
    name = _name(host) or ""
    if not _is_name(name):
        raise UsageError(f"--allow-host {text!r}: give a name such as play.example.org, without https:// and path")
    return host


def origin_of(text: str) -> str:
    """scheme://host, as browsers write it: in lower case, without the scheme's own port. Raises UsageError."""
    scheme, _, host = text.lower().rstrip("/").partition("://")
    name = _name(host) or ""
    if scheme not in PORTS or not _is_name(name):
        raise UsageError(f"--allow-origin {text!r}: give scheme and host, such as https://play.example.org")
    return f"{scheme}://{host.removesuffix(f':{PORTS[scheme]}')}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_name(text: str) -> bool:
    return _is_address(text) or re.fullmatch(r"[a-z0-9._-]+", text) is not None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _last(values: str) -> str:
    """The last of a list: the one that the nearest proxy has added."""
    return values.rpartition(",")[2].strip()


def _same(origin: str | None, host: str) -> bool:
    """Whether an Origin is of this Host."""
    scheme, _, own = (origin or "").lower().partition("://")
    if scheme not in PORTS or _name(own) is None or _name(host) is None:
        return False
    first, second = urlsplit(f"//{own}"), urlsplit(f"//{host}")
    return first.hostname == second.hostname and (first.port or PORTS[scheme]) == (second.port or PORTS[scheme])


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None where it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        plain = parts.netloc == host and parts.username is None and (parts.port is None or parts.port >= 0)
        return parts.hostname if plain and not any(sign.isspace() for sign in host) else None
    except ValueError:
        return None


class Counts:
    """Counters for /metrics. Used from one thread."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.sessions = self.frames = self.dropped = self.recordings = self.downloads = 0

    def text(self, gauges: Mapping[str, float], counters: Mapping[str, float]) -> str:
        """These figures and the counters in the text format of Prometheus."""
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
