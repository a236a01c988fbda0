"""The web server of `vidar play`: starlette for the routes, uvicorn for the sockets.

A connection counts as half-open until it belongs to a player's session. Half-open ones are cut after `Limits.handshake`
seconds, and the oldest first if there are too many, so that they never keep a player out. All addresses in the page are
relative, so it works behind a proxy under any path, whether the proxy cuts that off or not; a path that lacks its last
slash is redirected.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import vidar
from vidar.play.client import welcome
from vidar.play.connection import Socket
from vidar.play.downloads import Downloads
from vidar.play.guard import HEADERS, Guard, Limits
from vidar.play.lobby import Lobby
from vidar.play.messages import RECORDINGS
from vidar.types import UsageError, VidarError

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SLASH = "/slash.js"  # also the answer to "?slash.js": it has to load from an address that lacks its last slash
FOLDER = re.compile(r"[\w~-][\w~@:+-]*")  # the last part of a prefix; with a dot, it would be a file that is missing
PREFIXED = re.compile(rf"((?:/[\w~-][\w~.@:+-]*)*?)({RECORDINGS}[^/]*|/[^/]*)")  # a prefix, and a path of this server
FLUSH = 1.0  # seconds for what is still to be written when a session has ended
MOST_HEADERS = 16 * 1024
PART = 64 * 1024  # bytes of a download at a time


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any free one. Raises VidarError if the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VidarError(f"cannot listen on {host}:{port}: {reason}; choose another --port or --host") from None


def address(host: str, sock: socket.socket, guard: Guard) -> str:
    """What to open in a browser. The token stands behind #, which browsers keep to themselves."""
    name = host.strip("[]")
    if name in ("0.0.0.0", "::", ""):
        name = _own_address(name)
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{sock.getsockname()[1]}/" + (f"#{guard.token}" if guard.token is not None else "")


def _own_address(wildcard: str) -> str:
    """The address by which other machines reach this one, as far as it can be known without sending anything."""
    family, far = (socket.AF_INET6, "2001:db8::1") if ":" in wildcard else (socket.AF_INET, "192.0.2.1")
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, 9))
        return probe.getsockname()[0]
    return socket.gethostname()


