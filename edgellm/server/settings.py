"""What a server is told at its start."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class ServerSettings:
    """Where it listens, who may ask, and what one request may take. Seconds and bytes."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: a free one
    api_key: str | None = None  # what clients have to show; None: nothing
    allow_hosts: tuple[str, ...] = ()  # names in a Host header beside loopback's and `host`
    allow_origins: tuple[str, ...] = ()  # web pages that may ask from a browser, as scheme://host[:port]
    max_body_bytes: int = 8 * 2**20
    max_head_bytes: int = 16 * 2**10  # request line and headers
    max_headers: int = 100
    max_connections: int = 256
    read_seconds: float = 30.0  # for a whole request to come in
    write_seconds: float = 30.0  # for a reader to take what waits for it
    idle_seconds: float = 30.0  # of a connection on which nothing more is asked
    quiet_seconds: float = 5.0  # of silence in a stream, after which a comment says that it lives
    grace_seconds: float = 5.0  # for running answers after the first signal to end
    log: bool = True  # a line a request
    log_text: bool = False  # whether prompts and answers may be logged
