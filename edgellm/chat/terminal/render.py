"""What chat shows: answers, dim notices, tables of the right width.

Knows terminals and text; knows no model and no conversation.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from edgellm.chat.terminal.answer import AnswerPrinter, View
from edgellm.generation.generate import Completion, Usage
from edgellm.prompt.markup import Part
from edgellm.terminal import ERASE, aligned, columns, fit, takes_escapes, takes_styles, visible, width, wrap

_DIM, _RED, _OFF = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Answers go to `out`; everything else to `notes`, dim where colours are wanted."""

    def __init__(
        self, out: TextIO | None = None, notes: TextIO | None = None, view: View | None = None
    ) -> None:
        self.out = out or sys.stdout
        self.terminal = self.out.isatty()
        self._notes = notes or (self.out if self.terminal else sys.stderr)
        self.view = view or View()
        self._erases = takes_escapes(self.out)
        self._colours = takes_styles(self.out)  # of answers
        self._colour = takes_styles(self._notes)  # of all else

    def answer(self, parts: Iterable[Part | str], waiting: str = "") -> None:
        """Show an answer as it comes and end its line. A file or pipe gets its text as it is, and no thinking.

        `waiting` stands in its place until it begins, where it can be erased again.
        """
        printer = AnswerPrinter(self.view, terminal=self.terminal, escapes=self._erases, colour=self._colours)
        waiting = self._wait(waiting)
        try:
            for part in parts:
                part = Part("text", part) if isinstance(part, str) else part
                if shown := printer.feed(part):
                    self._write((ERASE if waiting else "") + shown)
                    waiting = ""
                elif part.kind == "thinking" and not waiting and not self.view.thinking:
                    waiting = self._wait("thinking…")
        except BaseException:
            self._write(ERASE if waiting else printer.end() if printer.began else "")
            raise
        self._write((ERASE if waiting else "") + printer.end())

    def _wait(self, text: str) -> str:
        """Show what the user is waiting for, where it can be erased; returns what stands there."""
        text = text if self._erases else ""
        self._write(f"{_DIM}{text}{_OFF}" if text and self._colours else text)
        return text

    def note(self, text: str) -> None:
        """A dim line about what happened."""
        self._line(visible(text), _DIM)

    def error(self, text: str) -> None:
        """A line about what went wrong."""
        self._line(visible(text), _RED)

    def print(self, text: str) -> None:
        """Plain lines that were asked for."""
        self._line(visible(text, keep="\n\t"), "")

    def message(self, text: str) -> None:
        """A message that was asked for again, shown as answers are."""
        if self.terminal:
            self.answer([text])
        else:
            self.print(text)

    def table(self, rows: Iterable[Sequence[str]], *, cut: bool = False) -> None:
        """Rows in columns. The last column wraps at the terminal's edge, or with `cut` ends there."""
        rows = list(rows)
        heads = [f"  {line}" for line in aligned((*row[:-1], "|") for row in rows)]
        for head, row in zip(heads, rows, strict=True):
            indent = width(head) - 1
            room = max(columns() - 1 - indent, 12) if self.terminal else sys.maxsize
            tail = [fit(row[-1], room)] if cut else wrap(visible(row[-1]), room)
            self.print(head[:-1] + f"\n{' ' * indent}".join(tail))

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

    def _line(self, text: str, style: str) -> None:
        if style and self.terminal:
            text = "\n".join(wrap(text, columns()))
        with contextlib.suppress(OSError):  # a note that cannot be shown must not end the chat
            self._notes.write(f"{style}{text}{_OFF}\n" if style and self._colour else f"{text}\n")
            self._notes.flush()


def stats_line(usage: Usage, memory_bytes: int | None = None, n_thinking: int = 0) -> str:
    """Tokens, time to the first, speeds and memory of one answer, in one line."""
    thinking = f" ({n_thinking} thinking)" if n_thinking else ""
    parts = [f"{usage.n_generated} tokens{thinking}", f"first after {usage.prefill_seconds:.2f} s"]
    if usage.decode_rate:
        parts.append(f"{usage.decode_rate:.1f} tok/s")
    new = usage.n_prompt - usage.n_cached
    parts.append(f"prompt {new} new + {usage.n_cached} cached")
    if memory_bytes is not None:
        parts.append(f"{memory_bytes / 1e6:,.0f} MB")
    return " · ".join(parts)


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


def why_not_whole(done: Completion) -> str:
    """What to say after an answer that is not of the shape asked for."""
    if done.finish_reason == "length":
        needed = f" (the shortest found takes {done.shortest:,})" if done.shortest else ""
        return f"the answer is cut: {len(done.tokens):,} tokens were too few{needed}; raise -n or -c"
    return "the answer is not whole: a stop string ended it; leave --stop out"
