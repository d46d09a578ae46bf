"""A conversation put together piece by piece, in an order that every chat template takes.

Agents send several messages of one side in a row, calls and their results as items of their own, and system prompts in
the midst. Templates want one system prompt first, then sides that alternate. What is said stays in its order, so that a
prompt goes on where the one before it ended.
"""

from __future__ import annotations

from typing import Any

from edgellm.server.errors import RequestError

_BETWEEN = "\n\n"


class Turns:
    """`messages` is the conversation in OpenAI's form, as a Job takes it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def system(self, text: str) -> None:
        """Instructions: the system prompt at the beginning; later the user's side says them."""
        at_beginning = all(message["role"] == "system" for message in self.messages)
        self._say("system" if at_beginning else "user", "content", text)

    def user(self, text: str) -> None:
        """What the user says."""
        self._say("user", "content", text)

    def said(self, text: str) -> None:
        """What the model said."""
        self._say("assistant", "content", text)

    def thought(self, text: str) -> None:
        """What the model thought before it said or called what comes next."""
        self._say("assistant", "reasoning_content", text.strip())

    def called(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """A call the model made."""
        function = {"name": name, "arguments": arguments}
        calls = self._last("assistant").setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": function})

    def result(self, call_id: str, text: str) -> None:
        """What came of a call."""
        self.messages.append({"role": "tool", "content": text, "tool_call_id": call_id})

    def check(self, param: str) -> None:
        """Raise RequestError, about the field `param`, where nothing is left to answer."""
        last = self.messages[-1]["role"] if self.messages else "system"
        if last == "system":
            raise RequestError(f"{param} holds nothing to answer", param=param)
        if last == "assistant":
            raise RequestError(
                f"the last message of {param} is the assistant's, and an answer that was begun is not continued here: "
                "end with the user's or a tool's",
                param=param,
            )

    def _say(self, role: str, field: str, text: str) -> None:
        if text:
            message = self._last(role)
            message[field] = message[field] + _BETWEEN + text if message.get(field) else text

    def _last(self, role: str) -> dict[str, Any]:
        """The message of this side that is going on, or a new one."""
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": ""})
        return self.messages[-1]
