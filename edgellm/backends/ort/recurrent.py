"""States of fixed size beside the KV cache: what a delta net layer remembers of all tokens together.

Such a state cannot be shortened. So it is kept at more than one place: the newest, which the graph updates in
place; one from before the last draft tokens, where drafting keeps a second buffer; and copies at chosen positions
(`backends/checkpoints.py`). Going back takes the nearest one before; the session evaluates again what lies between.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgellm.backends.checkpoints import Checkpoints
from edgellm.backends.ort.cache import Cache, saved_length
from edgellm.backends.ort.graph import StateSlot, library
from edgellm.errors import EngineError

_ALIGNMENT = 16  # floats: every state begins on a cache line

_HEAD = struct.Struct("<4sIQ")  # magic, states, bytes of each
_MAGIC = b"ERS1"
_PLACE = struct.Struct("<I")  # tokens that a state has seen


def nbytes(slots: Sequence[StateSlot]) -> int:
    """Bytes of one state of all layers."""
    return 4 * _starts(slots)[-1]


def _starts(slots: Sequence[StateSlot]) -> list[int]:
    """Where each slot's state begins in an array of all, in floats, and where the last one ends."""
    starts = [0]
    for slot in slots:
        starts.append(starts[-1] + -(-math.prod(slot.shape) // _ALIGNMENT) * _ALIGNMENT)
    return starts


class Recurrent:
    """All layers' states in one array, and a second one once draft tokens are evaluated."""

    def __init__(self, slots: Sequence[StateSlot]) -> None:
        self._slots, self._starts = tuple(slots), _starts(slots)
        self._arrays: list[Any] = []
        self._values: list[list[Any]] = []
        self._lengths: list[int | None] = []  # tokens that each array has seen; None: nothing to use
        self._add()
        self._lengths[0] = 0
        self._now = self._next = 0  # the array that the next run reads, and the one that it writes
        self.version = 0

    @property
    def length(self) -> int:
        """Tokens that the newest state has seen."""
        return self._lengths[self._now] or 0

    def bind(self, binding: Any) -> None:
        """States in and out, in most runs the same memory."""
        pairs = zip(self._slots, self._values[self._now], self._values[self._next], strict=True)
        for slot, before, after in pairs:
            binding.bind_ortvalue_input(slot.past, before)
            binding.bind_ortvalue_output(slot.present, after)

    def fork(self) -> None:
        """Have the next run leave the state before it as it is."""
        if len(self._arrays) == 1:
            self._add()
        self._point(self._now, 1 - self._now)

    def ran(self, length: int) -> None:
        """A run is over, and its state has seen `length` tokens."""
        self._lengths[self._next] = length
        self._point(self._next, self._next)

    def lost(self) -> None:
        """A run failed half way: what it was writing is no state."""
        self._lengths[self._next] = None
        self._point(self._now, self._now)

    def nearest(self, n: int) -> int:
        """Tokens of the newest state that is at hand and has seen at most `n`; 0: there is none."""
        return max((length for length in self._lengths if length is not None and length <= n), default=0)

    def back(self, n: int) -> None:
        """Take up that state, and forget later ones."""
        self._lengths = [None if length is None or length > n else length for length in self._lengths]
        place = max(range(len(self._lengths)), key=lambda place: self._lengths[place] or 0)
        if self._lengths[place] is None:
            self._arrays[place][:] = 0
            self._lengths[place] = 0
        self._point(place, place)

    def copy(self) -> Any:
        """The newest state [values]."""
        return self._arrays[self._now].copy()

    def put(self, state: Any, length: int) -> None:
        """Make a copy the newest state."""
        self._arrays[self._now][:] = state
        self._lengths[self._now] = length

    def claim(self, length: int) -> None:
        """Call the state that of `length` tokens: nonsense, for measuring alone."""
        self._lengths[self._now] = length

    def _point(self, now: int, following: int) -> None:
        if (now, following) != (self._now, self._next):
            self._now, self._next = now, following
            self.version += 1

    def _add(self) -> None:
        array = np.zeros(self._starts[-1], np.float32)
        value = library().OrtValue.ortvalue_from_numpy  # shares the array's memory
        parts = zip(self._starts, self._slots, strict=False)
        shaped = [array[at : at + math.prod(slot.shape)].reshape(slot.shape) for at, slot in parts]
        self._arrays.append(array)
        self._values.append([value(part) for part in shaped])
        self._lengths.append(None)


class HybridCache:
    """KV cache and recurrent states of one sequence. `length` is what the states have seen."""

    def __init__(self, kv: Cache, slots: Sequence[StateSlot], most: int) -> None:
        """At most so many states are kept to go back to."""
        self._kv, self._states = kv, Recurrent(slots)
        self._kept: Checkpoints[Any] = Checkpoints(most)
        self._nbytes = nbytes(slots)

    @property
    def version(self) -> int:
        """Changes when either part's does."""
        return self._kv.version + self._states.version

    @property
    def length(self) -> int:
        """Positions that both parts hold."""
        return self._states.length

    def reserve(self, n: int) -> None:
        """Room for `n` positions in the KV cache."""
        self._kv.reserve(n)

    def bind(self, binding: Any) -> None:
        """KV cache first, for its outputs may have to be the first."""
        self._kv.bind(binding)
        self._states.bind(binding)

    def keep(self, binding: Any, length: int) -> None:
        """Both parts are at `length`."""
        self._kv.keep(binding, length)
        self._states.ran(length)

    def lose(self) -> None:
        """Go back to the last state that is one."""
        self._kv.lose()
        self._states.lost()
        self.rewind(self._kv.length)

    def rewind(self, n: int) -> None:
        """Take up the nearest state up to `n`."""
        kept = self._kept.nearest(n)
        self._states.back(n)
        if self._states.length < kept:
            self._states.put(self._kept.state(kept), kept)
        self._kept.forget_beyond(self._states.length)
        self._kv.rewind(self._states.length)

    def try_out(self) -> None:
        """Leave the states before the run as they are."""
        self._states.fork()

    def reusable(self, n: int) -> int:
        """The nearest state up to `n`."""
        return max(self._states.nearest(n), self._kept.nearest(n))

    def mark(self, *, due: bool = False) -> None:
        """Keep the states; if `due`, only if the last kept ones are far behind."""
        if not due or self._kept.due(self.length):
            self._copy()

    def pieces(self, end: int, most: int, *, turn: bool) -> Iterator[int]:
        """As the checkpoints want them; a piece's states are kept when the next one is asked for."""
        for stop, keep in self._kept.pieces(self.length, end, most, turn=turn):
            yield stop
            if keep:
                self._copy()

    def stretch(self, n: int) -> bool:
        """Lengthen the KV cache, and call the states those of `n` tokens, which can be gone back to."""
        if self._kv.stretch(n):
            self._states.claim(n)
            self._copy()
        return self.length == n

    def save(self) -> bytes:
        """The newest states and those from before the last answer, then the KV cache."""
        states = [(self.length, self._states.copy())]
        if self._kept.turn in self._kept.positions and self._kept.turn < self.length:
            states.insert(0, (self._kept.turn, self._kept.state(self._kept.turn)))
        parts = [_PLACE.pack(place) + state.tobytes() for place, state in states]
        return b"".join([_HEAD.pack(_MAGIC, len(parts), self._nbytes), *parts, self._kv.save()])

    def restore(self, state: bytes) -> None:
        """Put both parts back."""
        found, rest = self._parsed(state)
        self._kv.restore(rest)
        self._kept.forget_beyond(0)
        for length, values in found:
            self._states.put(values, length)
            self._kept.keep(length, values)

    def _parsed(self, state: bytes) -> tuple[list[tuple[int, Any]], bytes]:
        refused = EngineError("the saved state does not fit this model and these options")
        if len(state) < _HEAD.size:
            raise refused
        magic, n, nbytes = _HEAD.unpack_from(state)
        size, found = _PLACE.size + nbytes, []
        if magic != _MAGIC or nbytes != self._nbytes or len(state) < _HEAD.size + n * size:
            raise refused
        for at in range(_HEAD.size, _HEAD.size + n * size, size):
            values = np.frombuffer(state, np.float32, nbytes // 4, at + _PLACE.size)
            found.append(
                (int(_PLACE.unpack_from(state, at)[0]), values.copy())
            )  # the bytes hold the KV cache, too
        rest, places = state[_HEAD.size + n * size :], [place for place, _ in found]
        if not places or places != sorted(set(places)) or saved_length(rest) != places[-1]:
            raise refused
        return found, rest

    def _copy(self) -> None:
        self._kept.keep(self.length, self._states.copy())
