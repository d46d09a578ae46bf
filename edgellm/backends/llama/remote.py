"""Servers of llama.cpp's RPC backend on other machines: asked before the engine is, which ends its process or waits
for ever where a server is not there, busy, or of another version.

Nothing on the way is encrypted and nobody is asked who he is: for trusted networks (docs/scale.md).
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgellm import lifeline
from edgellm.backends.llama import lib
from edgellm.errors import EngineError
from edgellm.machine.devices import Device, servers

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 15.0  # of all servers; most of it is the start of a process
_VERSION = re.compile(r"version mismatch: (\S+)")
#: A machine that vanished is noticed after a minute: idle seconds, seconds between questions, unanswered ones, and
#: milliseconds that what was sent may stay unacknowledged.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))


def ask(device: Device) -> Device:
    """`device`, which stands for servers, with the memory they tell. Raises EngineError where one does not answer."""
    there = servers(device.name)
    for server in there:
        _connect(server)
    free, total = zip(*(_memory(server) for server in there), strict=True)
    return replace(device, free_bytes=sum(free) or None, total_bytes=sum(total) or None)


def _connect(server: str) -> None:
    """Reach the port within bounds: llama.cpp's own connecting has none."""
    host, _, port = server.rpartition(":")
    try:
        with socket.socket(socket.AF_INET) as line:  # as llama.cpp does, which knows no IPv6 here
            line.settimeout(_CONNECT_SECONDS)
            line.connect((host, int(port)))
    except TimeoutError:
        raise EngineError(
            f"rpc://{server} does not answer within {_CONNECT_SECONDS:g} s; is the machine on, and the port open?"
        ) from None
    except OSError as error:
        raise EngineError(
            f"rpc://{server} is not there ({error.strerror or error}); start it on that machine with: "
            f"edgellm rpc-serve --host ADDRESS --port {port}"
        ) from None


def _memory(server: str) -> tuple[int, int]:
    """Free and total bytes, as the engine is told by the server, asked in a process that may end or hang."""
    command = [sys.executable, "-m", "edgellm.backends.llama.remote_child", server]
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=False,
            **lifeline.attached(),
        )
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"rpc://{server} took the connection and says nothing: it serves another client (one at a time), or hangs"
        ) from None
    if child.returncode == 0:
        free, total = json.loads(child.stdout.splitlines()[-1])
        return free, total
    if version := _VERSION.search(child.stderr):
        why = f"speaks version {version[1]} of llama.cpp's RPC protocol, and the engine here ({lib.version()}) another"
    else:
        why = f"does not speak the RPC protocol of {lib.version()}"
    raise EngineError(f"rpc://{server} {why}; install the same llama-cpp-python on both machines")


def quiet_abort() -> None:
    """Have the library, when it ends this process, leave out the debugger that it starts to say where."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")


def keep_alive(there: Sequence[str]) -> None:
    """Have the kernel ask servers this process is connected to whether they are still there: the library waits for
    ever for one whose machine lost its power.
    """
    if os.name == "nt" or not there:
        return  # its sockets cannot be listed
    ports = {int(server.rpartition(":")[2]) for server in there}
    for entry in list(Path("/dev/fd").iterdir()):
        try:
            line = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with line:
            try:
                if line.family != socket.AF_INET or line.getpeername()[1] not in ports:
                    continue
                line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _KEEP_ALIVE:
                    if hasattr(socket, name):
                        line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            except OSError:
                continue  # no socket, or one that is not connected
