"""Lists of blocks, each with a type, as both protocols of agents write what is said. What is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from edgellm.prompt.tools import Tool
from edgellm.server.errors import RequestError

Block = Mapping[str, Any]


def listed(blocks: Any, place: str, kind: str = "text") -> Iterator[tuple[Block, str]]:
    """Blocks, each with its place; a text is one block of `kind`. Raises RequestError for anything else."""
    if isinstance(blocks, str):
        yield {"type": kind, "text": blocks}, place
        return
    if not isinstance(blocks, list):
        raise RequestError(f"{place} is neither text nor a list", param=place)
    for i, block in enumerate(blocks):
        at = f"{place}[{i}]"
        if not isinstance(block, Mapping):
            raise RequestError(f"{at} is no object", param=at)
        yield block, at


def field(block: Block, name: str, place: str) -> str:
    """A field that has to be text. Raises RequestError."""
    value = block.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{place}.{name} is no text", param=f"{place}.{name}")
    return value


def function_tool(name: str, description: str, parameters: Mapping[str, Any] | None, place: str) -> Tool:
    """A function as templates take it. Raises RequestError for one without a name."""
    if not name:
        raise RequestError(f"{place} needs a name", param=f"{place}.name")
    function = {"name": name, "description": description}
    return {
        "type": "function",
        "function": {**function, "parameters": parameters or {"type": "object", "properties": {}}},
    }


def refuse(block: Block, place: str) -> NoReturn:
    """Raise RequestError for a block that holds something to be seen or heard, or that nobody knows."""
    kind = f"{block.get('type')!r:.42}"
    raise RequestError(f"{place}: the type {kind} cannot be read here: send text alone", param=place)
