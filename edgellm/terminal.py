"""What people are shown: foreign text made harmless, columns that line up, one line of progress.

Model names, metadata, file names and other machines' results were written by others. Whatever of them is printed
goes through `visible`, which `say`, `note`, `aligned` and `Progress` do by themselves. Knows no command and no model;
answers, which stream and are styled, are the chat's (chat/terminal).
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Self

#: Characters that command a terminal or hide: C0, DEL and C1; the controls of bidirectional text (Bidi_Control in
#: Unicode's PropList.txt), which let a name read backwards; separators of lines; what has no width and joins nothing;
#: interlinear annotation; tags; surrogates, which is how Python hands over bytes that are not UTF-8 (PEP 383).
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
#: Empties the line the cursor stands on.
ERASE = "\r\x1b[K"


def visible(text: str, keep: str = "") -> str:
    """`text` with every character that would command a terminal, or hide, written out as JSON does: `\\u001b`.

    So JSON stays the same JSON. Characters of `keep` stay as they are.
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else escaped(found[0]), text)


def escaped(text: str) -> str:
    """Every character as JSON would escape it."""
    return "".join(_NAMED.get(char) or _code_units(char) for char in text)


def _code_units(char: str) -> str:
    return re.sub("....", r"\\u\g<0>", char.encode("utf-16-be", "surrogatepass").hex())


def say(*lines: str) -> None:
    """Lines on standard output. Each stays one line, whatever it holds."""
    _write(sys.stdout, "".join(f"{visible(line)}\n" for line in lines))


def emit(document: str, stream: TextIO | None = None) -> None:
    """JSON, HTML, Markdown, ... on standard output, with the end of its last line; in a terminal `visible`.

    `stream` is standard output, where a library has `sys.stdout` for a while.
    """
    stream = stream or sys.stdout
    terminal = stream is not None and stream.isatty()
    document = visible(document, keep="\n\t") if terminal else document
    _write(stream, document if document.endswith("\n") else f"{document}\n")


def note(text: str) -> None:
    """A line about what happened, on standard error; where that cannot be written nobody is told."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, f"edgellm: {visible(text)}\n")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # as under pythonw
        stream.write(text)
        stream.flush()


def takes_escapes(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that can erase a line."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def takes_styles(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal where bold and colours are wanted (no-color.org)."""
    return takes_escapes(stream) and not os.environ.get("NO_COLOR")


def columns() -> int:
    """Width of the terminal now: it may have been resized."""
    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Columns `text` takes in a terminal: two for CJK and emoji, none for marks that combine."""
    if max(text.replace("…", "."), default="") < "\u0300":
        return len(text)  # nothing combines or is wide below; importing wcwidth takes 30 ms
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def fit(text: str, columns: int) -> str:
    """Any text as one line of at most `columns`, cut with an ellipsis."""
    begin = text[: 16 * columns]  # a whole book need not be measured to be cut
    return cut(visible(" ".join(begin.split())), columns)


def cut(line: str, columns: int) -> str:
    """A line of at most `columns`, its end an ellipsis where there is more."""
    if width(line) <= columns:
        return line
    longer = bisect.bisect_right(range(len(line)), columns - 1, key=lambda end: width(line[:end]))
    return f"{line[: max(longer - 1, 0)]}…"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most `columns`, broken at spaces; a longer word is left whole for the terminal to break."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def aligned(rows: Iterable[Sequence[str]], sides: str = "<") -> list[str]:
    """A line for each row, its cells in columns two blanks apart.

    `sides` says of each column whether its cells are flush left (`<`) or right (`>`); its last character holds for
    the columns that follow.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in itertools.zip_longest(*cells, fillvalue="")]
    sides = sides.ljust(len(widths), sides[-1])
    return ["  ".join(map(_padded, row, widths, sides)).rstrip() for row in cells]


def _padded(cell: str, size: int, side: str) -> str:
    space = " " * (size - width(cell))
    return cell + space if side == "<" else space + cell


def bar(share: float, cells: int = 24) -> str:
    """How full something is, or how much is done."""
    unicode = sys.stdout is not None and str(sys.stdout.encoding).lower().startswith("utf")
    full, empty = "█░" if unicode else "#."
    n_full = round(min(max(share, 0.0), 1.0) * cells)
    return full * n_full + empty * (cells - n_full)


class Progress:
    """One line on a terminal's standard error, drawn over and over and gone at the end; silent elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.live = takes_escapes(sys.stderr) and not quiet
        self._begin, self._shown = time.monotonic(), False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._draw("")
            self._shown = False

    def show(self, text: str) -> None:
        """What is being done now."""
        if self.live:
            self._draw(cut(visible(text), columns() - 1))
            self._shown = True

    def count(self, what: str, done: int, total: int) -> None:
        """How much of it is done, and how long the rest will take at this pace."""
        from edgellm.units import format_seconds

        seconds = time.monotonic() - self._begin
        left = f"  {format_seconds(seconds / done * (total - done))} left" if done else ""
        self.show(f"{what} {bar(done / max(total, 1))} {done:,}/{total:,}{left}")

    def _draw(self, text: str) -> None:
        with contextlib.suppress(OSError):
            _write(sys.stderr, ERASE + text)


class Spinner:
    """A line that moves while something is waited for: drawn by a thread after a moment, gone at the end.

    Silent where `stream` is no terminal. While it turns, nobody else writes there.
    """

    _AFTER, _EACH = 0.3, 0.12  # seconds; what is there at once needs no line

    def __init__(self, text: Callable[[], str], stream: TextIO | None = None) -> None:
        """`text` is asked in the thread each time. The stream is standard error by default."""
        self._text, self._stream = text, stream or sys.stderr
        self._end, self._shown = threading.Event(), False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Begin to turn."""
        if takes_escapes(self._stream):
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the line away. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._end.set()
        thread.join()
        if self._shown:
            self._draw("")

    def _turn(self) -> None:
        styled = takes_styles(self._stream)
        marks = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if "utf" in str(self._stream.encoding or "utf").lower() else "|/-\\"
        wait = self._AFTER
        for mark in itertools.cycle(marks):
            if self._end.wait(wait):
                return
            line = cut(f"{mark} {visible(self._text())}", columns() - 1)
            self._shown, wait = True, self._EACH
            self._draw(f"\x1b[2m{line}\x1b[0m" if styled else line)

    def _draw(self, text: str) -> None:
        with contextlib.suppress(OSError):
            _write(self._stream, ERASE + text)
