"""The keyboard during an answer: Ctrl-C ends it, other keys wait for the prompt."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from edgellm.chat.reply import Reply


@contextlib.contextmanager
def interruptible(reply: Reply) -> Iterator[None]:
    """Ctrl-C ends the reply after the current token; before the first one, or a second time, at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if reply.cancelled or not reply.started:
            raise KeyboardInterrupt
        reply.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Keep keys typed during an answer out of its text; they arrive at the next prompt. Ctrl-C still works."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
