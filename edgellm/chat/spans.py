"""Rendered text to token ids, so that what the cache holds stays a prefix of the next prompt.

A model's answer, taken apart by the tokenizer again, seldom gives the ids the model drew; then the cache would
be useless from there on. So the ids of every piece of text that went through the engine are kept with the text,
and only text that is new is tokenized. Knows nothing of messages or templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgellm.generation.generate import Completion
from edgellm.session import Session

# Noncharacters: never part of text, so they can mark where a message begins and ends in rendered text.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_GUARDED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)


#: Characters a token of ordinary text has at most, on average: so many to a token of the window are tokenized
#: at once. Longer texts are first looked at in blocks, until they are over the window.
_CHARS_A_TOKEN = 8
_CUT_ADDS = 16  # tokens at most, by which a text cut in two has more than the whole


class OverWindowError(Exception):
    """A text that has more tokens than the window, by `n_least` at least."""

    def __init__(self, n_least: int) -> None:
        super().__init__(n_least)
        self.n_least = n_least


@dataclass(frozen=True)
class Span:
    """A stretch of rendered text and its token ids."""

    text: str
    tokens: tuple[int, ...]


class SpanCache:
    """Remembers the ids of the text the session has seen."""

    def __init__(self, session: Session, others: Iterable[Sequence[Span]] = ()) -> None:
        """`others`: what is known of other conversations, which this one may go on from."""
        self._session, self._others = session, tuple(others)
        self._known: list[Span] = []
        self._answer: tuple[Completion, bool] | None = None  # that goes on from `_known`, and has markup
        self._guarded: dict[str, str] = {}

    @property
    def known(self) -> list[Span]:
        """The last prompt and answer, in order."""
        if self._answer is not None:
            self._known, self._answer = self._with(*self._answer), None
        return self._known

    @known.setter
    def known(self, spans: list[Span]) -> None:
        self._known, self._answer = spans, None

    def guard(self, content: str) -> str:
        """Message text that may go into a template: control tokens spelt out in it stay plain text.

        Otherwise a pasted file could end the user's turn and speak as the system.
        """
        if content not in self._guarded:
            content = self.unguarded(content)
            body = content.strip()
            tokenize = self._session.tokenize
            # What is long for the window is guarded unseen: to look would be to tokenize all of it.
            harmless = len(body) <= self._at_once and (
                tokenize(body, special=True) == tokenize(body, special=False)
            )
            self._guarded[content] = content if harmless else content.replace(body, _OPEN + body + _CLOSE)
        return self._guarded[content]

    @property
    def _at_once(self) -> int:
        """Characters that are tokenized without looking how many tokens they have."""
        return _CHARS_A_TOKEN * self._session.info.n_ctx

    def split(self, text: str) -> list[Span]:
        """Spans that make up `text`: the known ones it begins with, and one of what is new.

        Raises OverWindowError, after work for about one window, when the new text alone has more tokens than it.
        """
        spans, at = max(
            (_beginning(text, known) for known in (self.known, *self._others)), key=lambda found: found[1]
        )
        return [*spans, Span(text[at:], self._tokens(text[at:]))] if at < len(text) else spans

    @staticmethod
    def unguarded(text: str) -> str:
        """A text without the marks of `guard`."""
        return text.replace(_OPEN, "").replace(_CLOSE, "")

    def keep(self, prompt: Sequence[Span], answer: Completion, *, has_markup: bool = False) -> None:
        """Remember a prompt and what was drawn after it. Asks nothing of the session, whose engine may be gone.

        `has_markup`: tags of thinking and calls are in it, which templates write unguarded.
        """
        self._known, self._answer = list(prompt), (answer, has_markup)

    def _with(self, answer: Completion, has_markup: bool) -> list[Span]:
        """`_known` and the answer. Where its ids do not spell the text (a stop string cut it, half a character was
        left), the text is tokenized when it is next needed.
        """
        drawn = b"".join(map(self._session.piece, answer.tokens))
        if not answer.text or drawn != answer.text.encode():
            return self._known
        text = answer.text if has_markup else self.guard(answer.text)
        return [*self._known, Span(text, answer.tokens)]

    def _tokens(self, text: str) -> tuple[int, ...]:
        if len(text) > self._at_once:
            self._look(text)
        ids: list[int] = []
        for i, part in enumerate(_GUARDED.split(text)):
            if part:
                ids += self._session.tokenize(part, special=i % 2 == 0)
        return tuple(ids)

    def _look(self, text: str) -> None:
        """Raise OverWindowError when `text` is over the window, counted block by block."""
        n_tokens, block = 0, self._at_once
        for start in range(0, len(text), block):
            n_tokens += len(self._session.tokenize(text[start : start + block])) - _CUT_ADDS
            if n_tokens > self._session.info.n_ctx:
                raise OverWindowError(n_tokens)


def _beginning(text: str, known: Sequence[Span]) -> tuple[list[Span], int]:
    """The spans of `known` that `text` begins with, and how many characters they are."""
    spans, at = [], 0
    for span in known:
        if not text.startswith(span.text, at):
            break
        spans.append(span)
        at += len(span.text)
    return spans, at
