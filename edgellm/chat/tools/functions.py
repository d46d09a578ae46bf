"""A Python file's functions as tools: type hints make the JSON schema, docstrings the descriptions.

    def add(a: int, b: int = 1) -> int:
        \"\"\"Add two numbers.

        Args:
            a: The first.
        \"\"\"

Public functions that the file itself defines are offered. Knows Python; knows no model.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgellm.chat import words
from edgellm.chat.tools.toolbox import Offered
from edgellm.errors import UsageError

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ARGUMENT = re.compile(r"\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.+)")
_SECTION = re.compile(r"\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Note)s?:\s*$")


def load(path: Path) -> list[Offered]:
    """The tools of a file, which is run. Raises UsageError for one that fails, or offers nothing."""
    name = f"edgellm_tool_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(words.say("tool_no_file", path=path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where get_type_hints looks names up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            words.say("tool_fails", path=path, why=f"{type(error).__name__}: {error}")
        ) from error
    found = [
        offered(function)
        for function in vars(module).values()
        if inspect.isfunction(function) and function.__module__ == name and function.__name__[0] != "_"
    ]
    if not found:
        raise UsageError(words.say("tool_none", path=path))
    return found


def offered(function: Callable[..., Any]) -> Offered:
    """A function as a tool. Raises UsageError for parameters without a type hint, or of a type that JSON has not."""
    about, of_arguments = _documented(inspect.getdoc(function) or "")
    hints = typing.get_type_hints(function, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in inspect.signature(function).parameters.items():
        where = f"{function.__name__}({name})"
        if name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UsageError(words.say("tool_no_hint", where=where))
        properties[name] = _schema(hints[name], where)
        if name in of_arguments:
            properties[name].setdefault("description", of_arguments[name])
        if parameter.default is parameter.empty:
            required.append(name)
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }

    def run(arguments: dict[str, Any]) -> str:
        result = function(**arguments)
        result = asyncio.run(result) if inspect.iscoroutine(result) else result
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)

    return Offered(function.__name__, about, parameters, run)


def _documented(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's first part, and what its `Args:` say of each argument."""
    about: list[str] = []
    arguments: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
        elif not section:
            about.append(line.strip())
        elif section in ("Args", "Arguments", "Parameters") and (named := _ARGUMENT.match(line)):
            arguments[named[1]] = named[2].strip()
    return " ".join(filter(None, about)), arguments


def _schema(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of a type. Raises UsageError."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        said = [text for text in inner[1:] if isinstance(text, str)]
        return _schema(inner[0], where) | ({"description": said[0]} if said else {})
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Any:
        return {}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (typing.Union, types.UnionType):
        kinds = [_schema(kind, where) for kind in inner if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if hint is list or origin is list:
        return {"type": "array", **({"items": _schema(inner[0], where)} if inner else {})}
    if hint is dict or origin is dict:
        return {"type": "object"}
    raise UsageError(words.say("tool_type", where=where, type=getattr(hint, "__name__", hint)))
