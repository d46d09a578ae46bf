"""How a llama.cpp context goes back in its sequence: a cache is cut, a recurrent state put back.

A recurrent state, alone or beside a KV cache (hybrids), cannot be cut. `llama_memory_seq_rm` refuses, or - with
snapshots in the context - says yes to more than the snapshots hold, and logits are wrong from there on (llama.cpp
issue 25004). So nothing here goes by its word: a state is put back that was read when the sequence was that long, the
rest of the cache is trimmed to it, and what lies between is evaluated again. Nor does the cache's word count after an
evaluation that failed or was ended: the layers are at different tokens then, while it names a position. Knows one
context and positions; evaluates nothing itself.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from edgellm.backends.checkpoints import GAP, Checkpoints
from edgellm.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PARTIAL = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY (llama.h): what cannot be cut, without the KV cache

State = ctypes.Array[ctypes.c_uint8]


class Cut:
    """The way back of a cache that can be cut, of keys and values alone.

    Layers that look no farther back than a window may have lost what was before it, for saved states leave that out:
    cut there, the cache would be short of tokens that the next one looks at.
    """

    def __init__(self, lib: Any, context: Any, n_window: int, sequence: int = 0) -> None:
        """`n_window`: tokens that the layers with a window see, 0 where every layer sees all."""
        self._lib, self._n_window, self._sequence = lib, n_window, sequence
        self._memory = lib.llama_get_memory(context)

    def back(self, n: int) -> int:
        """Cut the cache to the first `n` tokens, or to none where it has not all that counts; returns how many."""
        position = self.reusable(n)
        if not self._lib.llama_memory_seq_rm(self._memory, self._sequence, position, -1):
            raise EngineError(f"this model's cache cannot be cut at position {position}")
        return position

    def reusable(self, n: int) -> int:
        """How many of the first `n` tokens need no evaluation."""
        if not self._n_window:
            return n
        first: int = self._lib.llama_memory_seq_pos_min(self._memory, self._sequence)
        return n if first <= max(0, n - self._n_window + 1) else 0

    def returned(self, position: int, n: int) -> None:
        """The sequence went back to `n`, evaluating again from `position`: nothing to do."""


class Recurrent:
    """Keeps states of one sequence of `context` and puts them back."""

    def __init__(self, lib: Any, context: Any, most: int, n_window: int, sequence: int = 0) -> None:
        self._lib, self._context, self._n_window, self._sequence = lib, context, n_window, sequence
        self._memory = lib.llama_get_memory(context)
        self._sound: int | None = None  # tokens before an evaluation that has not succeeded
        self.kept: Checkpoints[State] = Checkpoints(most)

    def begin(self, n: int) -> None:
        """What follows the first `n` tokens is being evaluated; until `done`, the state is taken for lost."""
        self._sound = n

    def done(self) -> None:
        """It was evaluated."""
        self._sound = None

    def chunks(
        self, tokens: Sequence[int], start: int, n_batch: int, *, turn: bool
    ) -> Iterator[Sequence[int]]:
        """`tokens`, which follow the first `start`, in batches to evaluate; states are kept between them."""
        done = start
        for stop, keep in self.kept.pieces(start, start + len(tokens), n_batch, turn=turn):
            if stop > done:
                yield tokens[done - start : stop - start]
            if keep:
                self.keep(stop)
            done = stop

    def grown(self, n: int) -> None:
        """The sequence has grown to `n` tokens one by one: keep the state if one is due."""
        if self.kept.due(n):
            self.keep(n)

    def returned(self, position: int, n: int) -> None:
        """The sequence went back to `n`, evaluating again from `position`: it may come there once more."""
        if n - position >= GAP:
            self.keep(n)

    def mend(self, tokens: list[int]) -> None:
        """Go back to before an evaluation that did not end well, if there was one; cuts `tokens` to what holds."""
        if self._sound is not None:
            del tokens[self.back(self._sound) :]

    def keep(self, n: int) -> None:
        """Keep the state, which is that after `n` tokens."""
        self.kept.keep(n, self.read())

    def back(self, n: int) -> int:
        """Put back the state kept last among the first `n` tokens; returns after how many that was."""
        position = self.kept.nearest(n)
        if position == 0 or not self.put(self.kept.state(position), position):
            position = 0
            self._lib.llama_memory_seq_rm(
                self._memory, self._sequence, -1, -1
            )  # a whole sequence: never fails
        self.kept.forget_beyond(position)
        self._sound = None
        return position

    def reusable(self, n: int) -> int:
        """How many of the first `n` tokens need no evaluation."""
        return self.kept.nearest(n)

    def take_over(self, other: Recurrent, n: int) -> None:
        """The cache of another sequence was copied into this one's: what was kept of its first `n` tokens holds."""
        self.kept.forget_beyond(0)
        for position in other.kept.positions:
            if position <= n:
                self.kept.keep(position, other.kept.state(position))

    def read(self, into: State | None = None) -> State:
        """The state as it is, in a new buffer unless `into` has its size."""
        size = self._lib.llama_state_seq_get_size_ext(self._context, self._sequence, _PARTIAL)
        state = into if into is not None and len(into) == size else (ctypes.c_uint8 * size)()
        got = self._lib.llama_state_seq_get_data_ext(self._context, state, size, self._sequence, _PARTIAL)
        if got != size:
            raise EngineError(
                "llama.cpp does not give its recurrent state; reinstall it, see: edgellm doctor"
            )
        return state

    def put(self, state: State, n: int) -> bool:
        """Make `state` that of the first `n` tokens, which the cache must hold, and trim the cache to them."""
        lib, sequence = self._lib, self._sequence
        return bool(
            lib.llama_state_seq_set_data_ext(self._context, state, len(state), sequence, _PARTIAL)
            and lib.llama_memory_seq_rm(self._memory, sequence, n, -1)
            and lib.llama_memory_seq_pos_max(self._memory, sequence) == n - 1
        )

    def saved(self) -> Sequence[tuple[int, bytes]]:
        """What should outlive the session: the state that an answer written again starts from.

        Not beside layers with a window, of which a saved state has the last tokens alone.
        """
        turn = 0 if self._n_window else self.kept.turn
        return [(turn, bytes(self.kept.state(turn)))] if turn else []

    def restore(self, saved: Sequence[tuple[int, bytes]]) -> None:
        """Forget what is kept, and keep what `saved` gave."""
        self._sound = None
        self.kept.forget_beyond(0)
        for n, state in saved:
            self.kept.keep(n, (ctypes.c_uint8 * len(state)).from_buffer_copy(state))


def way_back(lib: Any, model: Any, context: Any, most: int, sequence: int = 0) -> Cut | Recurrent:
    """For a sequence of a `context` on `model`; of a recurrent state, at most so many are kept."""
    n_window = lib.llama_model_n_swa(model)
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        return Recurrent(lib, context, most, n_window, sequence)
    return Cut(lib, context, n_window, sequence)
