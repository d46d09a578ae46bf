"""A child ends with its parent, however the parent ends: killed, crashed, its terminal closed.

The parent holds the writing end of a pipe all its life, its children the reading end; when the parent is gone
the kernel tells the child by SIGIO, which ends it, whatever library call it is in. (Linux's PR_SET_PDEATHSIG
would end it with the thread that started it.) Where there is no such signal a child ends at its next read.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
from typing import Any

_VARIABLE = "EDGELLM_LIFELINE"


def attached() -> dict[str, Any]:
    """What a child is to be started with: arguments of `subprocess.Popen`."""
    if os.name == "nt":
        return {}
    end = _reading_end(os.getpid())
    return {"pass_fds": (end,), "env": {**os.environ, _VARIABLE: str(end)}}


@functools.cache
def _reading_end(_process: int) -> int:
    """One pipe a process; its writing end stays open until the process is gone."""
    reading, _writing = os.pipe()
    return reading


def follow() -> None:
    """In the child: end when the parent does."""
    number = os.environ.pop(_VARIABLE, "")
    if not number.isdigit():
        return
    import fcntl

    end = int(number)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([end], [], [], 0)[0]:  # it went before we looked
        sys.exit(1)
