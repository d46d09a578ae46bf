"""What chat shows: answers without control characters, dim notices, tables of the right width.

Knows terminals and text; knows no model and no conversation.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from edgellm.generate import Usage

_DIM, _RED, _OFF, _ERASE = "\x1b[2m", "\x1b[31m", "\x1b[0m", "\r\x1b[K"

#: Escape sequences of ECMA-48: CSI, strings (OSC, DCS, SOS, PM, APC; ended by BEL, ST or the line), two-byte.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|(?=[\n\x1b]))"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
#: The beginning of a sequence at the end of a piece: what follows decides.
_UNFINISHED = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*\x1b?\Z|\x1b[ -/]*\Z"
)
_LONGEST = 4096  # held back at most; an unfinished string longer than this is not one


class Cleaner:
    """Takes escape sequences and control characters out of streamed text; newline and tab stay."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The printable part of what has come so far."""
        text = _ESCAPE.sub("", self._held + piece)
        found = _UNFINISHED.search(text)
        cut = found.start() if found and len(text) - found.start() <= _LONGEST else len(text)
        text, self._held = text[:cut], text[cut:]
        return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def clean(text: str) -> str:
    """`text` without escape sequences and control characters."""
    return Cleaner().feed(text)


def width(text: str) -> int:
    """Columns `text` takes in a terminal: two for CJK and emoji, none for marks that combine."""
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def fit(text: str, columns: int) -> str:
    """One line of at most `columns`, cut with an ellipsis, never inside a character."""
    line = " ".join(clean(text).split())
    if width(line) <= columns:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return f"{line}…"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most `columns`, broken at spaces; a longer word is left whole for the terminal to break."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def columns() -> int:
    """Width of the terminal now: it may have been resized."""
    return shutil.get_terminal_size().columns


class Screen:
    """Answers go to `out`; everything else to `notes`, dim where colours are wanted."""

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.terminal = self.out.isatty()
        self._notes = notes or (self.out if self.terminal else sys.stderr)
        for stream in (self.out, self._notes):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 gets "?" and no traceback
        escapes = os.environ.get("TERM", "dumb") != "dumb"
        self._erases = self.terminal and escapes
        self._colour = self._notes.isatty() and escapes and not os.environ.get("NO_COLOR")

    def answer(self, pieces: Iterable[str], waiting: str = "") -> None:
        """Show an answer as it comes and end its line. A file or pipe gets the text as it is.

        `waiting` stands in its place until it begins, where it can be erased again.
        """
        cleaner, last = Cleaner(), ""
        waiting = waiting if self._erases else ""
        self._write(f"{_DIM}{waiting}{_OFF}" if waiting and self._colour else waiting)
        try:
            for piece in pieces:
                self._write(_ERASE if waiting else "")
                shown, waiting = cleaner.feed(piece) if self.terminal else piece, ""
                self._write(shown)
                last = shown or last
        except BaseException:
            self._write(_ERASE if waiting else "\n" if last else "")
            raise
        self._write(_ERASE if waiting else "")
        self._write("" if last.endswith("\n") else "\n")

    def note(self, text: str) -> None:
        """A dim line about what happened."""
        self._line(text, _DIM)

    def error(self, text: str) -> None:
        """A line about what went wrong."""
        self._line(text, _RED)

    def print(self, text: str) -> None:
        """Plain lines that were asked for."""
        self._line(text, "")

    def table(self, rows: Iterable[Sequence[str]], *, cut: bool = False) -> None:
        """Rows in columns. The last column wraps at the terminal's edge, or with `cut` ends there."""
        rows = [[clean(cell) for cell in row] for row in rows]
        widths = [max(map(width, column)) for column in zip(*rows, strict=True)][:-1]
        indent = 2 + sum(w + 2 for w in widths)
        room = max(columns() - 1 - indent, 12) if self.terminal else sys.maxsize
        for row in rows:
            head = "".join(f"{cell}{' ' * (w - width(cell))}  " for cell, w in zip(row, widths, strict=False))
            tail = [fit(row[-1], room)] if cut else wrap(row[-1], room)
            self.print("  " + head + f"\n{' ' * indent}".join(tail))

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

    def _line(self, text: str, style: str) -> None:
        text = clean(text)
        if style and self.terminal:
            text = "\n".join(wrap(text, columns()))
        self._notes.write(f"{style}{text}{_OFF}\n" if style and self._colour else f"{text}\n")
        self._notes.flush()


def stats_line(usage: Usage, memory_bytes: int | None = None) -> str:
    """Tokens, time to the first, speeds and memory of one answer, in one line."""
    parts = [f"{usage.n_generated} tokens", f"first after {usage.prefill_seconds:.2f} s"]
    if usage.decode_rate:
        parts.append(f"{usage.decode_rate:.1f} tok/s")
    new = usage.n_prompt - usage.n_cached
    parts.append(f"prompt {new} new + {usage.n_cached} cached")
    if memory_bytes is not None:
        parts.append(f"{memory_bytes / 1e6:,.0f} MB")
    return " · ".join(parts)


def bar(share: float, cells: int = 20) -> str:
    """How full something is, as a row of blocks."""
    full = min(round(share * cells), cells)
    return "█" * full + "░" * (cells - full)


def resident_bytes() -> int:
    """Resident memory of this process, the engine and its mapped weights included."""
    import psutil

    return int(psutil.Process().memory_info().rss)


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
