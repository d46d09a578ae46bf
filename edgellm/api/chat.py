"""A conversation through the Python API: chat's `Conversation`, with turns taken and settings by keyword."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgellm.api.asynchronous import AsyncStream
from edgellm.api.settings import Settings, options_with
from edgellm.api.stream import Stream, Turns
from edgellm.chat import store
from edgellm.prompt import openai

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgellm.api.settings import ChatSettings
    from edgellm.chat.conversation import Conversation
    from edgellm.chat.reply import Reply
    from edgellm.prompt.tools import ToolCall


class Chatting(Protocol):
    """What begins a conversation: a `Model`."""

    def chat(self, **settings: Unpack[ChatSettings]) -> Chat:
        """A new conversation."""
        ...


class Chat:
    """A conversation that remembers what was said. Made by `Model.chat`; several can share one model.

    The model's cache holds one conversation at a time: going back and forth between two costs the evaluation
    of their messages each time. Methods with an `a` before their name are for asyncio.
    """

    def __init__(self, conversation: Conversation, turns: Turns) -> None:
        self._conversation, self._turns = conversation, turns
        self._saved: store.Saved | None = None  # as it was last on disk

    @classmethod
    def load(cls, model: Chatting, path: str | PathLike[str], **settings: Unpack[ChatSettings]) -> Chat:
        """Go on with a conversation that `save` or `edgellm chat` wrote; settings are those of `Model.chat`.

        Raises UsageError where there is no such file, StorageError for a damaged one.
        """
        saved = store.read(Path(path))
        chat = model.chat(**settings)
        chat._saved = saved
        chat._conversation.restore(saved.history)
        return chat

    def save(self, path: str | PathLike[str]) -> None:
        """Write what was said to a file of JSON, in the place of one that is there; settings are not part of it.

        Raises StorageError.
        """
        path = Path(path)
        with self._turns.turn():
            name = self._conversation.session.artifact.name
            saved = self._saved or store.Store(path.parent).new(name, "")
            saved = dataclasses.replace(saved, name=path.stem, history=self._conversation.history)
            self._saved = store.write(path, saved)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said, in OpenAI's form; the system prompt comes first."""
        system = self._conversation.system
        said = list(map(openai.written, self._conversation.messages))
        return [{"role": "system", "content": system}, *said] if system is not None else said

    @property
    def n_hidden(self) -> int:
        """Messages that the model no longer sees, because the window is full."""
        return self._conversation.n_hidden

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The tools that the last answer asks for; `respond` takes their results."""
        return self._conversation.pending

    def ask(self, text: str, **settings: Unpack[Settings]) -> Stream:
        """Put a message; the stream is the answer as it is written. Settings hold for this answer alone.

        Raises UsageError when the message does not fit the window. An answer cut off before its first token
        takes the message back.
        """
        return self._stream(lambda: self._conversation.ask(text), settings)

    def respond(self, results: Mapping[str, str], **settings: Unpack[Settings]) -> Stream:
        """Give the results of the tools that were asked for, by the calls' ids; the model goes on."""
        return self._stream(lambda: self._conversation.respond(results), settings)

    def regenerate(self, **settings: Unpack[Settings]) -> Stream:
        """Answer the last message anew."""
        return self._stream(self._conversation.regenerate, settings)

    def edit(self, text: str, turn: int | None = None, **settings: Unpack[Settings]) -> Stream:
        """Put `text` in the place of the last message, or of an earlier turn's (1 is the first); answer it."""
        return self._stream(lambda: self._conversation.edit(text, turn), settings)

    def aask(self, text: str, **settings: Unpack[Settings]) -> AsyncStream:
        """`ask`, for `async for` or `await`. Raises, when awaited, what `ask` raises."""
        return self._astream(lambda: self._conversation.ask(text), settings)

    def arespond(self, results: Mapping[str, str], **settings: Unpack[Settings]) -> AsyncStream:
        """`respond`, for `async for` or `await`."""
        return self._astream(lambda: self._conversation.respond(results), settings)

    def aregenerate(self, **settings: Unpack[Settings]) -> AsyncStream:
        """`regenerate`, for `async for` or `await`."""
        return self._astream(self._conversation.regenerate, settings)

    def undo(self) -> str:
        """Take back the last message and its answer; returns the message."""
        with self._turns.turn():
            return self._conversation.undo().content

    def clear(self) -> None:
        """Forget all messages; the system prompt stays."""
        with self._turns.turn():
            self._conversation.clear()

    def __repr__(self) -> str:
        n, hidden = len(self._conversation.messages), f", {self.n_hidden} hidden" if self.n_hidden else ""
        name = self._conversation.session.artifact.name
        return f"<edgellm.Chat with {name}, {n} message{'s' * (n != 1)}{hidden}>"

    def _stream(self, answer: Callable[[], Reply], settings: Settings) -> Stream:
        return Stream(self._turns, self._made(answer, settings))

    def _astream(self, answer: Callable[[], Reply], settings: Settings) -> AsyncStream:
        return AsyncStream(self._turns, self._made(answer, settings))

    def _made(self, answer: Callable[[], Reply], settings: Settings) -> Callable[[], Reply]:
        """What makes the answer when it is its turn. Settings are checked now."""
        usual = self._conversation.options
        options = options_with(usual, settings)

        def make() -> Reply:
            self._conversation.options = options
            try:
                return answer()  # it has its options now
            finally:
                self._conversation.options = usual

        return make
