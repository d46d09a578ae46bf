"""A finished answer: its text, how it ended, what it cost, how sure the model was of every token.

Plain values: knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from edgellm.errors import CheckFailedError
from edgellm.generation.generate import Usage
from edgellm.generation.logprobs import TokenLogprob
from edgellm.prompt import openai
from edgellm.prompt.messages import Message
from edgellm.prompt.tools import ToolCall


class Schema(Protocol):
    """A class that says its JSON schema and reads such JSON: what pydantic calls a model."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """The JSON schema."""
        ...

    @classmethod
    def model_validate_json(cls, json_data: str, /) -> Any:
        """An instance, from JSON text."""
        ...


Parsed = TypeVar("Parsed", bound=Schema)


@dataclass(frozen=True)
class Answer:
    """A finished generation. Printed, it is its text."""

    text: str  # without thinking and calls, and without what the answer was begun with
    finish_reason: str  # "stop" | "length" | "cancelled" | "tool_calls"
    tokens: tuple[int, ...] = field(repr=False)  # all ids drawn, without the ending EOS
    usage: Usage = field(repr=False)
    seed: int | None  # asked with this seed, the same prompt gets the same answer
    truncated: bool = False  # the full window cost it its end, or its view of older messages
    thinking: str = ""  # what a reasoning model thought before it
    calls: tuple[ToolCall, ...] = ()  # the tools it asks for
    valid: bool | None = None  # whether the text is whole by its schema or grammar; None without one
    logprobs: tuple[TokenLogprob, ...] | None = field(
        default=None, repr=False
    )  # one for each of `tokens`, if asked for
    prefill: str = ""  # the last message's beginning of the answer, which `text` goes on from

    def __str__(self) -> str:
        return self.text

    @property
    def message(self) -> dict[str, Any]:
        """As a message in OpenAI's form, to go on from."""
        return openai.written(Message("assistant", self.prefill + self.text, calls=self.calls))

    def parse(self, as_: type[Parsed]) -> Parsed:
        """The text read by a pydantic model, whose own error says what it does not accept.

        Raises CheckFailedError where the answer was cut before its JSON was whole.
        """
        if self.valid is False:
            raise CheckFailedError(
                f"the answer was cut ({self.finish_reason}) after {len(self.tokens)} tokens, before its JSON was "
                "whole; give it a larger max_tokens"
            )
        parsed: Parsed = as_.model_validate_json(self.prefill + self.text)
        return parsed
