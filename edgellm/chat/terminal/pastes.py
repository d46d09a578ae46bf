"""Long pastes, folded to a line in the editor: `[120 lines pasted #1]` stands for what comes with the message.

Knows text alone.
"""

from __future__ import annotations

from edgellm.chat import words

_LINES, _CHARACTERS = 8, 1200  # more than this is folded


class Pastes:
    """What was pasted, and what stands for it."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def folded(self, text: str) -> str:
        """`text`, or what stands for it where it is long."""
        n_lines = text.rstrip("\n").count("\n") + 1
        if n_lines <= _LINES and len(text) <= _CHARACTERS:
            return text
        number = len(self._kept) + 1
        long = words.say("pasted_lines", n=n_lines, number=number)
        mark = long if n_lines > _LINES else words.say("pasted_characters", n=len(text), number=number)
        self._kept[mark] = text
        return mark

    def unfolded(self, text: str) -> str:
        """`text` with all that was pasted into it."""
        for mark, pasted in self._kept.items():
            text = text.replace(mark, pasted)
        return text

    def n_before(self, text: str) -> int:
        """Characters that Backspace takes at the end of `text`: a folded paste goes as a whole."""
        return next((len(mark) for mark in self._kept if text.endswith(mark)), 0)
