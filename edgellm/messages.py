"""Messages as OpenAI's clients write them, checked, in the form chat templates expect.

A message is a mapping with `role` and `content`. Knows no template and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.errors import UsageError

ROLES = ("system", "user", "assistant", "tool")
_SAME = {"developer": "system", "function": "tool"}  # OpenAI's newer and older names
_PASSED_ON = ("name", "tool_call_id", "reasoning_content")


def checked(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as plain dictionaries whose `content` is a string.

    Lists of text parts become one string, the arguments of tool calls become dictionaries. Raises UsageError
    naming the message that is not understood.
    """
    if not messages:
        raise UsageError(
            "there are no messages; give at least one, e.g. {'role': 'user', 'content': 'Hello'}"
        )
    return [_checked(message, i) for i, message in enumerate(messages)]


def _checked(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UsageError(f"messages[{index}] is not a mapping with 'role' and 'content': {message!r:.80}")
    role = _SAME.get(message["role"], message["role"])
    if role not in ROLES:
        raise UsageError(f"messages[{index}] has the role {role!r}; there are: {', '.join(ROLES)}")
    found: dict[str, Any] = {"role": role, "content": _text(message.get("content"), index)}
    found |= {key: message[key] for key in _PASSED_ON if message.get(key) is not None}
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [_call(call, index) for call in calls]
    elif message.get("content") is None:
        raise UsageError(f"messages[{index}] has no content")
    return found


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


def _call(call: Any, index: int) -> dict[str, Any]:
    """A tool call; OpenAI's clients spell its arguments as JSON text, templates want the object."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"messages[{index}] has a tool call without a function's name: {call!r:.80}")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise UsageError(
                f"messages[{index}]: the arguments of {function['name']} are not JSON: {arguments:.80}"
            ) from None
    return {**call, "function": {**function, "arguments": arguments}}
