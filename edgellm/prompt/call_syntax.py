"""Tool calls as models write them outside their template's tags, found where they begin in an answer.

Besides `<tool_call>{JSON}</tool_call>` (see tools.py) models trained or talked into other habits write
- bare JSON, `{"name": ..., "arguments": ...}`, or a list of it, at the beginning of a line (Llama 3.1, small Qwens),
- the same in a fence of three backticks (Qwen2.5-Coder),
- `<function=NAME><parameter=KEY>value</parameter></function>`, in the tags or without (Qwen3-Coder), or with JSON
  inside (Llama 3.1's custom tools),
- `[name(key=value), ...]` (Llama 3.2).
Only calls of tools that were given count: all of these are texts that an answer may hold, too. Knows no stream.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.prompt import tools
from edgellm.prompt.tools import ToolCall

FUNCTION, FUNCTION_END, FENCE = "<function=", "</function>", "```"
#: What a call found by `look` may begin with.
OPENERS = (FUNCTION, FENCE, "{", "[")

Known = Mapping[str, Mapping[str, Any]]  # tools by name: the JSON schema of their parameters

_KEYS = (
    "name",
    "type",
    "function",
    "arguments",
    "parameters",
    "id",
)  # a call's JSON begins with one of these
_LANGUAGES = ("", "json", "xml", "tool_call", "tool_code", "python")
_MOST = 65_536  # characters of a call; what is longer is text
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_AFTER = re.compile(r"[ \t]*(?:\Z|[\n;,`\]])")  # a call in the midst of a sentence is talked about

#: How many characters are settled, and the calls they are; none where they are text.
Found = tuple[int, tuple[ToolCall, ...]]


def look(text: str, known: Known, *, final: bool) -> Found | None:
    """What the beginning of `text`, one of `OPENERS`, is; None where that depends on what follows.

    `final`: nothing does.
    """
    kind = _fenced if text.startswith(FENCE) else _function if text.startswith("<") else _bare
    found = kind(text, known, final) if len(text) <= _MOST else (1, ())
    return found or ((1, ()) if final else None)


def parse(text: str, known: Known) -> tuple[ToolCall, ...]:
    """The calls that a whole text consists of, in whatever form; none where it is anything else."""
    calls = tools.parse_answer(text, frozenset(known)) or _functions(text, known) or _pythonic(text)
    return calls if all(call.name in known for call in calls) else ()


def parse_block(text: str, known: Known) -> tuple[ToolCall, ...]:
    """The calls between `<tool_call>` tags; of any name, for the model means to call."""
    call = tools.parse_block(text)
    return (call,) if call else _functions(text, known)


def _bare(text: str, known: Known, final: bool) -> Found | None:
    if not _promising(text, known):
        return 1, ()
    for end in _ends(text):
        calls = parse(text[:end], known)
        if calls and not _AFTER.match(text, end):
            return 1, ()
        if calls:
            return (end, calls) if final or text[end:].strip() else None
    return None


def _ends(text: str) -> list[int]:
    """Where JSON or a list of calls that begins with `text` may be complete."""
    try:
        return [json.JSONDecoder().raw_decode(text)[1]]
    except (ValueError, RecursionError):
        last = text.rfind("]")
        return (
            [last + 1] if text[0] == "[" and last > 0 and text[last - 1].rstrip().endswith((")", "(")) else []
        )


def _promising(text: str, known: Known) -> bool:
    """Whether a text that begins with a bracket may still become a call."""
    rest = text[1:].lstrip()
    if not rest:
        return True
    if text[0] == "[" and rest[0] == "{":
        return _promising(rest, known)
    if text[0] == "{":
        key, closed, _ = rest[1:].partition('"')
        return rest[0] == '"' and (key in _KEYS if closed else any(one.startswith(key) for one in _KEYS))
    found = _NAME.match(rest)
    name = found[0] if found else ""
    if name == rest:
        return any(one.startswith(name) for one in known)
    return name in known and rest[len(name) :].lstrip()[:1] in ("(", "")


def _fenced(text: str, known: Known, final: bool) -> Found | None:
    head, line, body = text[len(FENCE) :].partition("\n")
    if head.strip() not in _LANGUAGES:
        settled = line or not any(one.startswith(head.strip()) for one in _LANGUAGES)
        return (len(FENCE), ()) if settled else None
    start = body.lstrip()
    if not start:
        return None
    if start[0] not in "{[<" or (start[0] != "<" and not _promising(start, known)):
        return len(FENCE), ()
    inside, closed, _ = body.partition("\n" + FENCE)
    if not closed and not final:
        return None
    n = len(text) - len(body) + len(inside) + len(closed)
    block = inside.strip().removeprefix("<tool_call>").removesuffix("</tool_call>")
    return n, parse(block, known)


def _function(text: str, known: Known, final: bool) -> Found | None:
    name, closed, _ = text[len(FUNCTION) :].partition(">")
    if name not in known if closed else not any(one.startswith(name) for one in known):
        return len(FUNCTION), ()
    end = text.find(FUNCTION_END)
    if end < 0 and not final:
        return None
    n = end + len(FUNCTION_END) if end >= 0 else len(text)
    calls = _functions(text[:n], known)
    return (n, calls) if calls else (len(FUNCTION), ())


def _functions(text: str, known: Known) -> tuple[ToolCall, ...]:
    """`<function=NAME>...</function>`, once or more often, and nothing else."""
    calls = []
    for block in filter(str.strip, text.split(FUNCTION_END)):
        head, closed, body = block.strip().partition(">")
        name = head.removeprefix(FUNCTION)
        if not closed or name == head or not name:
            return ()
        arguments = _arguments(body, known.get(name, {}))
        if arguments is None:
            return ()
        calls.append(ToolCall(name, arguments))
    return tuple(calls)


def _arguments(body: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if body.strip().startswith("{"):
        call = tools.parse_block(json.dumps({"name": "x", "arguments": body}))
        return call.arguments if call else None
    if _PARAMETER.sub("", body).strip():
        return None
    properties = schema.get("properties", {})
    return {key: coerced(value, properties.get(key, {})) for key, value in _PARAMETER.findall(body)}


def coerced(text: str, schema: Any) -> Any:
    """An XML parameter's text as a value of the type its schema asks for; as it is where it is none."""
    text = text.removeprefix("\n").removesuffix("\n")
    kinds = _types(schema)
    if "string" in kinds and not (text.strip() == "null" and "null" in kinds):
        return text
    lowered = text.strip().lower()
    try:
        value = json.loads(lowered if lowered in ("true", "false", "null") else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, float) and value.is_integer() and "integer" in kinds and "number" not in kinds:
        value = int(value)
    return value


def _types(schema: Any) -> frozenset[str]:
    """The JSON types a schema names; none where it names none."""
    if not isinstance(schema, Mapping):
        return frozenset()
    named = schema.get("type", ())
    found = {named} if isinstance(named, str) else set(named)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found |= _types(branch)
    return frozenset(found | {"string" for value in schema.get("enum", ()) if isinstance(value, str)})


def _pythonic(text: str) -> tuple[ToolCall, ...]:
    """`[name(key=value), ...]`, where all values are literals that JSON knows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else []
        found = tuple(filter(None, map(_python_call, calls)))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ()
    return found if len(found) == len(calls) else ()


def _python_call(node: ast.expr) -> ToolCall | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
    json.dumps(arguments, allow_nan=False)  # a set or bytes is a literal, but nothing a template can show
    return ToolCall(ast.unparse(node.func), arguments) if len(arguments) == len(node.keywords) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def known_tools(given: Sequence[tools.Tool]) -> dict[str, Mapping[str, Any]]:
    """The tools by name, with their parameters' schemas. Raises UsageError for one in another form."""
    tools.names(given)
    functions = [tool.get("function", tool) for tool in given]
    return {function["name"]: function.get("parameters") or {} for function in functions}
