"""What a backend has to offer so that several sequences can share its evaluations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from edgellm.session import EngineInfo, Logits, Sampling, Session

MOST_DRAFTED = 8  # draft tokens of one sequence in an evaluation


class Part(NamedTuple):
    """What an evaluation holds of one sequence."""

    slot: int
    past: int  # tokens of the sequence that are in the cache
    tokens: Sequence[int]
    n_rows: int  # of its last tokens that logits are wanted after


class Evaluator(Protocol):
    """An engine that evaluates several sequences at once. Sequences are told apart by their slots."""

    info: EngineInfo  # n_ctx: tokens of one sequence
    n_slots: int
    n_batch: int  # tokens of one evaluation
    drafts: bool  # whether a sequence can be cut behind draft tokens

    def evaluate(self, parts: Sequence[Part]) -> list[int]:
        """Append to the sequences; for each part the number of its first row of logits.

        Raises EngineError, and CancelledError where it was interrupted.
        """
        ...

    def interrupt(self) -> None:
        """Stop the evaluation that runs, if one does and it can be. From any thread."""
        ...

    def logits(self, row: int) -> Logits:
        """Logits [n_vocab] of a row; writable, valid until the next evaluation."""
        ...

    def check(self, row: int) -> None:
        """Raise EngineError unless the logits of `row` are finite."""
        ...

    def sampler(self, sampling: Sampling) -> Any:
        """A sampler for one answer; give it back with `free`."""
        ...

    def sample(self, sampler: Any, row: int) -> int:
        """Draw from the logits of `row`."""
        ...

    def free(self, sampler: Any) -> None:
        """`sampler` is not needed any more."""
        ...

    def reusable(self, slot: int, n: int) -> int:
        """The most of the first `n` tokens that `cut` keeps."""
        ...

    def cut(self, slot: int, n: int) -> None:
        """Keep the first `n` tokens, where `n` is `reusable`."""
        ...

    def share(self, source: int, slot: int, n: int) -> None:
        """Make the sequence of `slot` the first `n` tokens of that of `source`, where they are `reusable` there."""
        ...

    def pieces(self, slot: int, start: int, end: int) -> Iterator[tuple[int, bool]]:
        """Where the evaluation of a prompt's tokens `start` to `end` pauses, and whether to keep the state there."""
        ...

    def keep(self, slot: int, n: int) -> None:
        """Keep the state after `n` tokens, to go back to."""
        ...

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """A session on the same weights."""
        ...

    def close(self) -> None:
        """Free everything. Idempotent."""
        ...
