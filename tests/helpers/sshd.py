"""A real sshd on loopback, without privileges: its own keys, port and users file, gone at the end."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_PROGRAM = shutil.which("sshd") or "/usr/sbin/sshd"
needed = pytest.mark.skipif(
    not (Path(_PROGRAM).exists() and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="needs OpenSSH's server and client",
)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """`EDGELLM_SSH` for hosts a, b and c: this machine, which finds that name in `NODE`. All of it lies in `folder`."""
    folder.chmod(0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nUsePAM no\n"
        "PermitRootLogin yes\nAcceptEnv NODE\n"
    )
    (folder / "config").write_text(
        f"Host a b c\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n LogLevel ERROR\n"
        + "".join(f"Host {name}\n SetEnv NODE={name}\n" for name in "abc")
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it leaves its privileges
    server = subprocess.Popen([_PROGRAM, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.PIPE)
    try:
        _wait(port, server)
        yield f"ssh -F {folder}/config"
    finally:
        server.terminate()
        server.communicate()


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert server.poll() is None, server.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
