"""Evaluating draft tokens in llama.cpp: one batch with logits at every position, and the cache cut
where one is rejected.

The session's list of ids is the sequence; while a stream runs, the cache may hold draft tokens beyond it. Part of
`session.py`, and uses what is private to its session.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgellm.backends import checks
from edgellm.backends.llama import abort
from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.session import EngineInfo, Logits

_MOST = 31  # draft tokens in one batch: more gain little


class LlamaStepper:
    """A `_steps.Stepper`, and a context manager that owns `sampler`."""

    def __init__(
        self, lib: Any, context: Any, sampler: Any, tokens: list[int], info: EngineInfo, n_batch: int
    ) -> None:
        self._lib, self._context, self._sampler = lib, context, sampler
        self._memory = lib.llama_get_memory(context)
        self._tokens = tokens  # the session's own list
        self._info = info
        self._ahead = 0  # draft tokens in the cache beyond the sequence
        self._last_only = True  # the last evaluation gave logits at its last position alone: the prompt's
        self.max_draft = min(_MOST, n_batch - 1)
        self._batch = batch = self._lib.llama_batch_init(self.max_draft + 1, 0, 1)
        for i in range(self.max_draft + 1):
            batch.logits[i], batch.n_seq_id[i], batch.seq_id[i][0] = 1, 1, 0

    def logits(self, row: int) -> Logits:
        """A view of the engine's own buffer."""
        import numpy as np

        logits: Logits = np.ctypeslib.as_array(self._pointer(row), (self._info.n_vocab,))
        return logits

    def check(self, row: int) -> None:
        """Without numpy, which drafting by lookup does not need either."""
        checks.check_finite_bytes(ctypes.string_at(self._pointer(row), 4 * self._info.n_vocab), self._info)

    def _pointer(self, row: int) -> Any:
        pointer = self._lib.llama_get_logits_ith(self._context, -1 if self._last_only else row)
        if not pointer:
            raise EngineError("llama.cpp has no logits for this position")
        return pointer

    def sample(self, row: int) -> int:
        """Draw with the sampler chain, which remembers the id for its penalties."""
        token: int = self._lib.llama_sampler_sample(
            self._sampler, self._context, -1 if self._last_only else row
        )
        return token

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`, then let the cache run ahead by the draft tokens."""
        self.settle()
        batch, past = self._batch, len(self._tokens)
        batch.n_tokens = 1 + len(draft)
        batch.token[0], batch.pos[0] = token, past
        for i, drafted in enumerate(draft, start=1):
            batch.token[i], batch.pos[i] = drafted, past + i
        self._tokens.append(token)
        self._ahead = len(draft)
        if code := self._lib.llama_decode(self._context, batch):
            raise abort.failure(code, f"at position {past + 1}")
        self._last_only = False

    def accept(self, token: int) -> None:
        """The cache holds it already."""
        self._tokens.append(token)
        self._ahead -= 1

    def settle(self) -> None:
        """Cut the cache back to the sequence."""
        if self._ahead:
            if not self._lib.llama_memory_seq_rm(self._memory, 0, len(self._tokens), -1):
                raise EngineError(f"this model's cache cannot be cut at position {len(self._tokens)}")
            self._ahead = 0

    def __enter__(self) -> LlamaStepper:
        return self

    def __exit__(self, *exc: object) -> None:
        self.settle()
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_sampler_free(self._sampler)
