"""The real server in a thread of this process, its engines in theirs, asked over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm.catalog import first_use
from edgellm.server import app, listen
from edgellm.server.settings import ServerSettings
from edgellm.serving.job import ServingOptions
from edgellm.serving.pool import Offer, Pool
from edgellm.session import EngineOptions

ENGINE = EngineOptions(n_ctx=1024, n_threads=1, n_threads_batch=1)
SERVING = ServingOptions()
SECONDS = 60.0  # no test waits longer for anything


@dataclass
class Said:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.json["error"]["code"]

    @property
    def events(self) -> list[Any]:
        """What a stream told, the last being "[DONE]"."""
        lines = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


@dataclass
class Served:
    """A server that runs."""

    port: int
    pool: Pool | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str | bytes] | None = None
    ) -> Said:
        """One request on a connection of its own; a body that is no bytes goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.putrequest(
                method, path, skip_host="host" in (headers or {}), skip_accept_encoding=True
            )
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            told = {"content-type": "application/json"} if data is not None else {}
            for name, value in {**told, **(headers or {})}.items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("content-length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Said(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> Said:
        """One request in JSON."""
        return self.ask("POST", path, body)

    def raw(self, data: bytes, seconds: float = 10.0) -> bytes:
        """What comes back for these bytes until the server hangs up or `seconds` pass."""
        with self.connect() as connection:
            connection.sendall(data)
            connection.settimeout(seconds)
            got = b""
            try:
                while piece := connection.recv(1 << 16):
                    got += piece
                    if b"\r\n\r\n" in got and b"connection: close" not in got.lower():
                        connection.settimeout(0.3)
            except (TimeoutError, ConnectionError):
                pass
            return got

    def connect(self) -> socket.socket:
        """A connection on which nothing was said."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)


_servers: list[ServerSettings] = []  # those that run


@contextmanager
def served(
    *models: str | Path,
    engine: EngineOptions = ENGINE,
    serving: ServingOptions = SERVING,
    keep_seconds: float | None = None,
    max_loaded: int | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """A server of these models (the default bundled one), each loaded at its first request."""
    told = ServerSettings(**{"port": 0, **settings})
    before = engines()
    _servers.append(told)
    listening = listen.bound(dataclasses.replace(told, host="127.0.0.1"))  # whatever it is told
    found = [(Path(model).stem, first_use.resolve(str(model))) for model in models or ("tiny-qwen3",)]
    offers = [Offer(name, artifact, (), engine, serving) for name, artifact in found]
    pool = Pool(offers, keep_seconds=keep_seconds, max_loaded=max_loaded)
    running = listen.server(app.application(pool, told), told)
    loop_of_server = threading.Thread(
        target=lambda: asyncio.run(running.serve(sockets=[listening])), daemon=True
    )
    loop_of_server.start()
    try:
        deadline = time.monotonic() + SECONDS
        while not running.started:
            assert loop_of_server.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        yield Served(listening.getsockname()[1], pool)
    finally:
        running.should_exit = True
        loop_of_server.join(SECONDS)
        listening.close()
        assert not loop_of_server.is_alive()
        _servers.remove(told)
        assert _servers or engines() <= before  # a module's servers may end in another order than they began


def engines() -> set[int]:
    """Processes of engines that this one has."""
    import psutil

    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "edgellm.serving.child" in child.cmdline():
                found.add(child.pid)
    return found