class HalfOpen:
    """Connections that belong to no session yet, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.timers: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def add(self, transport: asyncio.Transport) -> None:
        """A new connection."""
        if len(self.timers) >= self.limits.half_open:
            self._cut(next(iter(self.timers)))
        loop = asyncio.get_running_loop()
        self.timers[transport] = loop.call_later(self.limits.handshake, self._cut, transport)

    def drop(self, transport: asyncio.Transport) -> None:
        """It belongs to a session now, or is closed."""
        if (timer := self.timers.pop(transport, None)) is not None:
            timer.cancel()

    def grant(self, transport: asyncio.Transport, seconds: float) -> None:
        """It fetches a recording, and may take that long."""
        self.drop(transport)
        asyncio.get_running_loop().call_later(seconds, transport.abort)

    def _cut(self, transport: asyncio.Transport) -> None:
        self.drop(transport)
        transport.abort()


class Application:
    """The routes, behind the guard: an ASGI application."""

    def __init__(self, lobby: Lobby) -> None:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route, WebSocketRoute

        def file(path: Path) -> Callable[[Any], Any]:
            content, kind = path.read_bytes(), TYPES[path.suffix]
            return lambda _: Response(content, media_type=kind)

        def healthz(_: Any) -> Response:
            ok = lobby.engine.failed is None
            return JSONResponse({"ok": ok}, 200 if ok else 503)

        def metrics(_: Any) -> Response:
            return PlainTextResponse(lobby.metrics())

        self.lobby = lobby
        paths = {f"/{path.name}": path for path in PAGE.iterdir() if path.suffix in TYPES}
        index, slash = file(paths.pop("/index.html")), file(paths[SLASH])

        def root(request: Any) -> Response:
            return (slash if request.url.query == SLASH[1:] else index)(request)

        pages = [Route("/", root), *(Route(name, file(path)) for name, path in paths.items())]
        others = [Route("/healthz", healthz), Route("/metrics", metrics)]
        others.append(Route("/door", lambda _: Response(status_code=204), methods=["POST"]))
        others.append(Route(RECORDINGS + "{name}", Fetch(lobby), methods=["POST"]))
        self.names = {"ws"} | {name for route in (*pages, *others) for name in route.path.split("/") if name}
        routes = [*pages, *others, WebSocketRoute("/ws", Play(lobby)), Route("/{name}", self._with_slash)]
        self.inner = Starlette(routes=routes)
        self.inner.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            guard, peer = self.lobby.guard, scope["client"][0] if scope.get("client") else ""
            fault = guard.refusal(headers, scope["server"][0] if scope.get("server") else None)
            if fault is not None and (fault == "host" or scope["type"] == "websocket" or scope["method"] == "POST"):
                self.lobby.counts.refused[fault] += 1
                return await self._refuse(guard.explain(fault, headers), scope, receive, send)
            scope = {**scope, "path": self._below(scope["path"]), "client": (guard.client(headers, peer), 0)}
        await self.inner(scope, receive, send)

    def _below(self, path: str) -> str:
        """A path without the prefix under which a proxy serves the page, which some proxies leave in it."""
        found = PREFIXED.fullmatch(path)
        return path if found is None or self.names & set(found[1].split("/")) else found[2]

    async def _with_slash(self, request: Any) -> Any:
        """The redirect from a prefix without its last slash; 404 for other names, and for those of this server.

        It is relative, because only the browser knows the whole path.
        """
        from starlette.responses import PlainTextResponse, RedirectResponse

        name, query = request.path_params["name"], request.url.query
        if name in self.names or not FOLDER.fullmatch(name):
            return PlainTextResponse("Not Found", 404)
        return RedirectResponse(f"./{name}/{query and '?'}{query}", 307)

    async def _refuse(self, text: str, scope: Any, receive: Any, send: Any) -> None:
        """HTTP 403, of a WebSocket before the upgrade."""
        from starlette.responses import PlainTextResponse

        own = dict(HEADERS) if scope["type"] == "websocket" else None  # uvicorn adds them to HTTP responses only
        await PlainTextResponse(text, 403, own)(scope, receive, send)


class Fetch:
    """Sends a recording, once, to the session that made it; anybody else gets 404. An ASGI application.

    The method is POST, since the file is deleted then; a page of another site cannot set the header that names the
    session.
    """

    def __init__(self, lobby: Lobby) -> None:
        self.lobby = lobby

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        from starlette.responses import PlainTextResponse, Response, StreamingResponse

        lobby, headers = self.lobby, dict(scope["headers"])
        session = headers.get(b"x-vidar-session", b"").decode("latin-1")
        file = lobby.downloads.take(scope["path_params"]["name"], session)
        response: Response = PlainTextResponse("Not Found", 404)
        if file is not None:
            lobby.counts.downloads += 1
            scope["state"]["granted"]()
            head = {"Content-Disposition": f'attachment; filename="{file.name}"', "Connection": "close"}
            head["Content-Length"] = str(file.stat().st_size)
            response = StreamingResponse(_parts(file, lobby.downloads), 200, head, "application/zip")
        await response(scope, receive, send)


async def _parts(file: Path, downloads: Downloads) -> AsyncIterator[bytes]:
    """The bytes of a file, which is deleted afterwards."""
    try:
        with file.open("rb") as data:
            while part := data.read(PART):
                yield part
    finally:
        downloads.delete(file.parent)


class Play:
    """The end point of the WebSocket: an ASGI application."""

    def __init__(self, lobby: Lobby) -> None:
        self.lobby = lobby

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        connection = Socket(receive, send, self.lobby.limits.send)
        await welcome(self.lobby, connection, scope["client"][0], scope["state"]["admitted"])


def make_server(lobby: Lobby) -> Any:
    """A uvicorn server of this lobby: `run(sockets=[...])` serves, `should_exit = True` stops it.

    Raises UsageError if the extra `serve` is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise _missing() from None
    limits = lobby.limits
    http, websocket = _protocols(lobby)

    class Server(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or lobby.engine.failed is not None

        async def shutdown(self, sockets: Any = None) -> None:
            for server in self.servers:
                server.close()
            await lobby.close()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        Application(lobby),
        http=http,
        ws=websocket,
        loop="asyncio",
        lifespan="off",
        ws_max_size=limits.message_bytes,
        ws_ping_interval=limits.ping,
        ws_ping_timeout=limits.ping,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=MOST_HEADERS,
        headers=list(HEADERS),
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_config=None,
        log_level="warning",  # at "debug" messages are logged, and with them the token
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


def _protocols(lobby: Lobby) -> tuple[type[Any], type[Any]]:
    """uvicorn's two protocols, with a limit on half-open connections, and our headers on their own refusals too."""
    try:
        from uvicorn.protocols.http.h11_impl import H11Protocol
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    except ImportError:
        raise _missing() from None
    half_open, limits = HalfOpen(lobby.limits), lobby.limits

    class Http(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            half_open.add(transport)
            self.app_state = {**self.app_state, "granted": lambda: half_open.grant(transport, limits.download)}
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            half_open.drop(self.transport)
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            head = [*HEADERS, ("Content-Type", "text/plain"), ("Content-Length", "0"), ("Connection", "close")]
            lines = "".join(f"{name}: {value}\r\n" for name, value in head)
            self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{lines}\r\n".encode())
            self.transport.close()

    class WebSocket(WebSocketsSansIOProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            reject = self.conn.reject

            def refusal(status: Any, text: str) -> Any:
                response = reject(status, text)
                response.headers.update(HEADERS)
                return response

            self.conn.reject = refusal

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=limits.write_bytes)
            # frames that wait in the kernel are old when they arrive
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.write_bytes)

        def connection_lost(self, exc: Exception | None) -> None:
            half_open.drop(self.transport)
            super().connection_lost(exc)

        async def run_asgi(self) -> None:
            self.scope.setdefault("state", {})["admitted"] = lambda: half_open.drop(self.transport)
            await super().run_asgi()
            self.loop.call_later(FLUSH, self.transport.abort)

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.send":
                await self.writable.wait()  # only then the next frame is chosen: the newest
            elif message["type"] == "websocket.http.response.body":
                self.handshake_complete = True  # else uvicorn reports a refusal as an error

    return Http, WebSocket


def _missing() -> UsageError:
    return UsageError(f"vidar play needs a web server: pip install '{vidar.DISTRIBUTION}[serve]'")


def run(lobby: Lobby, sock: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Raises the error that ended the engine's thread, if there was one."""
    server = make_server(lobby)
    with lobby.engine, _stoppable(server):
        server.run(sockets=[sock])
    lobby.engine.raise_failure()


@contextlib.contextmanager
def _stoppable(server: Any) -> Generator[None]:
    """A signal before uvicorn listens for it stops the server too; uvicorn raises it once more at its end: ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    kept = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in kept.items():
            signal.signal(sign, handler)
