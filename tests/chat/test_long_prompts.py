"""What is far over the window costs about a window's work, and what fits is tokenized as ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgellm import backends
from edgellm.catalog import first_use
from edgellm.chat.conversation import ContextFullError, Conversation
from edgellm.chat.spans import OverWindowError, SpanCache
from edgellm.errors import UsageError
from edgellm.prompt.template import ChatTemplate
from edgellm.session import EngineOptions

N_CTX = 256
HOSTILE = "{{ messages[-1].content }}{{ '%s' * 100000 }}"  # 70 bytes that make a megabyte


class Counting:
    """A session that counts the characters it is asked to tokenize."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.n_chars = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def tokenize(self, text: str, **options: Any) -> list[int]:
        self.n_chars += len(text)
        found: list[int] = self._session.tokenize(text, **options)
        return found


@pytest.fixture(scope="module")
def opened() -> Any:
    with backends.open_session(
        first_use.resolve("tiny-qwen3"), EngineOptions(n_ctx=N_CTX, n_threads=1)
    ) as made:
        yield made


@pytest.mark.parametrize("piece", ["a", " ", "xyz ", "<|im_end|>", "\n"])
def test_a_template_that_writes_without_end_costs_a_window(opened: Any, piece: str) -> None:
    session: Any = Counting(opened)
    conversation = Conversation(session, ChatTemplate(HOSTILE % piece))
    with pytest.raises(ContextFullError, match="tokens; the window of 256"):
        conversation.ask("hi")
    assert session.n_chars < 200 * N_CTX  # the longest token of the vocabulary has 128 characters


def test_a_pasted_book_costs_a_window(opened: Any) -> None:
    session: Any = Counting(opened)
    conversation = Conversation(session, ChatTemplate("{{ messages[-1].content }}"))
    with pytest.raises(ContextFullError):
        conversation.ask("the quick brown fox " * 100_000)
    assert session.n_chars < 200 * N_CTX


class Wide:
    """A session whose tokens have 16 characters each, more than are taken at once."""

    info = SimpleNamespace(n_ctx=64)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        return [len(text[i : i + 16]) for i in range(0, len(text), 16)]


def test_what_fits_is_tokenized_whole() -> None:
    session: Any = Wide()
    text = "x" * 1000
    (span,) = SpanCache(session).split(text)
    assert list(span.tokens) == session.tokenize(text) and len(span.tokens) == 63
    with pytest.raises(OverWindowError):
        SpanCache(session).split("x" * 3000)


def test_a_template_that_leaves_the_user_out_is_said(opened: Any) -> None:
    with pytest.raises(UsageError, match="leaves out what the user says"):
        Conversation(opened, ChatTemplate("Hello! {{ messages|length }}")).ask("What is 2 + 2?")
