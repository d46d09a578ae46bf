"""The KV cache of an ONNX decoder: one set of buffers that the graph reads and writes in place, grown as needed.

`InPlaceCache` serves graphs with fused attention, which append to a shared buffer; `ConcatCache` serves graphs
that give back a longer copy each step (optimum's). Both know lengths, not tokens.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from edgellm.backends.ort.graph import CacheSlot, library
from edgellm.errors import EngineError

FIRST_CAPACITY = 512  # positions; doubled whenever a sequence outgrows it

#: Memory that is no file's and no other process's.
_PRIVATE: dict[str, int] = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE}

_HEAD = struct.Struct("<4sIIIII")  # magic, slots, heads, head size, bytes per value, positions
_MAGIC = b"EKV1"


class Cache(Protocol):
    """What a session asks of a cache."""

    @property
    def version(self) -> int:
        """Changes when bindings must be made again."""
        ...

    @property
    def length(self) -> int:
        """Positions it holds: the next run goes on behind them."""
        ...

    def reserve(self, n: int) -> None:
        """Make room for `n` positions, keeping those it holds."""
        ...

    def bind(self, binding: Any) -> None:
        """Bind pasts and presents for the next run."""
        ...

    def keep(self, binding: Any, length: int) -> None:
        """Take what a run produced: `length` positions are held now."""
        ...

    def lose(self) -> None:
        """A run failed half way."""
        ...

    def rewind(self, n: int) -> None:
        """Forget what lies beyond `n` positions; fewer may be left (`length`), whose tokens must come again."""
        ...

    def try_out(self) -> None:
        """What the next run adds may be taken back right after it."""
        ...

    def reusable(self, n: int) -> int:
        """The length that a rewind to `n` would leave."""
        ...

    def mark(self, *, due: bool = False) -> None:
        """All it holds is of the sequence, and may be gone back to; if `due`, no more often than worth it."""
        ...

    def pieces(self, end: int, most: int, *, turn: bool) -> Iterator[int]:
        """Positions to evaluate up to in turn, at most `most` at a time, until `end`; the first may be reached already.

        With `turn`, an answer follows.
        """
        ...

    def stretch(self, n: int) -> bool:
        """Lengthen what it holds to `n` positions of nonsense, if it can: whether it has."""
        ...

    def save(self) -> bytes:
        """All positions it holds."""
        ...

    def restore(self, state: bytes) -> None:
        """Put back what `save` gave. Raises EngineError when it does not fit."""
        ...


class _Cuttable:
    """Keys and values of each position apart, so that any length can be gone back to without further ado."""

    length: int

    def try_out(self) -> None:
        """Nothing to do: every run can be taken back."""

    def reusable(self, n: int) -> int:
        """All of it."""
        return n

    def mark(self, *, due: bool = False) -> None:
        """Nothing to do: all positions can be gone back to."""

    def pieces(self, end: int, most: int, *, turn: bool) -> Iterator[int]:
        """As many as fit each time."""
        return iter([*range(self.length + most, end, most), end])


def _pages(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array in memory of its own: pages cost nothing until they are written to, and all go back with it.

    malloc keeps what is freed between other things, which made a grown cache take its place twice.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), dtype).reshape(shape)


class InPlaceCache(_Cuttable):
    """Buffers [1, n_head_kv, capacity, head_dim] bound as past and present at once; a shorter length rewinds."""

    def __init__(self, slots: Sequence[CacheSlot], n_ctx: int) -> None:
        self._slots, self._n_ctx = tuple(slots), n_ctx
        self.version = self.capacity = self.length = 0
        self._arrays: list[Any] = []
        self.reserve(min(FIRST_CAPACITY, n_ctx))

    def reserve(self, n: int) -> None:
        """Double the capacity until `n` positions fit; at most the context."""
        if n <= self.capacity:
            return
        capacity = max(self.capacity, 1)
        while capacity < n:
            capacity *= 2
        self.capacity = min(capacity, self._n_ctx)
        old, self._arrays = self._arrays, []
        for place, slot in enumerate(self._slots):
            array = _pages((1, slot.n_head_kv, self.capacity, slot.head_dim), slot.dtype)
            if self.length:
                array[:, :, : self.length] = old[place][:, :, : self.length]
                old[place] = None  # its pages go back
            self._arrays.append(array)
        self.version += 1

    def bind(self, binding: Any) -> None:
        """The same buffer in and out, by its address: a binding would keep an array until it is made again."""
        for slot, array in zip(self._slots, self._arrays, strict=True):
            buffer = ("cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            binding.bind_input(slot.past, *buffer)
            binding.bind_output(slot.present, *buffer)

    def keep(self, binding: Any, length: int) -> None:
        """It is in place."""
        self.length = length

    def lose(self) -> None:
        """What was written lies beyond the length."""

    def rewind(self, n: int) -> None:
        """What lies beyond the length is never read."""
        self.length = n

    def stretch(self, n: int) -> bool:
        """Fill up to `n` positions with copies of what it holds."""
        length = self.length
        self.reserve(n)
        for array in self._arrays:
            for start in range(length, n, length):
                end = min(start + length, n)
                array[:, :, start:end] = array[:, :, : end - start]
        self.length = n
        return True

    def save(self) -> bytes:
        """A header and the positions of every slot."""
        n = self.length
        parts = [np.ascontiguousarray(array[:, :, :n]).tobytes() for array in self._arrays]
        return _header(self._slots, n) + b"".join(parts)

    def restore(self, state: bytes) -> None:
        """Copy the positions in."""
        n = _check(self._slots, state, self._n_ctx)
        self.length = 0
        self.reserve(n)
        at = _HEAD.size
        for slot, array in zip(self._slots, self._arrays, strict=True):
            shape = (1, slot.n_head_kv, n, slot.head_dim)
            part = np.frombuffer(state, slot.dtype, int(np.prod(shape)), at).reshape(shape)
            array[:, :, :n] = part
            at += part.nbytes
        self.length = n


class ConcatCache(_Cuttable):
    """The presents of one run are the pasts of the next; a rewind copies what is kept."""

    def __init__(self, slots: Sequence[CacheSlot]) -> None:
        self._slots, self.version, self.length = tuple(slots), 0, 0
        self._values: list[Any] = []
        self._set([np.zeros((1, slot.n_head_kv, 0, slot.head_dim), slot.dtype) for slot in self._slots])

    def reserve(self, n: int) -> None:
        """Each run allocates, so bindings are made again every time."""
        self.version += 1

    def bind(self, binding: Any) -> None:
        """Pasts as they are, presents wherever the engine allocates them."""
        for slot, value in zip(self._slots, self._values, strict=True):
            binding.bind_ortvalue_input(slot.past, value)
            binding.bind_output(slot.present, "cpu")

    def keep(self, binding: Any, length: int) -> None:
        """Outputs come in the order they were bound, and the presents are bound first."""
        self._values, self.length = list(binding.get_outputs())[: len(self._slots)], length

    def lose(self) -> None:
        """The pasts are as they were."""

    def rewind(self, n: int) -> None:
        """Copy the first `n` positions of every slot."""
        self._set([np.ascontiguousarray(value.numpy()[:, :, :n]) for value in self._values])
        self.length = n

    def stretch(self, n: int) -> bool:
        """The engine allocates it."""
        return False

    def save(self) -> bytes:
        """A header and the positions of every slot."""
        parts = [np.ascontiguousarray(value.numpy()).tobytes() for value in self._values]
        return _header(self._slots, self.length) + b"".join(parts)

    def restore(self, state: bytes) -> None:
        """Copy the positions in."""
        n, at, arrays = _check(self._slots, state, None), _HEAD.size, []
        for slot in self._slots:
            shape = (1, slot.n_head_kv, n, slot.head_dim)
            arrays.append(np.frombuffer(state, slot.dtype, int(np.prod(shape)), at).reshape(shape).copy())
            at += arrays[-1].nbytes
        self._set(arrays)
        self.length = n

    def _set(self, arrays: list[Any]) -> None:
        self._arrays = arrays  # the values below share their memory
        self._values = [library().OrtValue.ortvalue_from_numpy(array) for array in arrays]


def saved_length(state: bytes) -> int | None:
    """Positions of what `save` of a KV cache gave, by its header; None where there is none."""
    return int(_HEAD.unpack_from(state)[-1]) if len(state) >= _HEAD.size else None


def _header(slots: Sequence[CacheSlot], n: int) -> bytes:
    slot = slots[0]
    return _HEAD.pack(_MAGIC, len(slots), slot.n_head_kv, slot.head_dim, np.dtype(slot.dtype).itemsize, n)


def _check(slots: Sequence[CacheSlot], state: bytes, n_ctx: int | None) -> int:
    refused = EngineError("the saved state does not fit this model and these options")
    if len(state) < _HEAD.size:
        raise refused
    n: int = _HEAD.unpack_from(state)[-1]
    if state[: _HEAD.size] != _header(slots, n) or (n_ctx is not None and n > n_ctx):
        raise refused
    size = sum(s.n_head_kv * s.head_dim * np.dtype(s.dtype).itemsize * n for s in slots)
    if len(state) != _HEAD.size + size:
        raise refused
    return n
