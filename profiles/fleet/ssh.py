"""A node that is reached over ssh: nothing but edgellm runs there, and nothing listens there but sshd.

The system's own ssh does the rest: keys, known hosts, jump hosts (`~/.ssh/config`; `EDGELLM_SSH` names another
command, such as `ssh -F FILE`). It is told to ask no questions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from edgellm.errors import EngineError, UsageError
from edgellm.profiles.fleet.node import MARK, to_the_end

#: user@host:port, the first and the last optional; an IPv6 address in brackets.
_HOST = re.compile(
    r"(?:(?P<user>[\w.][\w.-]*)@)?(?P<host>[\w][\w.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
)
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")


class Ssh:
    """A connection to one node. Closing it ends what runs there."""

    def __init__(self, name: str, remote: str = "edgellm") -> None:
        """`name` as the user wrote it, `remote` the command that is edgellm there. Raises UsageError, EngineError."""
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
        try:
            self._process = subprocess.Popen(
                [*ssh_command(), *target(name), f"{remote} fleet --on-stdin"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            raise EngineError(f"ssh cannot be started: {error.strerror}; install OpenSSH's client") from error

    def ask(self, what: str, payload: bytes = b"", **values: Any) -> Iterator[dict[str, Any]]:
        """The answers to one request, as they come. Raises EngineError where the node says no, or nothing more."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(
                json.dumps({"do": what, "size": len(payload), **values}).encode() + b"\n"
            )
            self._process.stdin.write(payload)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise EngineError(self._why()) from None
        said = (line.decode(errors="replace") for line in self._process.stdout)
        answers = (
            json.loads(text[len(MARK) :]) for text in said if text.startswith(MARK)
        )  # not a login shell's
        if not (yield from to_the_end(answers)):
            raise EngineError(self._why())

    def close(self) -> None:
        """End the connection. Idempotent."""
        if self._errors.closed:
            return
        assert self._process.stdin and self._process.stdout
        for end in (self._process.stdin, self._process.stdout):
            try:
                end.close()
            except OSError:
                continue  # what was still to be written has nobody to read it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _why(self) -> str:
        """Why there is no answer, in the words of ssh or of the shell there."""
        code = self._process.poll()
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        last = said[-1].strip() if said else "it said nothing"
        if code == 127 or "command not found" in last:
            return f"there is no edgellm there ({last}); install it, or name it with --ssh-command"
        return f"the connection ended: {last}"


def ssh_command() -> list[str]:
    """The program, and options of ours."""
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return [*shlex.split(os.environ.get("EDGELLM_SSH", "ssh")), "-T", *options]


def target(name: str) -> list[str]:
    """The host as arguments that ssh takes for nothing else. Raises UsageError."""
    match = _HOST.fullmatch(name)
    if match is None:
        raise UsageError(f"{name!r} is no host for --ssh; write host, user@host or user@host:port")
    user, host, port = match["user"], match["host"].strip("[]"), match["port"]
    return [*(("-p", port) if port else ()), "--", f"{user}@{host}" if user else host]
