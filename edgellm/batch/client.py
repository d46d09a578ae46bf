"""An ASGI application asked in its own process: one request, one whole response, no socket.

Knows ASGI (https://asgi.readthedocs.io); knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

_HOST = "localhost"  # a name that every server answers to


class Client:
    """Asks `app`. Used from one event loop; a request whose task is cancelled goes away with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the response to JSON."""
        exchange = _Exchange(body)
        headers = {"host": _HOST, "content-type": "application/json", "content-length": str(len(body))}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": (_HOST, None),
        }
        await self._app(scope, exchange.receive, exchange.send)
        return exchange.status, bytes(exchange.said)


class _Exchange:
    """One request and its response."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status = 0
        self.said = bytearray()

    async def receive(self) -> Message:
        """The body, then nothing more: this client does not go away."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take what the application says."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.said += message.get("body", b"")
