"""Fifty JSON schemas of the kinds people ask for, written from a few tables. Used by bench/structured.py and a test."""

from itertools import product
from typing import Any

_STRING = {"type": "string"}
_VALUES: dict[str, Any] = {
    "text": _STRING,
    "short": {"type": "string", "maxLength": 12},
    "long": {"type": "string", "minLength": 8},
    "count": {"type": "integer", "minimum": 0, "maximum": 500},
    "big": {"type": "integer", "minimum": 1000},
    "price": {"type": "number", "minimum": 0},
    "flag": {"type": "boolean"},
    "nothing": {"type": "null"},
    "colour": {"enum": ["red", "green", "blue", "深蓝"]},
    "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "day": {"type": "string", "format": "date"},
    "either": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 5}]},
    "maybe": {"anyOf": [_STRING, {"type": "null"}]},
    "fixed": {"const": "edgellm"},
}


def _object(names: tuple[str, ...], required: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _VALUES[name] for name in names},
        "required": list(names[:required]),
        "additionalProperties": False,
        **more,
    }


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = _VALUES["count"]
    for level in range(depth):
        inner = {
            "type": "object",
            "properties": {f"level{level}": inner, "note": _STRING},
            "required": [f"level{level}"],
            "additionalProperties": False,
        }
    return inner


def _special() -> list[dict[str, Any]]:
    """Recursion, unions of objects, free maps, tuples."""
    tree = {
        "type": "object",
        "properties": {"name": _STRING, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        "required": ["name", "children"],
        "additionalProperties": False,
    }
    shapes = [_object(("fixed", name), 2) for name in ("count", "text")]
    return [
        {"$defs": {"tree": tree}, "$ref": "#/$defs/tree"},
        {"anyOf": shapes},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array", "prefixItems": [_STRING, _VALUES["count"]], "items": False, "minItems": 2},
        {
            "type": "object",
            "properties": {"名字": _STRING, "年龄": _VALUES["count"]},
            "required": ["名字", "年龄"],
        },
        {"type": "object"},
    ]


def schemas() -> list[dict[str, Any]]:
    """The fifty."""
    found: list[dict[str, Any]] = [_object((name,), 1) for name in _VALUES]
    found += [
        {"type": "array", "items": _VALUES[name], "minItems": n, "maxItems": n + 2} for name, n in _LISTS
    ]
    names = tuple(_VALUES)
    found += [_object(names[start : start + size], required) for start, size, required in _RECORDS]
    found += [_nested(depth) for depth in range(1, 6)]
    found += [
        {"type": "array", "items": _object(names[start : start + 3], 2), "minItems": 1}
        for start in range(0, 9, 2)
    ]
    return found + _special()


_LISTS = tuple(product(("text", "count", "colour", "code"), (0, 2)))
_RECORDS = tuple(
    (start, size, required) for start in (0, 4, 8) for size, required in ((3, 1), (4, 4), (6, 3), (6, 6))
)
