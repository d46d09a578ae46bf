"""Words broken at the terminal's edge while they stream: a word that does not fit moves to the next line whole.

Nothing is held back: the word is on the screen already and is erased there. That needs its width for certain.
Where terminals disagree (emoji joined by ZWJ, variation selectors, flags, characters of ambiguous width) the
larger width is assumed and such a word is never erased, so that a wrong guess costs a short line and no text.
Knows widths and escape sequences; knows nothing of Markdown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

_OFF = "\x1b[0m"
_ZWJ = "\u200d"
_JOINERS = f"{_ZWJ}\ufe0e\ufe0f"
_NO_BREAK_BEFORE = "，。！？；：、）》」』】〕”’…—,.!?;:)]}%"  # may not begin a line
_NO_BREAK_AFTER = "（《「『【〔“‘([{"  # may not end one
_TAB = 8


class Wrapper:
    """Turns (character, style) pairs into what to send to a terminal of `columns()` columns."""

    def __init__(self, columns: Callable[[], int], *, colour: bool, words: bool) -> None:
        self._columns, self._colour, self._words = columns, colour, words
        self._col = 0
        self._word: list[tuple[str, str]] = []  # since the last place a line may break at
        self._width = 0  # of the word
        self._sure = True  # whether every terminal agrees on that
        self._last = ""
        self._half_flag = False  # a regional indicator waits for its second
        self._style = ""  # in force in the terminal
        self._line_sure = True  # whether every terminal agrees on where in the line we are
        self.indent = 0  # columns that the next lines of this paragraph begin with

    def feed(self, styled: Iterable[tuple[str, str]], *, verbatim: bool = False) -> str:
        """What to write. `verbatim` text is not broken by us."""
        limit = self._columns() - 1  # the last column stays free: there terminals differ, too
        return "".join(self._put(char, style, 1 << 30 if verbatim else limit) for char, style in styled)

    def again(self, styled: Iterable[tuple[str, str]]) -> str:
        """The line so far once more, in other styles; nothing where that cannot be told from a broken one."""
        if not self._colour or not self._line_sure or not 0 < self._col < self._columns():
            return ""
        out = self._switch("") + f"\x1b[{self._col}D\x1b[K"
        self._begin_word()
        self._col, self._last = 0, ""
        return out + self.feed(styled, verbatim=True)

    def finish(self) -> str:
        """The end of a style that is still in force."""
        return self._switch("")

    @property
    def at_line_start(self) -> bool:
        """Whether nothing stands on the line."""
        return self._col == 0

    def _put(self, char: str, style: str, limit: int) -> str:
        if char == "\n":
            self.indent, self._line_sure = 0, True
            return self._switch("") + self._newline()
        if char in " \t":
            return self._blank(char, style, limit)
        columns = _columns_of(char)
        joined = self._joins(char)
        if not joined and self._breaks_before(char, columns):
            self._begin_word()
        out = ""
        if self._words and not joined and self._col + columns > limit:
            out = self._overflow(columns, limit)
        self._word.append((char, style))
        self._width += columns
        self._sure = self._sure and _sure(char)
        self._line_sure = self._line_sure and self._sure
        self._col += columns
        self._last = char
        return out + self._switch(style) + char

    def _joins(self, char: str) -> bool:
        """Whether the character is one with what came before: marks, joined emoji, the second half of a flag."""
        half_flag = self._half_flag
        self._half_flag = _is_flag(char) and not half_flag
        if half_flag and _is_flag(char):
            return True
        attached = char in _JOINERS or _is_skin_tone(char) or unicodedata.category(char)[0] == "M"
        return attached or self._last == _ZWJ

    def _breaks_before(self, char: str, columns: int) -> bool:
        """Whether a line may end between the last character and this one: beside wide ones, as CJK is set."""
        if (
            not columns
            or char in _NO_BREAK_BEFORE
            or (self._last and self._last in _NO_BREAK_AFTER + _JOINERS)
        ):
            return False
        return columns == 2 or (bool(self._last) and _columns_of(self._last) == 2)

    def _blank(self, char: str, style: str, limit: int) -> str:
        n = _TAB - self._col % _TAB if char == "\t" else 1
        self._begin_word()
        self._last = char
        if self._words and self._col + n > limit:  # the end of the line does for it
            return self._switch("") + self._next_line(limit)
        self._col += n
        return self._switch(style) + " " * n

    def _overflow(self, columns: int, limit: int) -> str:
        """Go to the next line, with the word when it can come along."""
        word, width, indent = self._word, self._width, min(self.indent, limit // 2)
        moves = self._sure and 0 < width <= limit - indent - columns
        if not moves or width >= self._col - indent:
            return self._switch("") + self._next_line(limit)
        out = f"\x1b[{width}D\x1b[K" + self._switch("") + self._next_line(limit)
        for char, style in word:
            out += self._switch(style) + char
        self._word, self._width, self._col = word, width, indent + width
        return out

    def _begin_word(self) -> None:
        self._word, self._width, self._sure = [], 0, True

    def _next_line(self, limit: int) -> str:
        """A new line of the same paragraph."""
        out = self._newline()
        self._col = min(self.indent, limit // 2)
        return out + " " * self._col

    def _newline(self) -> str:
        self._begin_word()
        self._col, self._last = 0, ""
        return "\n"

    def _switch(self, style: str) -> str:
        if not self._colour or style == self._style:
            return ""
        before, self._style = self._style, style
        return (_OFF if before else "") + (f"\x1b[{style}m" if style else "")


def _columns_of(char: str) -> int:
    """The most columns a terminal may give the character."""
    if char.isascii():
        return 1
    from wcwidth import wcwidth

    if char == "\ufe0f" or _ambiguous(char):
        return max(wcwidth(char), 0) + 1
    return max(wcwidth(char), 0)


def _sure(char: str) -> bool:
    """Whether all terminals give the character the same width."""
    if char.isascii():
        return True
    joins = char in _JOINERS or _is_flag(char) or _is_skin_tone(char)
    return not joins and not _ambiguous(char) and unicodedata.category(char)[0] not in "MC"


def _ambiguous(char: str) -> bool:
    """Narrow or wide by the terminal's taste; dashes and quotes are narrow in all that are set up for UTF-8."""
    return unicodedata.east_asian_width(char) == "A" and not "\u2010" <= char <= "\u2027"


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_skin_tone(char: str) -> bool:
    return "\U0001f3fb" <= char <= "\U0001f3ff"
