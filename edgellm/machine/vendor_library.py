"""Vendors' libraries, imported only for the real machine, and a counter's pace, found by watching. Knows no vendor."""

from __future__ import annotations

import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

#: Brings the library's module. Raises ImportError.
Load = Callable[[], Any]

#: How long a counter is watched, and the pace it is given when it moved too seldom to tell.
WATCH_SECONDS = 0.25
SLOW_PERIOD_SECONDS = 0.1


def loader(module: str, root: Path) -> Load:
    """Imports `module`; a machine that is only a folder tree has no libraries."""

    def load() -> Any:
        if root != Path("/"):
            raise ImportError(f"{root} is a folder, not this machine")
        with contextlib.redirect_stdout(io.StringIO()):  # amdsmi prints what it misses
            return importlib.import_module(module)

    return load


def pace(
    read: Callable[[], float],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Seconds between two updates of a counter; None when it stood still all the time it was watched."""
    begin = clock()
    value, changes = read(), []
    while clock() - begin < WATCH_SECONDS:
        sleep(0.001)
        now = read()
        if now != value:
            value = now
            changes.append(clock())
    if not changes:
        return None
    gaps = [b - a for a, b in pairwise(changes)]
    return statistics.median(gaps) if len(gaps) >= 2 else SLOW_PERIOD_SECONDS
