"""Reading a protobuf message without its schema: where each field's value lies. Knows no message type.

Wire format: https://protobuf.dev/programming-guides/encoding. Bounds are checked: files may be hostile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Anything that gives an int for an index and bytes for a slice: bytes, mmap.
Data = Any
#: A field's number and its value: an int, or where its bytes lie.
Field = tuple[int, "int | tuple[int, int]"]


def walk(data: Data, start: int, stop: int) -> Iterator[Field]:
    """All fields of the message [start, stop) in order; fixed-width ones as spans. Raises ValueError, IndexError."""
    while start < stop:
        tag, start = varint(data, start)
        kind, number = tag & 7, tag >> 3
        if kind == 0:
            value, start = varint(data, start)
            yield number, value
            continue
        if kind == 2:
            size, start = varint(data, start)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if start + size > stop:
            raise ValueError("a field runs past its message")
        yield number, (start, start + size)
        start += size


def spans(data: Data, start: int, stop: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the values of the length-delimited fields with number `wanted` lie."""
    for number, value in walk(data, start, stop):
        if number == wanted and isinstance(value, tuple):
            yield value


def varint(data: Data, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte is. Raises ValueError, IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than ten bytes")
