"""The server as a program has it: a socket, uvicorn on it with our limits, an end that is orderly and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette

from edgellm.errors import EdgellmError, UsageError
from edgellm.server.connection import WAITING_BYTES, connections
from edgellm.server.security import is_loopback
from edgellm.server.settings import ServerSettings


def check(settings: ServerSettings) -> None:
    """Raise UsageError where the server would be open to a network without a key."""
    if settings.api_key is None and not is_loopback(settings.host):
        raise UsageError(
            f"--host {settings.host} can be reached from other machines, so it needs a key: "
            "--api-key-file FILE, or EDGELLM_API_KEY"
        )


def bound(settings: ServerSettings) -> socket.socket:
    """The socket it will listen on. Raises UsageError, EdgellmError with the reason why it cannot be had."""
    check(settings)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"--host {settings.host} is no address of this machine: {error.strerror}") from None
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":  # there it would let another program take the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_BYTES)  # of every connection
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise EdgellmError(_why(settings, error)) from None
    return listening


def _why(settings: ServerSettings, error: OSError) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program: --port picks another, 0 a free one"
    if error.errno == errno.EACCES:
        return f"{where} needs rights that you do not have: --port 8080 needs none"
    return f"{where}: {error.strerror}"


def server(app: Starlette, settings: ServerSettings) -> uvicorn.Server:
    """uvicorn with our limits, silent: the guard says what is to be said."""
    config: dict[str, Any] = {
        "http": connections(settings),
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "on",
        "log_config": None,
        "log_level": "critical",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "h11_max_incomplete_event_size": settings.max_head_bytes,
        "timeout_keep_alive": settings.idle_seconds,
        "timeout_graceful_shutdown": settings.grace_seconds,
        "backlog": 128,
    }
    return uvicorn.Server(uvicorn.Config(app, **config))


def serve(
    app: Starlette, settings: ServerSettings, listening: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until a signal; `ready` is called when requests are taken. A second signal ends the process at once."""
    running = server(app, settings)
    running.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]

    def end(number: int, _frame: object) -> None:
        if running.should_exit:
            os._exit(128 + number)  # children follow: edgellm/lifeline.py
        running.should_exit = True

    before = {number: signal.signal(number, end) for number in _endings()}
    try:
        asyncio.run(_serve(running, listening, ready))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listening.close()


async def _serve(running: uvicorn.Server, listening: socket.socket, ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(running.serve(sockets=[listening]))
    while not running.started and not serving.done():
        await asyncio.sleep(0.01)
    if not serving.done():
        ready()
    await serving


def _endings() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]  # as `nohup` has it
