"""Rendered text to token ids, so that what the cache holds stays a prefix of the next prompt.

A model's answer, taken apart by the tokenizer again, seldom gives the ids the model drew; then the cache would
be useless from there on. So the ids of every piece of text that went through the engine are kept with the text,
and only text that is new is tokenized. Knows nothing of messages or templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.generation.generate import Completion
from edgellm.session import Session

# Noncharacters: never part of text, so they can mark where a message begins and ends in rendered text.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_GUARDED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)


@dataclass(frozen=True)
class Span:
    """A stretch of rendered text and its token ids."""

    text: str
    tokens: tuple[int, ...]


class SpanCache:
    """Remembers the ids of the text the session has seen."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.known: list[Span] = []  # the last prompt and answer, in order
        self._guarded: dict[str, str] = {}

    def guard(self, content: str) -> str:
        """Message text that may go into a template: control tokens spelt out in it stay plain text.

        Otherwise a pasted file could end the user's turn and speak as the system.
        """
        if content not in self._guarded:
            content = content.replace(_OPEN, "").replace(_CLOSE, "")
            body = content.strip()
            tokenize = self._session.tokenize
            harmless = tokenize(body, special=True) == tokenize(body, special=False)
            self._guarded[content] = content if harmless else content.replace(body, _OPEN + body + _CLOSE)
        return self._guarded[content]

    def split(self, text: str) -> list[Span]:
        """Spans that make up `text`: the known ones it begins with, and one of what is new."""
        spans, at = [], 0
        for span in self.known:
            if not text.startswith(span.text, at):
                break
            spans.append(span)
            at += len(span.text)
        return [*spans, Span(text[at:], self._tokens(text[at:]))] if at < len(text) else spans

    def keep(self, prompt: Sequence[Span], answer: Completion, *, has_markup: bool = False) -> None:
        """Remember a prompt and what was drawn after it.

        When the ids do not spell the text (a stop string cut it, half a character was left), the text is
        tokenized when it is next needed. `has_markup`: tags of thinking and calls are in it, which templates
        write unguarded.
        """
        self.known = list(prompt)
        drawn = b"".join(map(self._session.piece, answer.tokens))
        if answer.text and drawn == answer.text.encode():
            self.known.append(Span(answer.text if has_markup else self.guard(answer.text), answer.tokens))

    def _tokens(self, text: str) -> tuple[int, ...]:
        ids: list[int] = []
        for i, part in enumerate(_GUARDED.split(text)):
            if part:
                ids += self._session.tokenize(part, special=i % 2 == 0)
        return tuple(ids)
