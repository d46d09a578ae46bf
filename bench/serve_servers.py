"""The servers of bench/serve.py: how each is started on the same file, asked for the same work, and looked at."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Setup:
    """What all servers share."""

    model: Path
    threads: int
    slots: int
    slot_ctx: int  # tokens of context a slot


@dataclass(frozen=True)
class Server:
    """One program that serves. `command` holds {model}, {port}, {threads}, {slots}, {slot_ctx}, and {ctx} of all."""

    name: str
    command: tuple[str, ...]
    body: dict[str, Any]  # fields of a request that make it generate to the limit
    ready: str = "/health"  # answers 200 when it serves

    def arguments(self, setup: Setup, port: int) -> list[str]:
        """The command as it is run."""
        known = {
            "model": setup.model,
            "port": port,
            "threads": setup.threads,
            "slots": setup.slots,
            "slot_ctx": setup.slot_ctx,
            "ctx": setup.slot_ctx * setup.slots,
        }
        return [part.format(**known) for part in self.command]


def edgellm_server() -> Server:
    """Ours, by the interpreter that runs this script."""
    options = "--port {port} -t {threads} --slots {slots} -c {slot_ctx}"
    return Server(
        "edgellm",
        (sys.executable, "-m", "edgellm", "serve", "{model}", *options.split()),
        {"ignore_eos": True},
    )


def llama_server(program: Path, *more: str) -> Server:
    """llama.cpp's, with the prompt cache and batch sizes it has by itself."""
    options = "-m {model} --host 127.0.0.1 --port {port} -t {threads} -tb {threads} -np {slots} -c {ctx}"
    return Server("llama-server", (str(program), *options.split(), *more), {"ignore_eos": True})


def llama_cpp_python(interpreter: Path, eog_ids: list[int]) -> Server:
    """llama-cpp-python's: one request at a time, others wait (by itself it would break off the one that runs)."""
    options = (
        "--model {model} --port {port} --n_threads {threads} --n_threads_batch {threads} --n_ctx {slot_ctx}"
    )
    more = "--interrupt_requests False --n_batch 2048 --flash_attn True --verbose False"
    bias = {str(token): -100.0 for token in eog_ids}  # it has no ignore_eos
    command = (str(interpreter), "-m", "llama_cpp.server", *options.split(), *more.split())
    return Server("llama-cpp-python", command, {"logit_bias": bias}, ready="/v1/models")


@dataclass
class Running:
    """A server that serves, and its processes."""

    server: Server
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    _peak_bytes: dict[int, int] = field(default_factory=dict)

    def processes(self) -> list[int]:
        """Process ids of the server and its descendants."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top.pid, *(child.pid for child in top.children(recursive=True))]
        return []

    def peak_bytes(self) -> int:
        """The most that each process has had resident, added up; pages of the file that are mapped count."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self._peak_bytes[pid] = int(line.split()[1]) * 1024
        return sum(self._peak_bytes.values())

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(server: Server, setup: Setup) -> Iterator[Running]:
    """Start it, wait until it serves; end it with SIGTERM. Raises RuntimeError with its last words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                server.arguments(setup, port), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            found = Running(server, port, process, log)
            _wait(found)
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(running: Running) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if running.process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
            connection.request("GET", running.server.ready)
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return
        time.sleep(0.05)
    words = running.log.read_text(errors="replace").splitlines()[-5:]
    raise RuntimeError(f"{running.server.name} does not serve: {' | '.join(words)}")
