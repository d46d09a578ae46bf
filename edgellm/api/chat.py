"""A conversation through the Python API: chat's `Conversation`, with turns taken and settings by keyword."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgellm.api.settings import Settings, options_with
from edgellm.api.stream import Stream, Turns
from edgellm.prompt import openai

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgellm.chat.conversation import Conversation
    from edgellm.chat.reply import Reply
    from edgellm.prompt.tools import ToolCall


class Chat:
    """A conversation that remembers what was said. Made by `Model.chat`; several can share one model.

    The model's cache holds one conversation at a time: going back and forth between two costs the evaluation
    of their messages each time.
    """

    def __init__(self, conversation: Conversation, turns: Turns) -> None:
        self._conversation, self._turns = conversation, turns

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

    def undo(self) -> str:
        """Take back the last message and its answer; returns the message."""
        with self._turns.turn():
            return self._conversation.undo().content

    def clear(self) -> None:
        """Forget all messages; the system prompt stays."""
        with self._turns.turn():
            self._conversation.clear()

    def _stream(self, answer: Callable[[], Reply], settings: Settings) -> Stream:
        def make() -> Reply:
            usual = self._conversation.options
            self._conversation.options = options_with(usual, settings)
            try:
                return answer()  # it has its options now
            finally:
                self._conversation.options = usual

        return Stream(self._turns, make)
