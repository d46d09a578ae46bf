"""A sequence's state as llama.cpp serialises it, lengthened: a cache of any length without computing it.

For measuring alone. What attention costs depends on how many positions there are, not on what they hold, so a
few evaluated positions repeated serve as well as a long prompt and are there at once. The layout is that of
llama_kv_cache::state_write (llama.cpp, src/llama-kv-cache.cpp); whatever does not look like it is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgellm.errors import EngineError

_HEAD = struct.Struct("<IIII")  # magic, flags, streams, cells
_CELL = struct.Struct("<iIi")  # position, number of sequences, the sequence
_DATA = struct.Struct("<II")  # whether V is transposed, layers
_ROWS = struct.Struct("<iQ")  # type, bytes of a cell's row
_COLUMNS = struct.Struct("<iII")  # type, bytes of a value, values of a cell


def stretch(state: bytes, n: int) -> bytes:
    """The state of `n` positions made of `state`'s, over and over. Raises EngineError for an unknown layout."""
    try:
        reader = _Reader(state)
        return _stretch(reader, n)
    except struct.error:
        raise EngineError(
            "this llama.cpp keeps a sequence's state in a layout that is not known here"
        ) from None


@dataclass
class _Reader:
    """Takes the state apart from front to back."""

    state: bytes
    at: int = 0

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        """Unpack and move on."""
        values = form.unpack_from(self.state, self.at)
        self.at += form.size
        return values

    def bytes(self, size: int) -> bytes:
        """Take `size` bytes."""
        if self.at + size > len(self.state):
            raise struct.error("beyond the end")
        self.at += size
        return self.state[self.at - size : self.at]


def _stretch(reader: _Reader, n: int) -> bytes:
    magic, flags, n_stream, n_cells = reader.take(_HEAD)
    if n_stream != 1 or not 0 < n_cells <= n:
        raise struct.error("not one stream")
    for position in range(n_cells):
        if reader.take(_CELL) != (position, 1, 0):
            raise struct.error("not one sequence")
    transposed, n_layer = reader.take(_DATA)
    parts = [_HEAD.pack(magic, flags, 1, n), *(_CELL.pack(position, 1, 0) for position in range(n))]
    parts.append(_DATA.pack(transposed, n_layer))
    parts += [_rows(reader, n_cells, n) for _ in range(n_layer)]
    parts += [
        _columns(reader, n_cells, n) if transposed else _rows(reader, n_cells, n) for _ in range(n_layer)
    ]
    if reader.at != len(reader.state):
        raise struct.error("more than the layers")
    return b"".join(parts)


def _rows(reader: _Reader, n_cells: int, n: int) -> bytes:
    """One layer's keys, or its values as rows: a row for each cell."""
    kind, row_bytes = reader.take(_ROWS)
    return _ROWS.pack(kind, row_bytes) + _repeated(reader.bytes(row_bytes * n_cells), row_bytes * n)


def _columns(reader: _Reader, n_cells: int, n: int) -> bytes:
    """One layer's values transposed: all cells' first value, then all cells' second."""
    kind, value_bytes, n_values = reader.take(_COLUMNS)
    columns = (_repeated(reader.bytes(value_bytes * n_cells), value_bytes * n) for _ in range(n_values))
    return _COLUMNS.pack(kind, value_bytes, n_values) + b"".join(columns)


def _repeated(data: bytes, size: int) -> bytes:
    return (data * (-(-size // len(data))))[:size]
