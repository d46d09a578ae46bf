"""Anthropic's requests, read: system prompts and messages in blocks, tools with an `input_schema`, thinking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from edgellm.prompt.tools import Tool
from edgellm.server.agents.blocks import Block, field, function_tool, listed, refuse
from edgellm.server.agents.skipped import Lenient, Part
from edgellm.server.agents.turns import Turns
from edgellm.server.agents.volatile import stable
from edgellm.server.drawing import Share, Temperature
from edgellm.server.errors import RequestError
from edgellm.server.schema import MAX_ITEMS, Model, Name, Text
from edgellm.serving.job import Job

Blocks = Text | Annotated[list[dict[str, Any]], Field(max_length=MAX_ITEMS)]


class AnthropicMessage(Part):
    """What one side says."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


class AnthropicTool(Part):
    """A tool. One with a `type` other than custom is Anthropic's own, which nobody here knows how to call."""

    type: str | None = None
    name: Annotated[str, Field(max_length=256)] = ""
    description: Text = ""
    input_schema: dict[str, Any] | None = None


class AnthropicChoice(Part):
    """Whether a tool is called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Part):
    """Whether the model thinks first; its budget is not kept."""

    type: Annotated[str, Field(max_length=64)]


class OutputFormat(Part):
    """The shape of an answer."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Part):
    """How to answer."""

    format: OutputFormat | None = None


class Counted(Lenient):
    """A conversation whose tokens are to be counted."""

    IGNORED = frozenset(
        {
            "metadata",
            "cache_control",
            "container",
            "context_management",
            "diagnostics",
            "inference_geo",
            "service_tier",
            "speed",
            "betas",
            "user_profile_id",
            "workspace_id",
        }
    )

    model: Model = None
    messages: Annotated[list[AnthropicMessage], Field(min_length=1, max_length=100_000)]
    system: Blocks | None = None
    tools: Annotated[list[AnthropicTool], Field(max_length=512)] | None = None
    tool_choice: AnthropicChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # its older place

    def read(self) -> tuple[Job, list[str]]:
        """What an engine is asked, and what was passed over. Raises RequestError for what no model here can read."""
        reading = _Reading()
        reading.system(self.system or "")
        for i, message in enumerate(self.messages):
            reading.message(message, f"messages[{i}]")
        reading.turns.check("messages")
        job = Job(
            messages=tuple(reading.turns.messages),
            tools=tuple(reading.tools(self.tools or ())),
            tool_choice=self._choice(),
            think={"enabled": True, "disabled": False}.get(self.thinking.type) if self.thinking else None,
            settings=self.settings(),
        )
        return job, [*self.unknown(), *reading.skipped]

    def settings(self) -> dict[str, Any]:
        """How the answer is drawn, by the names of api.settings.Settings."""
        form = (self.output_config.format if self.output_config else None) or self.output_format
        return {"json_schema": form.schema_} if form else {}

    def _choice(self) -> str:
        if self.tool_choice is None:
            return "auto"
        if self.tool_choice.type != "tool":
            return {"any": "required"}.get(self.tool_choice.type, self.tool_choice.type)
        if self.tool_choice.name is None:
            raise RequestError("tool_choice of the type tool needs a name", param="tool_choice.name")
        return self.tool_choice.name


class MessagesRequest(Counted):
    """A conversation that is to be answered."""

    max_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=64)] | None
    ) = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    @property
    def one_call(self) -> bool:
        """Whether of several calls the first alone is wanted."""
        return self.tool_choice is not None and self.tool_choice.disable_parallel_tool_use

    def settings(self) -> dict[str, Any]:
        """How the answer is drawn, by the names of api.settings.Settings."""
        names = ("max_tokens", "temperature", "top_p", "top_k")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**super().settings(), **given, "stop": self.stop_sequences or ()}


class _Reading:
    """Turns, as blocks are read."""

    def __init__(self) -> None:
        self.turns, self.skipped = Turns(), list[str]()

    def system(self, blocks: str | list[dict[str, Any]], place: str = "system") -> None:
        for block, at in listed(blocks, place):
            if block.get("type") != "text":
                refuse(block, at)
            self.turns.system(stable(field(block, "text", at)))

    def message(self, message: AnthropicMessage, place: str) -> None:
        if message.role == "system":
            self.system(message.content, f"{place}.content")
            return
        for block, at in listed(message.content, f"{place}.content"):
            self._block(block, message.role == "user", at)

    def _block(self, block: Block, of_user: bool, place: str) -> None:
        kind = block.get("type")
        if kind == "text":
            (self.turns.user if of_user else self.turns.said)(field(block, "text", place))
        elif kind == "tool_result" and of_user:
            parts = listed(block.get("content") or "", f"{place}.content")
            texts = [
                field(part, "text", at) if part.get("type") == "text" else refuse(part, at)
                for part, at in parts
            ]
            self.turns.result(field(block, "tool_use_id", place), "\n".join(texts))
        elif kind == "thinking" and not of_user:
            self.turns.thought(field(block, "thinking", place))
        elif kind == "tool_use" and not of_user:
            given = block.get("input")
            if not isinstance(given, dict):
                raise RequestError(f"{place}.input is no object", param=f"{place}.input")
            self.turns.called(field(block, "id", place), field(block, "name", place), given)
        elif isinstance(kind, str) and _of_servers(kind):
            self.skipped.append(kind)
        else:
            refuse(block, place)

    def tools(self, tools: Sequence[AnthropicTool]) -> Iterator[Tool]:
        for i, tool in enumerate(tools):
            if tool.type not in (None, "custom"):
                self.skipped.append(tool.type or "")
                continue
            yield function_tool(tool.name, tool.description, tool.input_schema, f"tools[{i}]")


def _of_servers(kind: str) -> bool:
    """Blocks of tools that Anthropic's servers ran in an earlier turn, and thinking that only they can read."""
    return kind in ("server_tool_use", "redacted_thinking", "tool_reference") or (
        kind.endswith("_tool_result") and kind != "tool_result"
    )
