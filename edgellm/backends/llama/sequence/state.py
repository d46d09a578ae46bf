"""A sequence's state as llama.cpp serialises it: read, written, packed for a file, and lengthened.

Lengthened, it is a cache of any length without computing it, for measuring alone. What attention costs depends on how
many positions there are, not on what they hold, so a few evaluated positions repeated serve as well as a long prompt
and are there at once. The layout is that of llama_kv_cache::state_write (llama.cpp, src/llama-kv-cache.cpp), which a
recurrent state may follow (src/llama-memory-recurrent.cpp); whatever does not look like it is refused.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgellm.errors import EngineError

_SAVED = struct.Struct("<4sBI")  # magic, bytes of the version's name, kept states
_KEPT = struct.Struct("<IQ")  # its position, its bytes
_MAGIC = b"EKL1"
_HEAD = struct.Struct("<IIII")  # magic, flags, streams, cells
_CELL = struct.Struct("<iIi")  # position, number of sequences, the sequence
_PLACED = struct.Struct(
    "<iIiiii"
)  # with M-RoPE: position, number of sequences, two more positions, id, the sequence
_STATE = struct.Struct("<IiI")  # recurrent states, position, sequences named
_DATA = struct.Struct("<II")  # whether V is transposed, layers
_ROWS = struct.Struct("<iQ")  # type, bytes of a cell's row
_COLUMNS = struct.Struct("<iII")  # type, bytes of a value, values of a cell


def read(lib: Any, context: Any) -> bytes:
    """The state of sequence 0."""
    size = lib.llama_state_seq_get_size(context, 0)
    data = (ctypes.c_uint8 * size)()
    written = lib.llama_state_seq_get_data(context, data, size, 0)
    return bytes(memoryview(data)[:written])


def write(lib: Any, context: Any, state: bytes, n: int) -> None:
    """Make `state`, known to be intact, that of sequence 0; it holds `n` tokens, or EngineError is raised."""
    data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
    memory = lib.llama_get_memory(context)
    lib.llama_memory_seq_rm(
        memory, 0, -1, -1
    )  # a state of no tokens would leave the KV cache of a hybrid as it is
    whole = lib.llama_state_seq_set_data(context, data, len(state), 0) != 0
    if not whole or lib.llama_memory_seq_pos_max(memory, 0) + 1 != n:
        lib.llama_memory_seq_rm(memory, 0, -1, -1)
        raise EngineError("the saved state does not fit this model, these options or its tokens")


def pack(version: str, state: bytes, kept: Sequence[tuple[int, bytes]]) -> bytes:
    """`state`, as this version of the library serialises it, and states kept at earlier positions."""
    name = version.encode()
    parts = [_SAVED.pack(_MAGIC, len(name), len(kept)), name]
    parts += [_KEPT.pack(position, len(data)) for position, data in kept]
    return b"".join([*parts, *(data for _, data in kept), state])


def unpack(version: str, saved: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What `pack` took. Raises EngineError for another version's, whose layout may differ."""
    try:
        magic, n_name, n_kept = _SAVED.unpack_from(saved)
        at = _SAVED.size + n_name
        made_by = saved[_SAVED.size : at].decode("utf-8", "replace")
        if magic != _MAGIC:
            raise EngineError("these bytes are no saved state; read the text again")
        if made_by != version:
            raise EngineError(
                f"the state was saved by {made_by[:80]}, this is {version}; read the text again"
            )
        heads = [_KEPT.unpack_from(saved, at + i * _KEPT.size) for i in range(n_kept)]
    except struct.error:
        raise EngineError("the saved state is cut off; read the text again") from None
    at += n_kept * _KEPT.size
    kept = []
    for position, size in heads:
        kept.append((position, saved[at : at + size]))
        at += size
    return saved[at:], kept


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
    cells = _cells(reader, n_cells, n)
    transposed, n_layer = reader.take(_DATA)
    parts = [_HEAD.pack(magic, flags, 1, n), cells]
    parts.append(_DATA.pack(transposed, n_layer))
    parts += [_rows(reader, n_cells, n) for _ in range(n_layer)]
    parts += [
        _columns(reader, n_cells, n) if transposed else _rows(reader, n_cells, n) for _ in range(n_layer)
    ]
    if reader.at != len(reader.state):
        parts.append(_recurrent(reader, n_cells, n))
    return b"".join(parts)


def _cells(reader: _Reader, n_cells: int, n: int) -> bytes:
    """Which position each cell holds."""
    start = reader.at
    if all(reader.take(_CELL) == (position, 1, 0) for position in range(n_cells)):
        return b"".join(_CELL.pack(position, 1, 0) for position in range(n))
    reader.at = start
    placed = []
    for position in range(n_cells):
        at, count, x, y, id_, sequence = reader.take(_PLACED)
        if (at, count, sequence) != (position, 1, 0) or x not in (0, at) or y not in (0, at):
            raise struct.error("not one sequence of text")
        placed.append((x == at, y == at, id_))
    whole = (placed * (-(-n // n_cells)))[:n]
    return b"".join(_PLACED.pack(i, 1, i * x, i * y, id_, 0) for i, (x, y, id_) in enumerate(whole))


def _recurrent(reader: _Reader, n_cells: int, n: int) -> bytes:
    """What follows the KV cache of a hybrid model: one state, said to be that of `n` tokens."""
    if reader.take(_STATE) != (1, n_cells - 1, 0):
        raise struct.error("not one state")
    return _STATE.pack(1, n - 1, 0) + reader.bytes(len(reader.state) - reader.at)


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
