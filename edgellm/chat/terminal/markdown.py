"""Markdown as it streams: which style each character has, without holding one back or taking one away.

Marks stay where they are, dim, and style what follows them: a mark that turns out to be none (`2 ** 3`) has
cost nothing, and what is copied from the screen is what the model wrote. Knows bold, italic, code, headings,
lists and quotes, line by line; knows no terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PLAIN, MARK, BOLD, ITALIC, CODE = "", "2", "1", "3", "36"  # parameters of SGR; several are joined with ";"

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*")
_HEADING = re.compile(r" {0,3}#{1,6} ")
_LEAD = re.compile(r"\s*(?:[-*+>]|#{1,6}|\d{1,9}[.)])")  # marks that begin a line
_HANG = re.compile(r" *(?:(?:[-*+>]|\d{1,9}[.)]) +)*(?:\[[ xX]\] )?")  # and what wrapped lines stand under


class Markdown:
    """Styles of one text, in order."""

    def __init__(self) -> None:
        self._fence = ""  # the marks of the code block we are in
        self.language = ""  # the word behind them
        self._line = ""  # this line so far
        self._on: set[str] = set()  # BOLD, ITALIC, CODE
        self._stars, self._before = 0, " "  # a run of stars, and what stood before it

    @property
    def in_code_block(self) -> bool:
        """Whether line ends and blanks are the code's own."""
        return bool(self._fence)

    @property
    def indent(self) -> int:
        """Columns by which the rest of this line is indented where it wraps: those of its list's or quote's text."""
        found = _HANG.match(self._line)
        return found.end() if found else 0

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """(character, style) of everything in `text`."""
        for char in text:
            if char == "\n":
                self._end_line()
                yield char, PLAIN
            else:
                style = self._style(char)
                self._line += char
                yield char, style

    def _style(self, char: str) -> str:
        line = self._line + char
        if self._fence:
            return MARK if not line.strip().strip(self._fence[0]) else CODE
        if _FENCE.fullmatch(line):
            self._on.clear()
            return MARK
        if char == "`":
            self._on ^= {CODE}
            return MARK
        if CODE in self._on:
            return CODE
        return self._inline(char, line)

    def _inline(self, char: str, line: str) -> str:
        if char == "*":
            self._before = self._before if self._stars else (self._line[-1:] or " ")
            self._stars += 1
            return MARK
        if self._stars:
            self._end_stars(char)
        if _LEAD.fullmatch(line):
            return MARK
        on = {BOLD} | self._on if _HEADING.match(self._line) else self._on
        return ";".join(sorted(on))

    def _end_stars(self, after: str) -> None:
        """A run of stars closes what is open, or opens what follows; between blanks or words it is just stars."""
        kind = {1: {ITALIC}, 2: {BOLD}, 3: {BOLD, ITALIC}}.get(self._stars, set())
        self._stars = 0
        if kind <= self._on and not self._before.isspace():
            self._on -= kind
        elif not after.isspace() and not (self._before.isalnum() and self._before.isascii()):
            self._on |= kind

    def _end_line(self) -> None:
        line, self._line, self._stars = self._line, "", 0
        self._on.clear()
        if not (found := _FENCE.fullmatch(line)):
            return
        if not self._fence:
            self._fence = found[1]
            self.language = next(iter(line.strip().lstrip(self._fence[0]).split()), "")
        elif line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
            self._fence = ""
