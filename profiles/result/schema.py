"""The JSON Schema of a result, made from its dataclasses: types from the hints, words from the comments.

    python -m edgellm.profiles.result.schema > docs/profile.schema.json

A test holds the published file to the classes. Knows the vocabulary of JSON Schema 2020-12, and what
`result.to_json` adds to the bare fields.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import sys
import tokenize
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.result import SCHEMA, Measurement, Report
from edgellm.stats import Summary

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: dict[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}

#: Derived values that are written beside the fields and left out again on reading.
DERIVED: dict[type, dict[str, Any]] = {
    Measurement: {"summary": Summary | None},
    Caveat: {"fact": str, "advice": str},
}


def schema() -> Json:
    """The schema of what `result.to_json` writes."""
    definitions: dict[str, Json] = {}
    _reference(Report, definitions)
    report = definitions.pop("Report")
    report["properties"]["schema"] = {"const": SCHEMA}
    del report["properties"]["unknown"]  # they stand in their own places
    return {
        "$schema": DIALECT,
        "$id": f"urn:{SCHEMA.replace('/', ':').replace('.', ':')}",
        "title": f"A result of edgellm, {SCHEMA}",
        **report,
        "$defs": dict(sorted(definitions.items())),
    }


def _reference(kind: type, definitions: dict[str, Json]) -> Json:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # taken, should a class hold itself
        definitions[kind.__name__] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _object(kind: type, definitions: dict[str, Json]) -> Json:
    hints, words = typing.get_type_hints(kind), _comments(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    properties = {name: _of(hints[name], definitions) | words.get(name, {}) for name in fields}
    derived = {name: _of(hint, definitions) for name, hint in DERIVED.get(kind, {}).items()}
    return {
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "type": "object",
        "properties": properties | derived,
        "required": [name for name, f in fields.items() if f.default is f.default_factory],
    }


def _of(hint: Any, definitions: dict[str, Json]) -> Json:
    if hint in _SIMPLE:
        return dict(_SIMPLE[hint])
    if dataclasses.is_dataclass(hint):
        return _reference(typing.cast(type, hint), definitions)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union([_of(each, definitions) for each in arguments])
    if origin in (tuple, frozenset):
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    raise TypeError(f"no JSON Schema for {hint}")


def _union(options: list[Json]) -> Json:
    """Plain types share one `type`; anything else is any of its options."""
    if all(set(option) == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


@cache
def _comments(kind: type) -> dict[str, Json]:
    """Field -> what the comment on its line says."""
    source = inspect.cleandoc("\n" + inspect.getsource(kind))
    by_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    return {
        node.target.id: {"description": by_line[line]}
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if line in by_line
    }


def text() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
