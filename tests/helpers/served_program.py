"""`edgellm serve` as a program with its engine's process, and clients that read events off a socket and may vanish."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import serving

_LINGER_0 = struct.pack("ii", 1, 0)  # closing sends a reset, as a client that is killed does


class Stream:
    """The events of one streamed answer, as they come."""

    def __init__(self, port: int, path: str, body: dict[str, Any]) -> None:
        data = json.dumps({"stream": True, **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=serving.SECONDS)
        self.socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        self._lines = self.socket.makefile("rb")

    def events(self) -> Iterator[Any]:
        """Each event's data; "[DONE]" and the end of the connection end them."""
        for line in self._lines:
            if line.startswith(b"data: "):
                if line.strip() == b"data: [DONE]":
                    return
                yield json.loads(line[6:])
            elif line.startswith(b"HTTP/1.1 ") and b" 200 " not in line:
                raise AssertionError(line)
            elif line == b"0\r\n":
                return

    def reset(self) -> None:
        """Vanish without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self.socket.close()


@dataclass(frozen=True)
class Use:
    """What the server and its engine hold."""

    fds: int
    threads: int
    resident: int  # bytes


@dataclass
class Program(serving.Served):
    """A server that runs in processes of its own."""

    process: subprocess.Popen[bytes] | None = None

    @property
    def engine(self) -> int:
        """The process id of its engine."""
        assert self.process is not None
        own = psutil.Process(self.process.pid).children()
        (found,) = [child.pid for child in own if "edgellm.serving.child" in child.cmdline()]
        return found

    def use(self) -> Use:
        """Of server and engine together."""
        assert self.process is not None
        both = [psutil.Process(pid) for pid in (self.process.pid, self.engine)]
        return Use(
            sum(one.num_fds() for one in both),
            sum(one.num_threads() for one in both),
            sum(one.memory_info().rss for one in both),
        )

    def gauge(self, name: str) -> float:
        """A figure of /metrics, added up over models."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        found = [line.split()[-1] for line in lines if re.match(rf"edgellm:{name}(\{{| )", line)]
        assert found, name
        return sum(map(float, found))

    def until(self, true: Callable[[], bool], seconds: float = serving.SECONDS) -> None:
        """Wait; AssertionError where it is not true in time."""
        begin = time.monotonic()
        while not true():
            assert time.monotonic() - begin < seconds, f"not within {seconds} s"
            time.sleep(0.01)

    def idle(self) -> bool:
        """Whether no answer is written or waited for."""
        return not self.gauge("requests_processing") + self.gauge("requests_deferred")


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[Program]:
    """Run it on a port that is free; arguments as on the command line."""
    command = [sys.executable, "-m", "edgellm", "serve", "--port", "0", "-t", "1", *arguments]
    with Path(os.devnull).open("wb") as nothing:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=nothing)
    assert child.stdout is not None
    try:
        found = re.search(rb"http://127\.0\.0\.1:(\d+)", child.stdout.readline())
        assert found
        yield Program(int(found[1]), process=child)
    finally:
        child.terminate()
        try:
            child.wait(20)
        finally:
            child.kill()
            child.communicate()
