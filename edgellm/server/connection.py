"""One connection as uvicorn's h11 protocol has it, with deadlines for what comes in and for a reader that is slow."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgellm.server.settings import ServerSettings

#: Bytes that may wait for a reader in this process; as many wait in the kernel.
WAITING_BYTES = 64 * 2**10


class Connection(H11Protocol):
    """A request has to come in whole within `read_seconds`; what waits for its reader must move in `write_seconds`."""

    settings: ServerSettings  # set by `connections`

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.since = self.loop.time()  # when it was opened, or has begun to be idle
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet it. Where there are too many, hang up on the one that has been asking nothing for longest."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        if len(self.connections) > self.settings.max_connections:
            self._make_room()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its deadlines."""
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        self._reading = self._writing = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came; the deadline is the whole request's, so that a byte now and then is no excuse."""
        super().data_received(data)
        self._expect()

    def pause_writing(self) -> None:
        """The reader is slow."""
        super().pause_writing()
        self._limit_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._writing is not None and not self.transport.is_closing():
            self._writing.cancel()
            self._writing = None

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the reader to take the rest of this response."""
        self.since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._limit_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more was asked."""
        super().timeout_keep_alive_handler()
        self._limit_writing()

    @property
    def is_waiting(self) -> bool:
        """Whether no whole request of it is being served."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _make_room(self) -> None:
        waiting = [other for other in self.connections if isinstance(other, Connection) and other.is_waiting]
        min(waiting, key=lambda other: other.since, default=self).transport.abort()

    def _expect(self) -> None:
        """Have the deadline run exactly while a request is incomplete."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self._between()
        if incomplete and self._reading is None:
            self._reading = self.loop.call_later(self.settings.read_seconds, self._give_up)
        elif not incomplete and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _between(self) -> bool:
        """Whether it is idle after a response, which uvicorn's keep-alive bounds."""
        return self.timeout_keep_alive_task is not None and self.conn.their_state is h11.IDLE

    def _give_up(self) -> None:
        self._reading = None
        self.transport.abort()

    def _limit_writing(self) -> None:
        if self._writing is None:
            self._writing = self.loop.call_later(self.settings.write_seconds, self.transport.abort)


def connections(settings: ServerSettings) -> type[Connection]:
    """The protocol class for uvicorn, with these limits."""
    return cast("type[Connection]", type("Connection", (Connection,), {"settings": settings}))
