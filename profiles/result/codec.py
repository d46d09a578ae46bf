"""Frozen dataclasses to plain JSON values and back, driven by their type hints alone.

Reading is strict: an unknown key, a missing field or a value of another type is an error that names the
place, so that a result file is either what it says or refused. What a newer program added may be passed over
(`lenient`), and put back when the value is written again: `beyond` finds it, `put_back` does that.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
_LARGEST = 1e30  # of anything counted or timed; JSON's readers take infinity and integers of any length


class CodecError(ValueError):
    """A value does not have the shape its type asks for; the message starts with the place."""


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, NaN and infinities to None: what strict JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(kind: type[T], value: Any, place: str = "", *, lenient: bool = False) -> T:
    """The dataclass `kind` from what `to_plain` gave, `lenient` without its unknown fields. Raises CodecError."""
    return typing.cast(T, _decode(kind, value, place or kind.__name__, lenient))


def beyond(value: Any, known: Any) -> Any:
    """What plain `value` has that plain `known`, read from it, has not: the same nesting; None where there is nothing.

    Items of lists go by their index.
    """
    if isinstance(value, list) and isinstance(known, list):
        value, known = dict(enumerate(value)), dict(enumerate(known))
    if not isinstance(value, dict) or not isinstance(known, dict):
        return None
    inside = {key: beyond(value[key], known[key]) for key in value.keys() & known.keys()}
    return {k: v for k, v in inside.items() if v} | {k: _New(value[k]) for k in value.keys() - known.keys()}


def put_back(plain: Any, more: Any) -> None:
    """Add to `plain` what `beyond` found, where its places are still there."""
    for key, value in (more or {}).items():
        if isinstance(value, _New):
            if isinstance(plain, dict):
                plain.setdefault(key, value.value)
        elif (isinstance(plain, list) and key < len(plain)) or (isinstance(plain, dict) and key in plain):
            put_back(plain[key], value)


@dataclasses.dataclass(frozen=True)
class _New:
    """A value that nothing here knows."""

    value: Any


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, value: Any, place: str, lenient: bool) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, place, lenient)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), value, place, lenient)
    if origin in (tuple, frozenset):
        item_kind = typing.get_args(kind)[0]
        items = _expect(value, list, place)
        return origin(
            _decode(item_kind, item, f"{place}[{index}]", lenient) for index, item in enumerate(items)
        )
    if origin is not None and issubclass(origin, Mapping):
        item_kind = typing.get_args(kind)[1]
        return {
            key: _decode(item_kind, item, f"{place}.{key}", lenient)
            for key, item in _expect(value, dict, place).items()
        }
    if kind in (int, float) and isinstance(value, (int, float)) and not abs(value) < _LARGEST:
        raise CodecError(f"{place}: {value!r} is no number that is measured")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        raise CodecError(f"{place}: expected int, got bool")
    return _expect(value, kind, place)


def _decode_dataclass(kind: type, value: Any, place: str, lenient: bool) -> Any:
    data = _expect(value, dict, place)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if (unknown := sorted(set(data) - set(fields))) and not lenient:
        raise CodecError(f"{place}: unknown field {unknown[0]!r}")
    for name, field in fields.items():
        if name not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise CodecError(f"{place}: missing field {name!r}")
    known = {name: item for name, item in data.items() if name in fields}
    return kind(
        **{name: _decode(hints[name], item, f"{place}.{name}", lenient) for name, item in known.items()}
    )


def _decode_union(options: tuple[Any, ...], value: Any, place: str, lenient: bool) -> Any:
    if value is None and type(None) in options:
        return None
    if type(value) in options and type(value) not in (int, float):
        return value
    if type(value) in options:
        return _decode(type(value), value, place, lenient)  # an int stays an int where floats are welcome too
    failures = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _decode(option, value, place, lenient)
        except CodecError as error:
            failures.append(error)
    raise failures[-1]


def _expect(value: Any, kind: type, place: str) -> Any:
    if value is None and kind is type(None):
        return None
    if not isinstance(value, kind):
        raise CodecError(f"{place}: expected {kind.__name__}, got {type(value).__name__}")
    return value
