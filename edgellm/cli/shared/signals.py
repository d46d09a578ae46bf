"""Signals that ask to end are obeyed in order: temporary files are removed and children ended first."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_in_order() -> None:
    """From now on SIGTERM and SIGHUP unwind the program; a second one ends it at once."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # `nohup` has it ignored
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)
