"""The tools that a command line names, as one box."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from edgellm.chat.tools import functions
from edgellm.chat.tools.toolbox import Toolbox


def opened(files: Sequence[Path], servers: Sequence[str]) -> Toolbox | None:
    """The functions of Python `files` and the tools of MCP `servers`; None for none. Raises EdgellmError."""
    if not files and not servers:
        return None
    offered = [tool for path in files for tool in functions.load(path)]
    if not servers:
        return Toolbox(offered)
    from edgellm.chat.tools import mcp

    with contextlib.ExitStack() as stack:
        connected = stack.enter_context(
            contextlib.closing(mcp.Servers([s for t in servers for s in mcp.named(t)]))
        )
        box = Toolbox([*offered, *connected.offered], connected.close)
        stack.pop_all()
    return box
