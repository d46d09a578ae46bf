"""Messages and tools as OpenAI's clients send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from edgellm.prompt.tools import Tool
from edgellm.server.errors import RequestError
from edgellm.server.schema import Name, Strict, Text, with_ignored
from edgellm.serving.job import Job

#: Words of `reasoning_effort`; how hard a model thinks is its own affair, whether it does can be said.
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def _content(value: Any) -> Any:
    """Text, or a list of parts of text, as one text."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "refusal"):
            known = isinstance(kind, str) and len(kind) < 40
            what = f"a part of the type {kind!r}" if known else "a part that is no text"
            raise ValueError(
                f"{what} is not supported: images, sound and files are not read here, text alone"
            )
        text = part.get(kind)
        if not isinstance(text, str):
            raise ValueError(f"a part of the type {kind!r} needs a string {kind!r}")
        texts.append(text)
    return "".join(texts)


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
Content = Annotated[
    Text,
    BeforeValidator(_content),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}),
]


def arguments_of(text: str) -> dict[str, Any]:
    """A call's arguments from their JSON text; what a model wrote that is no JSON object is told as it is.

    Such a call comes back from a client whose answer was cut or malformed: refused, it would end the conversation.
    """
    try:
        found = pydantic_core.from_json(text or "{}", allow_inf_nan=False)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"malformed": text}


class CalledFunction(Strict):
    """The function of a call that an answer made."""

    name: Name
    arguments: Annotated[
        Text, AfterValidator(lambda text: json.dumps(arguments_of(text), ensure_ascii=False))
    ] = ""


class Call(Strict):
    """A call that an answer made, in a conversation sent back."""

    IGNORED = frozenset({"index"})

    id: Annotated[str, Field(max_length=512)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


def _content_but_for_answers(schema: dict[str, Any], model: type[Strict]) -> None:
    """Say that answers alone may have no content."""
    with_ignored(schema, model)
    is_answer = {"properties": {"role": {"const": "assistant"}}}
    has_content = {"required": ["content"], "properties": {"content": {"not": {"type": "null"}}}}
    schema["anyOf"] = [is_answer, has_content]


class ChatMessage(Strict):
    """One message."""

    model_config = ConfigDict(json_schema_extra=_content_but_for_answers)

    IGNORED = frozenset(
        {"name", "refusal", "annotations", "audio", "function_call", "id", "timestamp", "reasoning_details"}
    )

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    reasoning_content: Text | None = None
    tool_calls: Annotated[list[Call], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=512)] | None = None


class Function(Strict):
    """A function that may be called."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:/-]{1,256}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    """A tool; of other types than functions none is known."""

    IGNORED = frozenset({"cache_control"})

    type: Literal["function"]
    function: Function

    def told(self) -> Tool:
        """As templates take it."""
        function = self.function.model_dump(exclude={"strict"}, exclude_none=True)
        function.setdefault("parameters", {"type": "object", "properties": {}})
        return {"type": "function", "function": function}


class NamedFunction(Strict):
    """Which function."""

    name: Name


class NamedTool(Strict):
    """The one tool that has to be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


def _chosen(value: Any) -> Any:
    """OpenAI's `tool_choice` as a word, or the name of a tool."""
    if isinstance(value, Mapping):
        return NamedTool.model_validate(value).function.name
    if isinstance(value, str) and value not in ("auto", "none", "required"):
        raise ValueError("give auto, none, required, or a tool as an object")
    return value


_NAMED = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 512}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["function"],
    "additionalProperties": False,
}
Choice = Annotated[
    str,
    BeforeValidator(_chosen),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "none", "required"]}, _NAMED]}),
]


class TemplateKwargs(Strict):
    """What of a chat template may be set."""

    enable_thinking: bool | None = None


class Conversation(Strict):
    """Messages, and what the model is told with them."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    tools: Annotated[list[FunctionTool], Field(max_length=512)] | None = None
    tool_choice: Choice | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateKwargs | None = None

    def job(self, **more: Any) -> Job:
        """What an engine is asked. Raises RequestError."""
        for i, message in enumerate(self.messages):
            if message.content is None and message.role != "assistant":
                raise RequestError(f"messages[{i}] has no content", param=f"messages[{i}].content")
        return Job(
            messages=tuple({"content": "", **one.model_dump(exclude_none=True)} for one in self.messages),
            tools=tuple(tool.told() for tool in self.tools or ()),
            tool_choice=self.tool_choice or "auto",
            think=self._think(),
            **more,
        )

    def _think(self) -> bool | None:
        said = self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs else None
        if said is None and self.reasoning_effort is not None:
            return False if self.reasoning_effort == "none" else None
        return said
