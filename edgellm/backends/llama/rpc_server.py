"""llama.cpp's RPC server: this machine's memory and processors, lent to one client after the other.

It serves whoever reaches its port, one at a time, and has had holes through which a client could write where it
pleased: it runs in a process of its own, on loopback unless told otherwise.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgellm import lifeline
from edgellm.backends.llama import devices as llama_devices
from edgellm.backends.llama import lib
from edgellm.errors import EngineError, UsageError
from edgellm.machine import devices
from edgellm.machine.devices import Device

_START_SECONDS = 30.0


@dataclass(frozen=True)
class ServerOptions:
    """Where it listens and what it uses."""

    host: str  # an IPv4 address
    port: int
    n_threads: int
    cache: Path | None = None  # where weights of more than 10 MB are kept, so that they travel once


def reach(host: str) -> str:
    """How far the address to listen on reaches: "loopback", "private" or "public".

    Raises UsageError for what is no IPv4 address, which is all that the server knows.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"--host {host} is no address of this machine, such as 127.0.0.1 or 192.168.1.7"
        ) from None
    if address.is_unspecified:
        return "public"
    if address.version != 4:
        raise UsageError(f"--host {host}: llama.cpp's RPC server listens on IPv4 addresses alone")
    return "loopback" if address.is_loopback else "private" if address.is_private else "public"


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises EngineError where it cannot be listened on."""
    with socket.socket(socket.AF_INET) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            line.bind((host, port))
        except OSError as error:
            raise EngineError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
            ) from None
        found: int = line.getsockname()[1]
        return found


def serve(
    options: ServerOptions, ready: Callable[[Sequence[Device]], None], log: Callable[[str], None]
) -> None:
    """Serve until interrupted; `ready` is told what is lent once it listens, `log` what the engine complains of.

    Raises EngineError where the engine cannot, or when it ends.
    """
    if not lib.load().llama_supports_rpc():
        raise EngineError(
            f"the installed llama.cpp has no RPC server; build one that has: {llama_devices.install_line(devices.RPC)}"
        )
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    arguments = [f"{options.host}:{options.port}", str(options.n_threads), str(options.cache or "")]
    child = subprocess.Popen(
        [sys.executable, "-m", "edgellm.backends.llama.rpc_server", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        **lifeline.attached(),
    )
    assert child.stdout and child.stderr
    try:
        first = child.stdout.readline()
        if first and _listens(options, child):
            ready([Device(**one) for one in json.loads(first)])
        for line in child.stderr:
            log(line.rstrip())
        raise EngineError(f"llama.cpp's RPC server ended with exit code {child.wait()}; see: edgellm doctor")
    finally:
        child.kill()
        child.wait()


def _listens(options: ServerOptions, child: subprocess.Popen[str]) -> bool:
    """Wait for it to."""
    until = time.monotonic() + _START_SECONDS
    while child.poll() is None and time.monotonic() < until:
        with socket.socket(socket.AF_INET) as line:
            if line.connect_ex((options.host, options.port)) == 0:
                return True
        time.sleep(0.02)
    return False


def main() -> None:
    """The server's process: `HOST:PORT THREADS CACHE`. Says what it lends, then serves for ever."""
    lifeline.follow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    endpoint, n_threads, cache = sys.argv[1:]
    ggml, library = lib.load()._lib, lib.load()
    library.llama_log_set(library.llama_log_callback(0), None)  # its complaints are standard error's
    found = llama_devices.found()
    lent = [one for one in found if one[0].kind not in (devices.CPU, devices.RPC)] or found[:1]
    fields = ("kind", "name", "description", "free_bytes", "total_bytes")
    print(json.dumps([{name: getattr(one, name) for name in fields} for one, _ in lent]), flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # it tells of every connection
    handles = (ctypes.c_void_p * len(lent))(*(handle for _, handle in lent))
    ggml.ggml_backend_rpc_start_server(
        endpoint.encode(), os.fsencode(cache) or None, int(n_threads), len(lent), handles
    )
    sys.exit(1)


if __name__ == "__main__":
    main()
