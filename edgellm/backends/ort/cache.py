"""The KV cache of an ONNX decoder: one set of buffers that the graph reads and writes in place, grown as needed.

`InPlaceCache` serves graphs with fused attention, which append to a shared buffer; `ConcatCache` serves graphs
that give back a longer copy each step (optimum's). Both know lengths, not tokens.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from edgellm.backends.ort.graph import CacheSlot, library
from edgellm.errors import EngineError

FIRST_CAPACITY = 512  # positions; doubled whenever a sequence outgrows it

_HEAD = struct.Struct("<4sIIIII")  # magic, slots, heads, head size, bytes per value, positions
_MAGIC = b"EKV1"


class Cache(Protocol):
    """What a session asks of a cache."""

    @property
    def version(self) -> int:
        """Changes when bindings must be made again."""
        ...

    def reserve(self, n: int, length: int) -> None:
        """Make room for `n` positions, keeping `length` of them."""
        ...

    def bind(self, binding: Any) -> None:
        """Bind pasts and presents for the next run."""
        ...

    def keep(self, binding: Any) -> None:
        """Take what a run produced."""
        ...

    def rewind(self, n: int) -> None:
        """Forget what lies beyond `n` positions."""
        ...

    def save(self, n: int) -> bytes:
        """The first `n` positions."""
        ...

    def restore(self, state: bytes) -> int:
        """Put back what `save` gave; return its positions. Raises EngineError when it does not fit."""
        ...


class InPlaceCache:
    """Buffers [1, n_head_kv, capacity, head_dim] bound as past and present at once; a shorter length rewinds."""

    def __init__(self, slots: Sequence[CacheSlot], n_ctx: int) -> None:
        self._slots, self._n_ctx = tuple(slots), n_ctx
        self.version = self.capacity = 0
        self._arrays: list[Any] = []
        self._values: list[Any] = []
        self.reserve(min(FIRST_CAPACITY, n_ctx), 0)

    def reserve(self, n: int, length: int) -> None:
        """Double the capacity until `n` positions fit; at most the context."""
        if n <= self.capacity:
            return
        capacity = max(self.capacity, 1)
        while capacity < n:
            capacity *= 2
        self.capacity = min(capacity, self._n_ctx)
        old, self._arrays = self._arrays, []
        for place, slot in enumerate(self._slots):
            # Untouched pages of a fresh array cost nothing until a position is written to them.
            array = np.empty((1, slot.n_head_kv, self.capacity, slot.head_dim), slot.dtype)
            if length:
                array[:, :, :length] = old[place][:, :, :length]
                old[place] = None
            self._arrays.append(array)
        value = library().OrtValue.ortvalue_from_numpy
        self._values = [value(array) for array in self._arrays]  # share the arrays' memory
        self.version += 1

    def bind(self, binding: Any) -> None:
        """The same buffer in and out."""
        for slot, value in zip(self._slots, self._values, strict=True):
            binding.bind_ortvalue_input(slot.past, value)
            binding.bind_ortvalue_output(slot.present, value)

    def keep(self, binding: Any) -> None:
        """Nothing to do: it is in place."""

    def rewind(self, n: int) -> None:
        """Nothing to do: what lies beyond the length is never read."""

    def stretch(self, length: int, n: int) -> None:
        """Fill up to `n` positions with copies of the first `length`."""
        self.reserve(n, length)
        for array in self._arrays:
            for start in range(length, n, length):
                end = min(start + length, n)
                array[:, :, start:end] = array[:, :, : end - start]

    def save(self, n: int) -> bytes:
        """A header and the positions of every slot."""
        parts = [np.ascontiguousarray(array[:, :, :n]).tobytes() for array in self._arrays]
        return _header(self._slots, n) + b"".join(parts)

    def restore(self, state: bytes) -> int:
        """Copy the positions in."""
        n = _check(self._slots, state, self._n_ctx)
        self.reserve(n, 0)
        at = _HEAD.size
        for slot, array in zip(self._slots, self._arrays, strict=True):
            shape = (1, slot.n_head_kv, n, slot.head_dim)
            part = np.frombuffer(state, slot.dtype, int(np.prod(shape)), at).reshape(shape)
            array[:, :, :n] = part
            at += part.nbytes
        return n


class ConcatCache:
    """The presents of one run are the pasts of the next; a rewind copies what is kept."""

    def __init__(self, slots: Sequence[CacheSlot]) -> None:
        self._slots, self.version = tuple(slots), 0
        self._values: list[Any] = []
        self._set([np.zeros((1, slot.n_head_kv, 0, slot.head_dim), slot.dtype) for slot in self._slots])

    def reserve(self, n: int, length: int) -> None:
        """Each run allocates, so bindings are made again every time."""
        self.version += 1

    def bind(self, binding: Any) -> None:
        """Pasts as they are, presents wherever the engine allocates them."""
        for slot, value in zip(self._slots, self._values, strict=True):
            binding.bind_ortvalue_input(slot.past, value)
            binding.bind_output(slot.present, "cpu")

    def keep(self, binding: Any) -> None:
        """Outputs come in the order they were bound, and the presents are bound first."""
        self._values = list(binding.get_outputs())[: len(self._slots)]

    def rewind(self, n: int) -> None:
        """Copy the first `n` positions of every slot."""
        self._set([np.ascontiguousarray(value.numpy()[:, :, :n]) for value in self._values])

    def save(self, n: int) -> bytes:
        """A header and the positions of every slot."""
        parts = [np.ascontiguousarray(value.numpy()[:, :, :n]).tobytes() for value in self._values]
        return _header(self._slots, n) + b"".join(parts)

    def restore(self, state: bytes) -> int:
        """Copy the positions in."""
        n, at, arrays = _check(self._slots, state, None), _HEAD.size, []
        for slot in self._slots:
            shape = (1, slot.n_head_kv, n, slot.head_dim)
            arrays.append(np.frombuffer(state, slot.dtype, int(np.prod(shape)), at).reshape(shape).copy())
            at += arrays[-1].nbytes
        self._set(arrays)
        return n

    def _set(self, arrays: list[Any]) -> None:
        self._arrays = arrays  # the values below share their memory
        self._values = [library().OrtValue.ortvalue_from_numpy(array) for array in arrays]


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
