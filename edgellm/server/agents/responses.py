"""OpenAI's Responses requests, read: items in order, tools of known kinds; what would need a memory is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from edgellm.prompt.tools import Tool
from edgellm.server.agents.blocks import Block, field, function_tool, listed, refuse
from edgellm.server.agents.skipped import Lenient, Part
from edgellm.server.agents.turns import Turns
from edgellm.server.agents.volatile import stable
from edgellm.server.conversation import arguments_of
from edgellm.server.drawing import Share, Temperature
from edgellm.server.errors import RequestError
from edgellm.server.schema import MAX_ITEMS, Model, Text
from edgellm.serving.job import Job

_MEMORY = "answers are not kept here: send the whole conversation in input"
_LOGPROBS = "message.output_text.logprobs"


class ResponseTool(Part):
    """A tool; of those that are no functions none is known."""

    type: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=256)] = ""
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class TextFormat(Part):
    """The shape of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class TextConfig(Part):
    """How text is to be."""

    format: TextFormat | None = None


class Reasoning(Part):
    """Whether the model thinks; how hard is its own affair."""

    effort: Annotated[str, Field(max_length=64)] | None = None
    summary: Annotated[str, Field(max_length=64)] | None = None


class ResponsesRequest(Lenient):
    """What is to be answered."""

    IGNORED = frozenset(
        {
            "client_metadata",
            "context_management",
            "max_tool_calls",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "stream_options",
            "truncation",
            "user",
        }
    )

    model: Model = None
    input: Text | Annotated[list[dict[str, Any]], Field(max_length=MAX_ITEMS)] = ""
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=512)] | None = None
    tool_choice: Annotated[str, Field(max_length=256)] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = None
    metadata: dict[str, Any] | None = None
    stream: bool | None = None
    store: bool | None = None  # taken for false, which the response says
    background: bool | None = None
    previous_response_id: Annotated[str, Field(max_length=512)] | None = None
    conversation: Annotated[str, Field(max_length=512)] | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None

    def read(self) -> tuple[Job, list[str]]:
        """What an engine is asked, and what was passed over. Raises RequestError."""
        self._check_memory()
        reading = _Reading()
        if self.instructions:
            reading.turns.system(stable(self.instructions))
        for item, place in listed(self.input, "input", "message"):
            reading.item(item, place)
        reading.turns.check("input")
        choice, chosen = self._choice(reading.skipped)
        functions = self.functions(reading.skipped)
        wants_logprobs = self.top_logprobs is not None or _LOGPROBS in (self.include or ())
        job = Job(
            messages=tuple(reading.turns.messages),
            tools=tuple(tool for tool in functions if chosen is None or tool["function"]["name"] in chosen),
            tool_choice=choice,
            think=False if self.reasoning and self.reasoning.effort == "none" else None,
            settings=self._settings(),
            n_logprobs=(self.top_logprobs or 0) if wants_logprobs else None,
        )
        return job, [*self.unknown(), *reading.skipped]

    def functions(self, skipped: list[str]) -> list[Tool]:
        """The tools that are functions, as templates take them; the kinds of the others go to `skipped`."""
        found: list[Tool] = []
        for i, tool in enumerate(self.tools or ()):
            if tool.type != "function":
                skipped.append(tool.type)
                continue
            found.append(function_tool(tool.name, tool.description or "", tool.parameters, f"tools[{i}]"))
        return found

    def _check_memory(self) -> None:
        for name in ("previous_response_id", "conversation", "prompt"):
            if getattr(self, name):
                raise RequestError(
                    f"{name} cannot be used: {_MEMORY}", code="unsupported_parameter", param=name
                )
        if self.background:
            said = "background cannot be true: answers are given on the request's own connection"
            raise RequestError(said, code="unsupported_parameter", param="background")

    def _settings(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        form = self.text.format if self.text else None
        if form and form.type != "text":
            given["json_schema"] = form.schema_ if form.type == "json_schema" else {"type": "object"}
            if given["json_schema"] is None:
                raise RequestError(
                    "text.format of the type json_schema needs a schema", param="text.format.schema"
                )
        return {name: value for name, value in given.items() if value is not None}

    def _choice(self, skipped: list[str]) -> tuple[str, frozenset[str] | None]:
        """Which tools may or must be called, and which of them are left; None: all."""
        choice = self.tool_choice or "auto"
        if isinstance(choice, str):
            if choice not in ("auto", "none", "required"):
                said = f"tool_choice cannot be {choice[:40]!r}; it is auto, none, required, or an object"
                raise RequestError(said, param="tool_choice")
            return choice, None
        kind = choice.get("type")
        if kind == "function":
            return field(choice, "name", "tool_choice"), None
        if kind == "allowed_tools":
            tools = listed(choice.get("tools"), "tool_choice.tools")
            names = frozenset(str(tool.get("name")) for tool, _ in tools if tool.get("type") == "function")
            return ("required" if choice.get("mode") == "required" else "auto"), names
        skipped.append(f"tool_choice.{kind}")
        return "auto", None


class _Reading:
    """Turns, as items are read."""

    def __init__(self) -> None:
        self.turns, self.skipped = Turns(), list[str]()

    def item(self, item: Block, place: str) -> None:
        kind = item.get("type") or "message"
        known: dict[str, Callable[[Block, str], None]] = {
            "message": self._message,
            "reasoning": self._reasoning,
            "function_call": self._call,
            "custom_tool_call": self._custom_call,
            "function_call_output": self._output,
            "custom_tool_call_output": self._output,
        }
        if not isinstance(kind, str):
            refuse(item, place)
        if kind == "item_reference":
            raise RequestError(f"{place} refers to an item that was given before: {_MEMORY}", param=place)
        if kind in known:
            known[kind](item, place)
        else:
            self.skipped.append(kind)

    def _message(self, item: Block, place: str) -> None:
        say = {
            "user": self.turns.user,
            "assistant": self.turns.said,
            "system": self.turns.system,
            "developer": self.turns.system,
        }.get(str(item.get("role", "user")))
        if say is None:
            raise RequestError(
                f"{place}.role is none of user, assistant, system, developer", param=f"{place}.role"
            )
        content = item.get("content") if "content" in item else item.get("text")
        for text in _texts(content, f"{place}.content"):
            say(stable(text) if say == self.turns.system else text)

    def _reasoning(self, item: Block, place: str) -> None:
        """What was thought, where it can be read; a summary stands for it where there is no more."""
        for name, kind in (("content", "reasoning_text"), ("summary", "summary_text")):
            parts = [
                part
                for part, _ in listed(item.get(name) or [], f"{place}.{name}")
                if part.get("type") == kind
            ]
            if parts:
                self.turns.thought("\n\n".join(field(part, "text", f"{place}.{name}") for part in parts))
                return

    def _call(self, item: Block, place: str) -> None:
        arguments = arguments_of(field(item, "arguments", place))
        self.turns.called(field(item, "call_id", place), field(item, "name", place), arguments)

    def _custom_call(self, item: Block, place: str) -> None:
        """A tool that takes plain text, which another model called."""
        given = {"input": field(item, "input", place)}
        self.turns.called(field(item, "call_id", place), field(item, "name", place), given)

    def _output(self, item: Block, place: str) -> None:
        texts = _texts(item.get("output"), f"{place}.output")
        self.turns.result(field(item, "call_id", place), "\n".join(texts))


def _texts(content: Any, place: str) -> Iterator[str]:
    """The texts of a message's or an output's parts."""
    for part, at in listed(content, place):
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text"):
            yield field(part, "text", at)
        elif kind == "refusal":
            yield field(part, "refusal", at)
        else:
            refuse(part, at)


def told(functions: Sequence[Tool]) -> list[dict[str, Any]]:
    """Functions as a response names them."""
    return [{"type": "function", "strict": False, **tool["function"]} for tool in functions]
