"""A conversation through the Python API: chat's `Conversation`, with turns taken and settings by keyword."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgellm import messages as openai
from edgellm.api_settings import Settings, options_with
from edgellm.api_stream import Source, Stream, Turns
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from edgellm.chat.conversation import Conversation, Message


class Chat:
    """A conversation that remembers what was said. Made by `Model.chat`; several can share one model.

    The model's cache holds one conversation at a time: going back and forth between two costs the evaluation
    of their messages each time.
    """

    def __init__(self, conversation: Conversation, turns: Turns) -> None:
        self._conversation, self._turns = conversation, turns

    @property
    def messages(self) -> list[dict[str, str]]:
        """What was said, as messages with `role` and `content`; the system prompt comes first."""
        system = self._conversation.system
        said = [{"role": m.role, "content": m.content} for m in self._conversation.messages]
        return [{"role": "system", "content": system}, *said] if system else said

    @property
    def n_hidden(self) -> int:
        """Messages that the model no longer sees, because the window is full."""
        return self._conversation.n_hidden

    def ask(self, text: str, **settings: Unpack[Settings]) -> Stream:
        """Put a message; the stream is the answer as it is written. Settings hold for this answer alone.

        Raises UsageError when the message does not fit the window. An answer cut off before its first token
        takes the message back.
        """
        return self._stream(lambda: self._conversation.ask(text), settings)

    def regenerate(self, **settings: Unpack[Settings]) -> Stream:
        """Answer the last message anew."""
        return self._stream(self._conversation.regenerate, settings)

    def undo(self) -> str:
        """Take back the last message and its answer; returns the message."""
        with self._turns.turn():
            return self._conversation.undo().content

    def clear(self) -> None:
        """Forget all messages; the system prompt stays."""
        with self._turns.turn():
            self._conversation.clear()

    def _stream(self, answer: Callable[[], Source], settings: Settings) -> Stream:
        def make() -> Source:
            usual = self._conversation.options
            self._conversation.options = options_with(usual, settings)
            try:
                return answer()  # it has its options now
            finally:
                self._conversation.options = usual

        return Stream(self._turns, make)


def history(messages: Sequence[Mapping[str, Any]], system: str | None) -> tuple[list[Message], str | None]:
    """OpenAI's messages as a conversation's, and the system prompt, which may be the first of them."""
    from edgellm.chat.conversation import Message

    said = openai.checked(messages) if messages else []
    if said and said[0]["role"] == "system":
        if system:
            raise UsageError("the system prompt is given twice: as system= and as the first message")
        system, said = said[0]["content"], said[1:]
    return [Message(m["role"], m["content"]) for m in said], system
