"""An answer on its way to the screen: thinking apart from text, Markdown styled, words broken at the edge.

Pure: parts in, what to write out. Knows nothing of models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgellm.chat import words
from edgellm.chat.terminal import markdown
from edgellm.chat.terminal.highlight import Code
from edgellm.chat.terminal.markdown import Markdown
from edgellm.chat.terminal.text import Cleaner
from edgellm.chat.terminal.wrap import Wrapper
from edgellm.prompt.markup import Part
from edgellm.terminal import columns, visible


@dataclass
class View:
    """How answers are shown in a terminal; /set changes it."""

    markdown: bool = True  # styles for bold, code, headings, lists
    wrap: bool = True  # words are not torn at the edge
    thinking: bool = True  # what the model thinks is shown, dim


class AnswerPrinter:
    """Shows one answer."""

    def __init__(self, view: View, *, terminal: bool, escapes: bool, colour: bool) -> None:
        self._view, self._terminal = view, terminal
        self._cleaner, self._markdown = Cleaner(), Markdown()
        self._wrapper = Wrapper(columns, colour=colour, words=view.wrap and escapes)
        self._code: Code | None = None  # the block we are in
        self._line = ""  # of code, so far
        self._thinking = False  # it is being shown
        self._written = ""  # the last that was shown

    def feed(self, part: Part) -> str:
        """What to write for this part, possibly nothing."""
        if not self._terminal:
            text = part.text if part.kind == "text" else ""
            self._written = text or self._written
            return text
        if part.kind == "call":
            return self._call(part)
        text = self._cleaner.feed(part.text)
        return self._thought(text) if part.kind == "thinking" else self._text(text)

    def end(self) -> str:
        """What ends the answer: its line, and a style that is still in force."""
        if self._thinking:
            return self._end_thinking() + self._wrapper.finish()
        ended = self._wrapper.at_line_start if self._terminal else self._written.endswith("\n")
        return self._wrapper.finish() + ("" if self.began and ended else "\n")

    @property
    def began(self) -> bool:
        """Whether anything was shown."""
        return self._thinking or bool(self._written)

    def _thought(self, text: str) -> str:
        if not self._view.thinking:
            return ""
        head = ""
        if not self._thinking:
            text = text.lstrip()
            self._thinking, head = bool(text), f"{words.say('thinks')}\n" if text else ""
        return self._dim(head + text)

    def _end_thinking(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        return self._dim(("" if self._wrapper.at_line_start else "\n") + f"{words.say('thought_over')}\n\n")

    def _text(self, text: str) -> str:
        out = self._end_thinking() if text else ""
        self._written = text or self._written
        if not self._view.markdown:
            return out + self._wrapper.feed((char, markdown.PLAIN) for char in text)
        for char, style in self._markdown.feed(text):
            out += self._marked(char, style)
        return out

    def _marked(self, char: str, style: str) -> str:
        """One character of Markdown."""
        inside = self._markdown.in_code_block
        out = self._coloured(inside) if char == "\n" else ""
        if self._code is not None and char != "\n":
            self._line += char
            style = markdown.PLAIN if self._code.known and style == markdown.CODE else style
        out += self._wrapper.feed(((char, style),), verbatim=inside)
        if not inside and char != "\n":
            self._wrapper.indent = self._markdown.indent
        return out

    def _coloured(self, inside: bool) -> str:
        """A line has ended, `inside` a block of code: it once more, in the colours of the language."""
        line, self._line = self._line, ""
        if not inside:
            self._code = None
        elif self._code is None:
            self._code = Code(self._markdown.language)
        elif styles := self._code.line(line):
            return self._wrapper.again(zip(line, styles, strict=True))
        return ""

    def _call(self, part: Part) -> str:
        assert part.call
        arguments = json.dumps(part.call.arguments, ensure_ascii=False)
        self._written = line = words.say("calls", name=part.call.name, arguments=arguments)
        start = "" if self._wrapper.at_line_start else "\n"
        return self._end_thinking() + self._dim(f"{start}{visible(line)}\n")

    def _dim(self, text: str) -> str:
        return self._wrapper.feed((char, markdown.MARK) for char in text)
