"""What chat shows: answers, dim notices, tables of the right width.

Knows terminals and text; knows no model and no conversation.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from edgellm.chat import words
from edgellm.chat.terminal.answer import AnswerPrinter, View
from edgellm.generation.generate import Completion, Usage
from edgellm.prompt.markup import Part
from edgellm.terminal import Spinner, aligned, columns, fit, takes_escapes, takes_styles, visible, width, wrap
from edgellm.units import format_seconds, format_size

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

    def answer(self, parts: Iterable[Part | str], waiting: Callable[[], str] | None = None) -> None:
        """Show an answer as it comes and end its line. A file or pipe gets its text as it is, and no thinking.

        What `waiting` says turns in its place until it begins, where it can be erased again.
        """
        printer = AnswerPrinter(self.view, terminal=self.terminal, escapes=self._erases, colour=self._colours)
        says = waiting or str
        spinner = Spinner(lambda: says(), self.out)
        try:
            if waiting:
                spinner.start()
            for part in parts:
                part = Part("text", part) if isinstance(part, str) else part
                if shown := printer.feed(part):
                    spinner.stop()
                    self._write(shown)
                elif part.kind == "thinking" and not self.view.thinking:
                    says = _thinks
        except BaseException:
            spinner.stop()
            self._write(printer.end() if printer.began else "")
            raise
        spinner.stop()
        self._write(printer.end())

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
            room = columns() - 1 - indent if self.terminal else sys.maxsize
            tail = [fit(row[-1], max(room, 0))] if cut else wrap(visible(row[-1]), max(room, 12))
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


def _thinks() -> str:
    return words.say("thinking")


def reading(n_read: int, n: int) -> str:
    """What goes on before the first word: so many tokens of the prompt are read, of `n`."""
    return words.say("reading", n_read=n_read, total=n) if n_read else words.say("reading_all", n=n)


def short_stats(usage: Usage) -> str:
    """The pace of an answer, empty where it is too short for one."""
    rate = usage.decode_rate
    return f"{rate:.{0 if rate >= 10 else 1}f} tok/s" if rate else ""


def stats_line(usage: Usage, memory_bytes: int | None = None, n_thinking: int = 0) -> str:
    """Tokens, time to the first, speeds and memory of one answer, in one line."""
    thinking = f" ({words.say('thought', n=n_thinking)})" if n_thinking else ""
    parts = [words.say("tokens", n=usage.n_generated) + thinking]
    parts.append(words.say("first_after", seconds=format_seconds(usage.prefill_seconds)))
    parts.append(short_stats(usage))
    parts.append(words.say("prompt_of", new=usage.n_prompt - usage.n_cached, cached=usage.n_cached))
    if memory_bytes is not None:
        parts.append(format_size(memory_bytes))
    return " · ".join(filter(None, parts))


def resident_bytes() -> int:
    """Resident memory of this process, the engine and its mapped weights included."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def why_not_whole(done: Completion) -> str:
    """What to say after an answer that is not of the shape asked for."""
    if done.finish_reason == "length":
        needed = words.say("shortest", n=done.shortest) if done.shortest else ""
        return words.say("answer_cut", n=len(done.tokens), needed=needed)
    return words.say("ended_by_stop")
