"""`edgellm rpc-serve` as a program, on loopback."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Server:
    """A server and its process; the engine's is a child of it."""

    process: subprocess.Popen[str]
    port: int

    @property
    def device(self) -> str:
        """What --device calls it."""
        return f"rpc://127.0.0.1:{self.port}"


@contextlib.contextmanager
def server(*arguments: str, port: int = 0) -> Iterator[Server]:
    """Run it on a port that is free, or on `port`."""
    command = [sys.executable, "-m", "edgellm", "rpc-serve", "--port", str(port), "-t", "1", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lent, where = process.stdout.readline(), process.stdout.readline()
        found = re.search(r"--device rpc://127\.0\.0\.1:(\d+)$", where.rstrip())
        assert found and " thread" in lent, (lent, where)
        yield Server(process, int(found[1]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
