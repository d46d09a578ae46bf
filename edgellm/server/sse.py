"""Server-sent events: a response that begins with its first event, lives through silence, and ends with its reader."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgellm.errors import CancelledError, EdgellmError
from edgellm.server import errors

_T = TypeVar("_T")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
_COMMENT = b": working\n\n"
#: Ends of lines by Unicode, none by the protocol: httpx and others that read with str.splitlines() would cut there.
_ESCAPED = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


def event(data: Any, name: str | None = None) -> bytes:
    """One event: data as JSON on a line, or as it is where it is text ("[DONE]")."""
    text = data if isinstance(data, str) else dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def dumps(data: Any) -> str:
    """JSON on one line, as short as it gets."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if text.isascii() else text.translate(_ESCAPED)


class EventStream(Response):
    """The events that a generator yields as bytes.

    The status waits for the first of them, so that an error before it has a status of its own; a later error is
    `on_error`'s event, the last of the stream. `quiet_seconds` of silence are filled with comments. The generator is
    closed at once when the reader goes away.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        quiet_seconds: float,
        on_error: Callable[[errors.Told], bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code, self.background, self.media_type = 200, None, "text/event-stream"
        more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.raw_headers = [*_HEADERS, *more]
        self._events, self._quiet_seconds = events, quiet_seconds
        self._on_error = on_error or (lambda told: event(errors.openai_body(told)))
        self._n_written = 0

    @property
    def _begun(self) -> bool:
        return self._n_written > 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all. An error before the first event is raised."""
        try:
            await _while_connected(receive, self._send_all(send))
        except CancelledError:  # nobody reads any more
            if not self._begun:
                raise

    async def _send_all(self, send: Send) -> None:
        ticking = asyncio.create_task(self._tick(send))
        try:
            async with contextlib.aclosing(self._events):
                async for data in self._events:
                    await self._write(send, data)
        except Exception as error:
            if not self._begun:
                raise
            await self._write(send, self._on_error(errors.told(error)))
            if not isinstance(error, EdgellmError):
                raise
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tick(self, send: Send) -> None:
        while True:
            seen = self._n_written
            await asyncio.sleep(self._quiet_seconds)
            if seen == self._n_written:
                await self._write(send, _COMMENT)

    async def _write(self, send: Send, data: bytes) -> None:
        self._n_written += 1
        if self._n_written == 1:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def while_connected(request: Request, work: Awaitable[_T]) -> _T:
    """What `work` gives; it is cancelled when the client goes away, which is raised as CancelledError.

    The request's body must have been read.
    """
    return await _while_connected(request.receive, work)


async def _while_connected(receive: Receive, work: Awaitable[_T]) -> _T:
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CancelledError("the client went away")
        return working.result()
    finally:
        for task in (working, gone):
            if not task.done():
                task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
