"""A WebSocket for a session: two coroutines, as ASGI has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vidar.play import messages
from vidar.play.messages import Closed

Event = MutableMapping[str, Any]


class Gone(Exception):
    """The client is no longer there."""


class Socket:
    """A WebSocket: text in, text and bytes out. A client that takes no message within `seconds` is disconnected."""

    def __init__(
        self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]], seconds: float
    ):
        self._receive, self._send, self.seconds = receive, send, seconds

    async def accept(self) -> None:
        """Finish the handshake."""
        await self._receive()
        await self._send({"type": "websocket.accept"})

    async def text(self) -> str:
        """The next message. Raises Gone, or Closed if it is not text."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        if message.get("text") is None:
            raise Closed(messages.BAD_TYPE, "only text messages are allowed")
        return message["text"]

    async def send(self, message: str | bytes) -> None:
        """Send, and return when the client has room for more. Raises Gone, or Closed if it is too slow."""
        key = "text" if isinstance(message, str) else "bytes"
        try:
            async with asyncio.timeout(self.seconds):
                await self._send({"type": "websocket.send", key: message})
        except TimeoutError:
            raise Closed(messages.POLICY, "the connection is too slow for the pictures") from None
        except (OSError, RuntimeError):
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        """Close with a code and a reason, if the client is still there."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(min(1.0, self.seconds)):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
