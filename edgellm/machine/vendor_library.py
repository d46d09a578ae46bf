"""Vendors' libraries, imported only for the real machine, and a counter's pace, found by watching. Knows no vendor."""

from __future__ import annotations

import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

#: Brings the library's module. Raises ImportError.
Load = Callable[[], Any]

#: How long counters are watched: until each has moved so often, or moved a little and some time has gone by, or
#: until even one that moves every half second would have.
MOVES, FEW_MOVES = 8, 3
WATCH_SECONDS, LONGEST_WATCH_SECONDS = 0.25, 1.25
#: The pace of what was not watched yet.
SLOW_PERIOD_SECONDS = 0.1
#: Periods below this are not told apart by looking every millisecond.
RESOLUTION_SECONDS = 0.004


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
    return paces({"": read}, clock, sleep)[""]


def paces(
    reads: Mapping[str, Callable[[], float]],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    least: float = 0.0,
) -> dict[str, float | None]:
    """The same of several counters, watched together; `least`: their maker's word, where looking tells no more."""
    begin = clock()
    values = {name: read() for name, read in reads.items()}
    moved: dict[str, list[float]] = {name: [] for name in reads}
    while not _seen_enough(min(map(len, moved.values()), default=MOVES), clock() - begin):
        sleep(0.001)
        for name, read in reads.items():
            now = read()
            if now != values[name]:
                values[name] = now
                moved[name].append(clock())
    return {name: _period(changes, least) for name, changes in moved.items()}


def _seen_enough(moves: int, seconds: float) -> bool:
    if seconds >= LONGEST_WATCH_SECONDS or moves >= MOVES:
        return True
    return moves >= FEW_MOVES and seconds >= WATCH_SECONDS


def _period(changes: Sequence[float], least: float) -> float | None:
    """Of the moments at which a counter moved; the longest gap where there are few."""
    if not changes:
        return None
    gaps = [b - a for a, b in pairwise(changes)]
    if not gaps:
        return LONGEST_WATCH_SECONDS
    found = statistics.median(gaps) if len(gaps) >= FEW_MOVES else max(gaps)
    return least if least and found < RESOLUTION_SECONDS else max(found, least)
