"""The seam: what is asked of an engine of many sequences, and what it says at each step."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgellm.errors import EdgellmError
from edgellm.session import Cancel, Sampling

if TYPE_CHECKING:
    from edgellm.session import Constraint, Drafter, Session


@dataclass(eq=False)
class Request:
    """One sequence to go on with: what of it is given, and how the next ids are drawn.

    It belongs to the engine from `add` to `end`; who reads its ids may look at `n_cached`, and set `cancel`.
    """

    prompt: Sequence[int]
    sampling: Sampling
    constraint: Constraint | None = None
    drafter: Drafter | None = None
    exact: bool = False  # evaluate the whole prompt anew, so that what is cached cannot change the rounding
    cancel: Cancel = field(default_factory=Cancel)
    n_cached: int | None = None  # of the prompt's tokens, found in the cache; None: its prefill has not begun
    began: float | None = None  # when it did, in seconds of time.perf_counter
    n_evaluated: int = 0  # tokens, the prompt's and draft tokens among them
    n_drafted: int = 0  # draft tokens evaluated
    n_accepted: int = 0  # of these, kept


class Drawn(NamedTuple):
    """An id drawn for a request; or, without one, that no more will come."""

    request: Request
    token: int | None
    error: EdgellmError | None = None  # why, where it was not the end of the context


class Load(NamedTuple):
    """What an engine holds and does."""

    n_running: int
    n_waiting: int
    kv_used: int  # tokens
    kv_size: int


class Engine(Protocol):
    """Sequences that share an engine. Called from one thread, but for `cancelled` and the tokenizer's methods."""

    @property
    def tokenizer(self) -> Session:
        """A session of the same model for its vocabulary and `info`; `info.n_ctx` is that of one sequence."""
        ...

    @property
    def n_slots(self) -> int:
        """Sequences it evaluates together."""
        ...

    @property
    def batching(self) -> str:
        """ "continuous", or why it answers one request after the other."""
        ...

    def add(self, request: Request) -> None:
        """Have `request` wait for its turn. First come, first served."""
        ...

    def step(self) -> list[Drawn]:
        """One evaluation, and the ids drawn from it; none while there is nothing to do.

        A request that cannot go on gets a `Drawn` without an id, and needs no `end`.
        """
        ...

    def end(self, request: Request) -> None:
        """No more ids of it are wanted: its slot is free. What was evaluated stays in the cache."""
        ...

    def cancelled(self) -> None:
        """`cancel` of a request was set. From any thread; `end` is still needed."""
        ...

    def alone(self) -> contextlib.AbstractContextManager[Session]:
        """A session on the same weights for what is no stream: hidden states, scores. Raises EngineError."""
        ...

    def load(self) -> Load:
        """What it holds and does."""
        ...

    def close(self) -> None:
        """Free everything. Idempotent."""
        ...
