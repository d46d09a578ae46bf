"""What is offered to the model, by name: its description as a JSON schema, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgellm.chat import words
from edgellm.errors import EdgellmError, UsageError
from edgellm.prompt.tools import Tool, ToolCall

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True)
class Offered:
    """One tool."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # JSON schema of an object
    run: Callable[[dict[str, Any]], str]  # may raise anything; the model is told

    @property
    def schema(self) -> Tool:
        """As templates want to be told of it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


class Toolbox:
    """The tools of one chat. Close it, for the servers behind some."""

    def __init__(self, offered: Sequence[Offered], close: Callable[[], None] = lambda: None) -> None:
        """Raises UsageError where two have one name."""
        self._offered = {tool.name: tool for tool in offered}
        if len(self._offered) < len(offered):
            twice = [tool.name for tool in offered if tool is not self._offered[tool.name]]
            raise UsageError(words.say("tool_twice", names=", ".join(twice)))
        self.close = close
        self.allowed: set[str] = set()  # those that need not be asked about again

    @property
    def names(self) -> list[str]:
        """What they are called."""
        return list(self._offered)

    @property
    def schemas(self) -> list[Tool]:
        """What the model is told of them."""
        return [tool.schema for tool in self._offered.values()]

    def problem(self, call: ToolCall) -> str:
        """What is wrong with a call, in words for the model; empty where it can be run."""
        tool = self._offered.get(call.name)
        if tool is None:
            return f"error: there is no tool {call.name}; there are: {', '.join(self._offered)}"
        known = tool.parameters.get("properties", {})
        missing = [name for name in tool.parameters.get("required", ()) if name not in call.arguments]
        if missing:
            return f"error: {call.name} needs {', '.join(missing)}"
        unknown = [name for name in call.arguments if name not in known]
        if unknown and tool.parameters.get("additionalProperties") is False:
            return f"error: {call.name} has no parameter {', '.join(unknown)}; it takes: {', '.join(known)}"
        for name, value in call.arguments.items():
            wanted = known.get(name, {}).get("type")
            if isinstance(wanted, str) and not _is(value, wanted):
                return f"error: {name} of {call.name} must be of type {wanted}, not {value!r}"
        return ""

    def run(self, call: ToolCall) -> str:
        """The result of a call that has no problem, or what went wrong, in words for the model."""
        try:
            return self._offered[call.name].run(call.arguments)
        except EdgellmError as error:
            return f"error: {error}"
        except Exception as error:  # whatever a tool raises is the model's to know
            return f"error: {type(error).__name__}: {error}"


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _TYPES.get(wanted, (object,)))
