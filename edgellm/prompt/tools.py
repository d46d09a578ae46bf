"""Tool calls as the two families write them, turned into structured calls.

Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once for each call. Llama 3: the answer is JSON,
`{"name": ..., "parameters": {...}}`, or follows `<|python_tag|>`: JSON, `name.call(key=value)`, or Python code for
a tool called `python`; several are separated by `;`. What a model writes is a stranger's text: anything that is
no call is None, never an exception. Knows no engine, no template and no stream; see markup.py for the stream.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edgellm.errors import UsageError

Tool = Mapping[
    str, Any
]  # {"type": "function", "function": {"name", "description", "parameters": JSON schema}}

_ARGUMENTS = ("arguments", "parameters")  # Qwen's word and Llama's; models mix them up
_CODE_TOOLS = ("python", "ipython", "code_interpreter")  # what Llama 3 writes code for, bare, after its tag
_SEPARATORS = re.compile(r"[\s;,]*")
_BUILTIN = re.compile(r"([A-Za-z_]\w*)\.call\(.*\)", re.DOTALL)


def _new_id() -> str:
    return f"call_{secrets.token_hex(8)}"


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for. Its name and arguments are the model's word: check them before acting."""

    name: str
    arguments: dict[str, Any]
    id: str = field(default_factory=_new_id)

    def as_message_part(self) -> dict[str, Any]:
        """The call as templates and the peers' APIs spell it, the arguments as an object."""
        return {
            "type": "function",
            "id": self.id,
            "function": {"name": self.name, "arguments": self.arguments},
        }

    def arguments_json(self) -> str:
        """The arguments as JSON text; for half a surrogate pair, which no encoding has, U+FFFD stands in it."""
        text = json.dumps(self.arguments, ensure_ascii=False)
        return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def names(tools: Sequence[Tool]) -> frozenset[str]:
    """The tools' names. Raises UsageError for a tool that is not in the form `Tool` shows."""
    found = []
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not name:
            raise UsageError(
                f"a tool must be {{'type': 'function', 'function': {{'name': ..., ...}}}}, not {str(tool)[:60]!r}"
            )
        found.append(name)
    return frozenset(found)


def parse_block(text: str) -> ToolCall | None:
    """The call in the text between Qwen's tags."""
    try:
        return _call(_loads(text))
    except ValueError:
        return None


def parse_answer(text: str, known: frozenset[str]) -> tuple[ToolCall, ...]:
    """The calls a whole Llama 3 answer consists of, `<|python_tag|>` taken off; none when it is anything else.

    JSON is a common answer, too: only calls of tools in `known` count.
    """
    calls = _json_calls(text) or _builtin_call(text)
    return calls if all(call.name in known for call in calls) else ()


def parse_code(text: str, known: frozenset[str]) -> ToolCall | None:
    """Code after `<|python_tag|>`, as a call of the tool that runs it, where there is one."""
    name = next((name for name in _CODE_TOOLS if name in known), None)
    return ToolCall(name, {"code": text}) if name and text.strip() else None


def _json_calls(text: str) -> tuple[ToolCall, ...]:
    """JSON objects one after the other, or one list of them; all must be calls."""
    decoder, found, at = json.JSONDecoder(parse_constant=_refuse), [], _SEPARATORS.match(text).end()  # type: ignore[union-attr]
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            found += value if isinstance(value, list) else [value]
            at = _SEPARATORS.match(text, at).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return ()
    calls = tuple(_call(value) for value in found)
    return tuple(call for call in calls if call) if all(calls) else ()


def _builtin_call(text: str) -> tuple[ToolCall, ...]:
    """`brave_search.call(query="...")`: keyword arguments that are literals."""
    found = _BUILTIN.fullmatch(text.strip())
    if not found:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\\d" in a string is the model's business
            tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args:
            return ()
        arguments: dict[str, Any] = {
            word.arg: ast.literal_eval(word.value) for word in tree.keywords if word.arg
        }
        json.dumps(arguments, allow_nan=False)  # a set or bytes is a literal, but nothing a template can show
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ()
    return (ToolCall(found[1], arguments),) if len(arguments) == len(tree.keywords) else ()


def _call(value: Any) -> ToolCall | None:
    """A call from decoded JSON: a name, and arguments that are an object (or spelt as a string that holds one)."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = value.get("name")
    arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), {})
    if isinstance(arguments, str):
        try:
            arguments = _loads(arguments)
        except ValueError:
            return None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, arguments)


def _loads(text: str) -> Any:
    """Strict JSON: no NaN. Raises ValueError for what is too deep, too."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
