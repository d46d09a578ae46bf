"""Messages as OpenAI's clients write them, read into a conversation's and written back.

A message is a mapping with `role` and `content`. Knows no template and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.errors import UsageError
from edgellm.prompt.messages import Message
from edgellm.prompt.tools import ToolCall

Messages = Sequence[Mapping[str, Any]]

ROLES = ("system", "user", "assistant", "tool")
_SAME = {"developer": "system", "function": "tool"}  # OpenAI's newer and older names


def read(messages: Messages) -> tuple[str | None, list[Message]]:
    """The system prompt, where the first message is one, and the others.

    Lists of text parts become one string, the arguments of tool calls dictionaries. Raises UsageError naming
    the message that is not understood.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UsageError(f"messages are a list of mappings with 'role' and 'content', not {messages!r:.60}")
    found = [_read(message, i) for i, message in enumerate(messages)]
    if found and found[0].role == "system":
        return found[0].content, found[1:]
    return None, found


def written(message: Message) -> dict[str, Any]:
    """A conversation's message in OpenAI's form; thinking is left out, as later turns do not see it."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        out["tool_calls"] = [called(call) for call in message.calls]
    if message.call_id:
        out["tool_call_id"] = message.call_id
    return out


def called(call: ToolCall) -> dict[str, Any]:
    """A tool call in OpenAI's form: its arguments are JSON text."""
    function = {"name": call.name, "arguments": call.arguments_json()}
    return {"id": call.id, "type": "function", "function": function}


def _read(message: Mapping[str, Any], index: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UsageError(f"messages[{index}] is not a mapping with 'role' and 'content': {message!r:.80}")
    role = _SAME.get(message["role"], message["role"])
    if role not in ROLES:
        raise UsageError(f"messages[{index}] has the role {role!r}; there are: {', '.join(ROLES)}")
    calls = tuple(_call(call, index) for call in message.get("tool_calls") or ())
    if message.get("content") is None and not calls:
        raise UsageError(f"messages[{index}] has no content")
    text = _text(message.get("content"), index)
    thinking, call_id = message.get("reasoning_content"), message.get("tool_call_id")
    return Message(role, text, thinking=thinking or None, calls=calls, call_id=call_id)


def _text(content: Any, index: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, Sequence) else [content]
    for part in parts:
        if (
            not isinstance(part, Mapping)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            raise UsageError(f"messages[{index}] holds something that is not text: {part!r:.80}")
    return "".join(part["text"] for part in parts)


def _call(call: Any, index: int) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"messages[{index}] has a tool call without a function's name: {call!r:.80}")
    arguments = function.get("arguments") or {}
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise UsageError(f"messages[{index}]: the arguments of {function['name']} are no JSON object")
    return ToolCall(function["name"], arguments, **({"id": call["id"]} if call.get("id") else {}))
