"""Messages, what is kept of a conversation, and how templates want to be told of both.

Plain values: knows no model and no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgellm.prompt.tools import ToolCall

Guard = Callable[[str], str]  # see spans.SpanCache.guard


@dataclass(frozen=True)
class Message:
    """One message. What follows `content` is known of answers only, but for `call_id`."""

    role: str  # "user" | "assistant" | "tool"
    content: str
    finish_reason: str | None = None  # "stop" | "length" | "cancelled" | "tool_calls"
    truncated: bool = False  # the full window cost this answer its end or its view of older turns
    seed: int | None = None  # what the answer was drawn with
    thinking: str | None = None  # what was thought before it; later turns do not see it
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None  # of a tool's result: the call it answers

    def as_json(self) -> dict[str, Any]:
        """Plain data, without what is not known."""
        data = dataclasses.asdict(self)
        return {key: value for key, value in data.items() if value is not None and value != ()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """The message of `as_json`. Raises ValueError or TypeError for anything else."""
        calls = tuple(ToolCall(**call) for call in data.get("calls", ()))
        message = cls(**{**data, "calls": calls})
        if not all(isinstance(call.arguments, dict) for call in calls):
            raise ValueError("the arguments of a call are no object")
        if not isinstance(message.seed, int | None) or not isinstance(message.truncated, bool):
            raise ValueError("a seed is no number, or truncated neither true nor false")
        others = (message.role, message.finish_reason or "", message.call_id or "")
        for text in (message.content, message.thinking or "", *others, *(call.name for call in calls)):
            if not isinstance(text, str):
                raise ValueError(f"{str(text)[:40]!r} is no text")
            text.encode()  # a lone surrogate is no text; UnicodeEncodeError is a ValueError
        return message


@dataclass(frozen=True)
class Summary:
    """What the model wrote about the oldest messages, to be seen in their place."""

    text: str
    n_messages: int


@dataclass(frozen=True)
class History:
    """All that has to be kept to go on with a conversation."""

    messages: tuple[Message, ...] = ()
    system: str | None = None
    n_hidden: int = 0  # of the oldest messages: the model does not see them
    summary: Summary | None = None
    branches: tuple[tuple[Message, ...], ...] = field(default=())  # other ways it went, whole


def turns(messages: Sequence[Message]) -> list[int]:
    """Where turns begin: the indices of the user's messages."""
    return [i for i, message in enumerate(messages) if message.role == "user"]


def check(messages: Sequence[Message]) -> None:
    """Raise ValueError unless answers follow the user's messages, and tools' results follow calls."""
    before = "assistant"
    for i, message in enumerate(messages):
        follows = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("assistant", "tool")}
        if before not in follows.get(message.role, ()) or (i == 0 and message.role != "user"):
            raise ValueError(f"message {i + 1} cannot be the {message.role}'s after the {before}'s")
        before = message.role


def n_common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages both begin with."""
    n = 0
    while n < min(len(one), len(other)) and one[n] == other[n]:
        n += 1
    return n


def for_template(messages: Sequence[Message], guard: Guard, *, one_call_each: bool) -> list[dict[str, Any]]:
    """The messages as chat templates take them.

    Thinking goes along after the user's last message only: a model that called a tool goes on with its
    thought, a new turn begins without. `one_call_each`: Llama 3's template refuses several calls in one
    message; each becomes a message of its own, followed by its result.
    """
    last_turn = max(turns(messages), default=0)
    out: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        told: dict[str, Any] = {"role": message.role, "content": guard(message.content)}
        if message.thinking and i > last_turn:
            told["reasoning_content"] = guard(message.thinking)
        if message.calls:
            told["tool_calls"] = [guarded(call.as_message_part(), guard) for call in message.calls]
        if message.call_id:
            told["tool_call_id"] = guard(message.call_id)
        out.append(told)
    return _one_call_each(out) if one_call_each else out


def guarded(value: Any, guard: Guard) -> Any:
    """Plain data with every text in it guarded, names of fields among them: all of it may come from strangers."""
    if isinstance(value, str):
        return guard(value)
    if isinstance(value, Mapping):
        return {guarded(key, guard): guarded(item, guard) for key, item in value.items()}
    return [guarded(item, guard) for item in value] if isinstance(value, (list, tuple)) else value


def _one_call_each(told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    results = {message["tool_call_id"]: message for message in told if "tool_call_id" in message}
    out: list[dict[str, Any]] = []
    for message in told:
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            out += [message] if message.get("tool_call_id") not in _moved(told) else []
            continue
        for call in calls:
            out.append({**message, "tool_calls": [call]})
            out += [results[call["id"]]] if call["id"] in results else []
    return out


def _moved(told: Sequence[dict[str, Any]]) -> set[str]:
    """Ids of calls that are made several at a time."""
    several = (message["tool_calls"] for message in told if len(message.get("tool_calls", ())) > 1)
    return {call["id"] for calls in several for call in calls}
