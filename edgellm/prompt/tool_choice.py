"""Which tools a model may or must call: OpenAI's `tool_choice`, as a name and as the JSON schema of the call.

Knows tools and JSON Schema; knows no template and no grammar engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.errors import UsageError
from edgellm.prompt.call_syntax import Known
from edgellm.prompt.tools import Tool, names

AUTO, NONE, REQUIRED = "auto", "none", "required"

#: "auto", "none", "required", a tool's name, or OpenAI's mapping for one.
ToolChoice = str | Mapping[str, Any]


def read(choice: ToolChoice, tools: Sequence[Tool]) -> str:
    """The choice as a word or a tool's name. Raises UsageError for one that these tools do not allow."""
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        choice = function.get("name", "") if isinstance(function, Mapping) else ""
    known = sorted(names(tools))
    if choice in (AUTO, NONE):
        return choice
    if not known:
        raise UsageError(f"tool_choice is {choice!r}, but there are no tools: give tools too")
    if choice != REQUIRED and choice not in known:
        raise UsageError(
            f"tool_choice cannot be {choice!r}; it is auto, none, required, or one of: {', '.join(known)}"
        )
    return choice


def schema(choice: str, known: Known, arguments: str) -> dict[str, Any]:
    """What a call must look like: of the tool named, or of any. `arguments` is the family's word for them."""
    chosen = sorted(known) if choice == REQUIRED else [choice]
    return {"anyOf": [_call(name, known[name], arguments, f"#/anyOf/{i}") for i, name in enumerate(chosen)]}


def _call(name: str, parameters: Mapping[str, Any], arguments: str, path: str) -> dict[str, Any]:
    given = {"type": "object", **_moved(parameters, f"{path}/properties/{arguments}")}
    return {
        "type": "object",
        "properties": {"name": {"const": name}, arguments: given},
        "required": ["name", arguments],
        "additionalProperties": False,
    }


def _moved(schema: Any, path: str) -> Any:
    """A copy of a schema that hangs under `path` now: what it refers to within itself has moved along."""
    if isinstance(schema, Mapping):
        moved = {key: _moved(value, path) for key, value in schema.items()}
        reference = moved.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            moved["$ref"] = path + reference[1:]
        return moved
    return [_moved(item, path) for item in schema] if isinstance(schema, list) else schema
