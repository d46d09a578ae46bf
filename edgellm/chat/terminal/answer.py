"""An answer on its way to the screen: thinking apart from text, Markdown styled, words broken at the edge.

Pure: parts in, what to write out. Knows nothing of models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgellm.chat.terminal import markdown
from edgellm.chat.terminal.markdown import Markdown
from edgellm.chat.terminal.text import Cleaner
from edgellm.chat.terminal.wrap import Wrapper
from edgellm.prompt.markup import Part
from edgellm.terminal import columns, visible

_THINKING, _DONE = "(thinking)\n", "(done thinking)\n\n"


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
        self._styled = view.markdown and colour
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
            self._thinking, head = bool(text), _THINKING if text else ""
        return self._dim(head + text)

    def _end_thinking(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        return self._dim(("" if self._wrapper.at_line_start else "\n") + _DONE)

    def _text(self, text: str) -> str:
        out = self._end_thinking() if text else ""
        self._written = text or self._written
        if not self._styled:
            return out + self._wrapper.feed((char, markdown.PLAIN) for char in text)
        for char, style in self._markdown.feed(text):
            out += self._wrapper.feed(((char, style),), verbatim=self._markdown.in_code_block)
        return out

    def _call(self, part: Part) -> str:
        assert part.call
        self._written = line = (
            f"(calls {part.call.name} {json.dumps(part.call.arguments, ensure_ascii=False)})"
        )
        start = "" if self._wrapper.at_line_start else "\n"
        return self._end_thinking() + self._dim(f"{start}{visible(line)}\n")

    def _dim(self, text: str) -> str:
        return self._wrapper.feed((char, markdown.MARK) for char in text)
