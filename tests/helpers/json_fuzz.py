"""Every value of a JSON document, one at a time, replaced by values of all types."""

import json
from collections.abc import Iterator
from typing import Any

MISSING = "<taken out>"
WRONG: list[Any] = [None, True, -1, 10**30, 1.5, float("inf"), "x", "\ud800", "\x1b[31m"]
WRONG += [[], [1], {}, {"a": 1}, [[]], [{}], [None], MISSING]


def places(data: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document, itself included."""
    yield prefix
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from places(value, (*prefix, key))


def changed(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place, or with none there."""
    if not place:
        return None if value is MISSING else value
    copy = json.loads(json.dumps(data))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return copy
