"""JSON schemas made ready for llguidance: what it reads otherwise than the standard, and errors one can act upon.

`oneOf` becomes `anyOf` where the alternatives are disjoint, so that both mean the same; dates become patterns of
days that exist. Knows JSON Schema (2020-12) and no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Schema = Mapping[str, Any] | bool

_DEPTH = 16  # $refs and properties deep; what is further down is not compared
_VALUES = ("const", "default", "enum", "examples")  # what hangs under these keys is no schema
_FOUR = "(0[48]|[2468][048]|[13579][26])"  # multiples of four, but for 00
_DAY = (
    "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    f"02-(0[1-9]|1[0-9]|2[0-8]))|([1-9][0-9]{_FOUR}|([2468][048]|[13579][26])00)-02-29)"
)
_HOUR = "([01][0-9]|2[0-3])"
#: RFC 3339, from the year 1000: what `datetime` of every language reads.
DAYS = {
    "date": f"^{_DAY}$",
    "date-time": f"^{_DAY}T{_HOUR}(:[0-5][0-9]){{2}}(\\.[0-9]{{1,6}})?(Z|[+-]{_HOUR}:[0-5][0-9])$",
}
#: What llguidance says of a schema, and what to do about it.
_REMEDIES = (
    (r"Unimplemented keys", "leave them out of the schema and check the answer for them afterwards"),
    (r"Unknown format", "leave the format out, or give a pattern in its place"),
    (r"look-around", "write the pattern without (?=...), (?!...), (?<=...) and (?<!...)"),
    (r"not present in a registry", "put the definition into $defs, and refer to it there"),
    (r"Unsatisfiable schema", "no answer could follow it: change what contradicts itself"),
)


def prepared(schema: Schema) -> Any:
    """A copy of a schema as llguidance should read it."""
    return _prepared(schema, schema)


def explained(error: str, schema: Schema) -> str:
    """llguidance's error, one line, with what the user can change."""
    error = " ".join(error.split())
    if "oneOf" in error and (found := next(_overlaps(schema, schema, "#"), None)):
        path, first, second = found
        return (
            f"a value may be valid by alternatives {first} and {second} of {path}, as far as can be told; tell "
            "them apart by type, or by a required property with different const values, or use anyOf"
        )
    return error + next((f"; {hint}" for pattern, hint in _REMEDIES if re.search(pattern, error)), "")


def _prepared(schema: Any, root: Schema) -> Any:
    if isinstance(schema, list):
        return [_prepared(item, root) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {key: value if key in _VALUES else _prepared(value, root) for key, value in schema.items()}
    pattern = DAYS.get(copy["format"]) if isinstance(copy.get("format"), str) else None
    if pattern and "pattern" not in copy:
        del copy["format"]
        copy["pattern"] = pattern
    several = copy.get("oneOf")
    if isinstance(several, list) and "anyOf" not in copy and not any(_overlapping(schema["oneOf"], root)):
        del copy["oneOf"]
        copy["anyOf"] = several
    return copy


def _overlaps(schema: Any, root: Schema, path: str) -> Iterator[tuple[str, int, int]]:
    """Every `oneOf` with two alternatives that were not found to be disjoint: its path, their numbers."""
    items = (
        schema.items()
        if isinstance(schema, Mapping)
        else enumerate(schema)
        if isinstance(schema, list)
        else ()
    )
    for key, value in items:
        here = f"{path}/{key}"
        if key == "oneOf" and isinstance(value, list):
            yield from ((here, i, j) for i, j in _overlapping(value, root))
        if key not in _VALUES:
            yield from _overlaps(value, root, here)


def _overlapping(alternatives: list[Schema], root: Schema) -> Iterator[tuple[int, int]]:
    """The numbers of those that are not certain to be disjoint."""
    for (i, a), (j, b) in combinations(enumerate(alternatives, 1), 2):
        try:
            apart = disjoint(a, b, root)
        except (
            TypeError,
            ValueError,
            AttributeError,
        ):  # keywords with values that are none; llguidance says so
            apart = False
        if not apart:
            yield i, j


def disjoint(one: Schema, other: Schema, root: Schema, depth: int = _DEPTH) -> bool:
    """Whether it is certain that no value is valid by both."""
    if one is False or other is False:
        return True
    if depth == 0 or not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    for a, b in ((one, other), (other, one)):
        for key in ("anyOf", "oneOf"):
            branches = a.get(key)
            if branches and all(disjoint(branch, b, root, depth - 1) for branch in branches):
                return True
        if any(disjoint(part, b, root, depth - 1) for part in _parts(a, root)):
            return True
    return _apart(one, other, root, depth)


def _parts(schema: Mapping[str, Any], root: Schema) -> Iterator[Schema]:
    """What must hold beside the schema's own keywords."""
    yield from schema.get("allOf", ())
    found: Any = root
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        for name in reference[1:].split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping | bool):
            yield found


