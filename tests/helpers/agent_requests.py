"""Requests as two coding agents send them: their fields, kinds of blocks and tools; the words are this project's own.

Codex: what `codex` 0.14x sends to a provider with `wire_api = "responses"` - the fields of
webai-at-home/webai-at-home#214, the messages of lmstudio-ai/lmstudio-bug-tracker#1576, tools of the kinds in
ggml-org/llama.cpp#20156 and #23041, `client_metadata` of justrach/codegraff2#92.
Claude Code: the system blocks of ggml-org/llama.cpp#20623, anthropics/claude-code#68900 and vllm-mlx#277; cache
marks, thinking and beta headers as the public API documents them.
"""

from __future__ import annotations

from typing import Any

_RULES = "\n".join(
    f"{n}. Read a file before you change it, and say in a line what you did." for n in range(1, 41)
)
_OBJECT = {"type": "object", "additionalProperties": False}


def _function(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {**_OBJECT, "properties": properties, "required": list(properties)[:1]}
    return {
        "type": "function",
        "name": name,
        "description": description,
        "strict": False,
        "parameters": parameters,
    }


def codex(*later: dict[str, Any], model: str, stream: bool = True) -> dict[str, Any]:
    """A turn of Codex; `later` are the items since the user's first words."""
    text = {"type": "string"}
    tools: list[dict[str, Any]] = [
        _function(
            "exec_command",
            "Runs a command in a terminal.",
            cmd=text,
            workdir=text,
            yield_time_ms={"type": "number"},
        ),
        _function(
            "write_stdin", "Writes to a terminal that runs.", session_id={"type": "number"}, chars=text
        ),
        _function("update_plan", "Updates the plan.", plan={"type": "array", "items": _OBJECT}),
        _function("get_weather", "The weather.", city=text),
        _function("add", "Adds.", a={"type": "number"}),
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits files. The input is a patch, no JSON.",
            "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" /.+/'},
        },
        {
            "type": "namespace",
            "name": "multi_agent_v1",
            "description": "Other agents.",
            "tools": [_function("spawn_agent", "Starts one.", task=text)],
        },
        {"type": "web_search", "external_web_access": False},
        {"type": "image_generation", "output_format": "png"},
    ]
    opening = [
        _said("developer", "<permissions instructions>The sandbox is read-only.</permissions instructions>"),
        _said(
            "user", "# AGENTS.md instructions for /home/me/project\n<INSTRUCTIONS>Be brief.</INSTRUCTIONS>"
        ),
        _said("user", "<environment_context>\n  <cwd>/home/me/project</cwd>\n</environment_context>"),
        _said("user", "What is the weather in Rome?"),
    ]
    return {
        "model": model,
        "instructions": f"You are a coding agent that runs in a terminal.\n{_RULES}",
        "input": [*opening, *later],
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": stream,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "00000000-0000-7000-8000-000000000000",
        "client_metadata": {"x-codex-installation-id": "00000000-0000-4000-8000-000000000000"},
    }


def _said(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


#: What Claude Code sends beside its key.
CLAUDE_CODE_HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,fine-grained-tool-streaming-2025-05-14",
    "user-agent": "claude-cli/2.1.177 (external, cli)",
    "x-app": "cli",
    "x-stainless-lang": "js",
}


def claude_code(*later: dict[str, Any], model: str, cch: str, stream: bool = True) -> dict[str, Any]:
    """A turn of Claude Code; `cch` is what it counts its requests with, `later` the messages since the first."""
    kept = {"cache_control": {"type": "ephemeral"}}
    text = {"type": "string"}

    def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
        schema = {
            **_OBJECT,
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": properties,
        }
        return {"name": name, "description": description, "input_schema": schema}

    return {
        "model": model,
        "max_tokens": 400,
        "system": [
            {
                "type": "text",
                "text": f"x-anthropic-billing-header: cc_version=2.1.177.{cch[:3]}; cc_entrypoint=cli; cch={cch};",
            },
            {"type": "text", "text": "You are a coding agent for the command line.", **kept},
            {"type": "text", "text": _RULES, **kept},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "text",
                        "text": "<system-reminder>\nThe list of things to do is empty.\n</system-reminder>",
                    },
                    {"type": "text", "text": "What is the weather in Rome?", **kept},
                ],
            },
            *later,
        ],
        "tools": [
            tool("Bash", "Runs a command.", command=text, timeout={"type": "number"}),
            tool("Edit", "Changes a file.", file_path=text, old_string=text, new_string=text),
            tool("get_weather", "The weather.", city=text, days={"type": "number"}),
            {**tool("add", "Adds."), **kept},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        ],
        "metadata": {"user_id": "user_0_account__session_0"},
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "temperature": 1,
        "stream": stream,
    }
