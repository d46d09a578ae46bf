"""Where a recurrent model's state is kept while a sequence grows, so that it can go back: the policy, for every engine.

A recurrent state holds all tokens before it and cannot be cut; going back to position n means to take the state kept
at the nearest position up to n, and to evaluate the rest again. So states are kept where sequences part: every so many
tokens, before a prompt begins, and a few tokens before it ends (templates end a prompt with the head of an answer,
which history writes otherwise once the answer is there). Of too many, that goes which costs least to be without:
they lie the denser the nearer to the end. Knows positions and sizes; knows no engine, and never looks into a state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

State = TypeVar("State")

EVERY = 256  # tokens from one kept state to the next
BEFORE_END = 8  # of a prompt: "<|im_start|>assistant\n<think>\n\n</think>\n\n" is 7 tokens and parts after 3
GAP = 32  # tokens that are faster evaluated again than a state is worth
LEAST, _MOST = 3, 16  # states
_BYTES = 256 << 20  # all of them together, unless fewer than the least would be left


def capacity(state_bytes: int | None) -> int:
    """How many states of this size are kept; 0 for a model that has none, the least where the size is not known."""
    if state_bytes is None:
        return LEAST
    return max(LEAST, min(_MOST, _BYTES // state_bytes)) if state_bytes else 0


class Checkpoints(Generic[State]):
    """Kept states by position, first to last. Position n: the state after n tokens; 0 needs none."""

    def __init__(self, most: int) -> None:
        """`most`: how many are kept at a time, at least 2."""
        self._most = max(most, 2)
        self._kept: dict[int, State] = {}  # in the order of positions
        self._turn = 0  # the last prompt's, which stays: most ways back lead there

    @property
    def positions(self) -> tuple[int, ...]:
        """Where states are kept."""
        return tuple(self._kept)

    @property
    def turn(self) -> int:
        """Where the sequence parts if the last answer is written again; 0: at its beginning."""
        return self._turn if self._turn in self._kept else 0  # the prompt may have been ended before it

    def due(self, n: int) -> bool:
        """Whether a state should be kept at `n`, the sequence's end."""
        return n - self._newest(n) >= EVERY

    def pieces(self, start: int, end: int, n_batch: int, *, turn: bool) -> Iterator[tuple[int, bool]]:
        """Tokens `start` to `end` in pieces of at most `n_batch`: where each ends, and whether to keep the state there.

        With `turn` they end a prompt that an answer follows. The first piece may be empty: a state to keep at once.
        """
        last = self._newest(start)
        if turn and start - last >= GAP:
            yield start, True
            last = start
        self._turn = last if turn else self._turn
        head = end - BEFORE_END
        while start < end:
            stop = min(start + n_batch, end)
            if ends_prompt := turn and start < head <= stop and head - last >= GAP:
                stop = self._turn = head
            keep = ends_prompt or stop - last >= EVERY
            yield stop, keep
            start, last = stop, stop if keep else last

    def keep(self, n: int, state: State) -> None:
        """Keep `state` at `n`, the sequence's end."""
        self._kept[n] = state
        self.forget_beyond(n)
        while len(self._kept) > self._most:
            del self._kept[self._least_missed()]

    def nearest(self, n: int) -> int:
        """The last position up to `n` that can be gone back to; 0: the beginning."""
        return self._newest(n)

    def state(self, n: int) -> State:
        """What is kept at `n`. Raises KeyError."""
        return self._kept[n]

    def forget_beyond(self, n: int) -> None:
        """Drop what lies after `n`: the sequence goes on otherwise there."""
        for position in [position for position in self._kept if position > n]:
            del self._kept[position]
        self._turn = min(self._turn, self._newest(n))

    def _newest(self, n: int) -> int:
        positions = self.positions
        found = bisect_right(positions, n)
        return positions[found - 1] if found else 0

    def _least_missed(self) -> int:
        """The one whose gap to both neighbours is smallest, seen from the end."""
        positions = (0, *self._kept)

        def missed(i: int) -> float:
            return (positions[i + 1] - positions[i - 1]) / (positions[-1] - positions[i] + EVERY)

        return positions[
            min((i for i in range(1, len(positions) - 1) if positions[i] != self._turn), key=missed)
        ]