def _apart(one: Mapping[str, Any], other: Mapping[str, Any], root: Schema, depth: int) -> bool:
    """Whether their own keywords exclude each other, for every type that both allow."""
    listed, others = _listed(one), _listed(other)
    if listed is not None and others is not None:
        return not any(a == b for a in listed for b in others)
    for values, schema in ((listed, other), (others, one)):
        if values is not None and all(_refuses(schema, value) for value in values):
            return True
    ranges: dict[str, Callable[[Mapping[str, Any]], tuple[float, float]]] = {
        "number": _numbers,
        "string": lambda s: (s.get("minLength", 0), s.get("maxLength", float("inf"))),
        "array": lambda s: (s.get("minItems", 0), s.get("maxItems", float("inf"))),
    }
    for kind in _kinds(one) & _kinds(other):
        if kind == "object":
            if not _objects_apart(one, other, root, depth):
                return False
        elif kind not in ranges or not _ranges_apart(ranges[kind](one), ranges[kind](other)):
            return False
    return True


def _objects_apart(one: Mapping[str, Any], other: Mapping[str, Any], root: Schema, depth: int) -> bool:
    """Whether a property that one of them requires has no value that both allow."""

    def of(schema: Mapping[str, Any], name: str) -> Schema:
        properties = schema.get("properties", {})
        closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
        found: Schema = properties.get(name, not closed)
        return found

    required = {*one.get("required", ()), *other.get("required", ())}
    return any(disjoint(of(one, name), of(other, name), root, depth - 1) for name in required)


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types it allows; integers are numbers."""
    named = schema.get("type")
    every = {"null", "boolean", "object", "array", "number", "string"}
    kinds = {named} if isinstance(named, str) else set(named) if isinstance(named, Sequence) else every
    return {"number" if kind == "integer" else kind for kind in kinds}


def _kind(value: Any) -> str:
    names = {bool: "boolean", type(None): "null", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "number")


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values it names, each with its type, for in Python `True == 1`; None where it names none."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return [(_kind(value), value) for value in values] if isinstance(values, list) else None


def _refuses(schema: Mapping[str, Any], listed: tuple[str, Any]) -> bool:
    """Whether a value is certainly not valid."""
    kind, value = listed
    if kind not in _kinds(schema):
        return True
    if kind == "number":
        low, high = _numbers(schema)
        whole = schema.get("type") == "integer" and value != int(value)
        return whole or not low <= value <= high
    if kind in ("string", "array"):
        least, most = ("minLength", "maxLength") if kind == "string" else ("minItems", "maxItems")
        return not schema.get(least, 0) <= len(value) <= schema.get(most, float("inf"))
    return kind == "object" and any(name not in value for name in schema.get("required", ()))


def _numbers(schema: Mapping[str, Any]) -> tuple[float, float]:
    """Bounds that its numbers are within. Exclusive ones count as inclusive: less is proven then, not more."""
    low = max(schema.get(key, float("-inf")) for key in ("minimum", "exclusiveMinimum"))
    high = min(schema.get(key, float("inf")) for key in ("maximum", "exclusiveMaximum"))
    return low, high


def _ranges_apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[1] < other[0] or other[1] < one[0]
