"""Evaluating draft tokens in llama.cpp: one batch with logits at every position, and the cache cut
where one is rejected - or, where a recurrent state cannot be cut, put back and the accepted ones evaluated again.

The session's list of ids is the sequence; while a stream runs, the cache may hold draft tokens beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.backends.llama.sequence import abort, outputs
from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.backends.llama.sequence.mtp import DraftHead
    from edgellm.backends.llama.sequence.recurrent import Recurrent, State
    from edgellm.session import EngineInfo, Logits

_MOST = 31  # draft tokens in one batch: more gain little
_AGAIN = 8  # tokens evaluated again together with what follows; more are worth a state of their own


@dataclass(frozen=True)
class Stream:
    """What a stream runs on."""

    lib: Any
    context: Any
    sampler: Any
    tokens: list[int]  # the session's own list
    info: EngineInfo
    n_batch: int
    check: Callable[[], None]  # raises when the stream is to end, or the session was closed under it
    head: DraftHead | None


class LlamaStepper:
    """A `steps.Stepper`, and a context manager that owns the stream's sampler."""

    _most_at_once = _MOST + 1

    def __init__(self, stream: Stream) -> None:
        self._lib, self._context, self._sampler = stream.lib, stream.context, stream.sampler
        self._memory = stream.lib.llama_get_memory(stream.context)
        self._tokens, self._info = stream.tokens, stream.info
        self._check, self._head = stream.check, stream.head
        self._ahead = 0  # draft tokens in the cache beyond the sequence
        self._last_only = True  # the last evaluation gave logits at its last position alone: the prompt's
        self._first = 0  # place in the batch of the id that was drawn
        self._capacity = min(self._most_at_once, stream.n_batch)
        self.max_draft = min(_MOST, self._capacity - 1)
        self._batch = batch = self._lib.llama_batch_init(self._capacity, 0, 1)
        for i in range(self._capacity):
            batch.logits[i], batch.n_seq_id[i], batch.seq_id[i][0] = 1, 1, 0

    def logits(self, row: int) -> Logits:
        """A view of the engine's own buffer."""
        return outputs.logits(self._lib, self._context, self._index(row), self._info.n_vocab)

    def check(self, row: int) -> None:
        """Without numpy, which drafting by lookup does not need either."""
        self._check()
        outputs.check_finite(self._lib, self._context, self._index(row), self._info)

    def sample(self, row: int) -> int:
        """Draw with the sampler chain, which remembers the id for its penalties."""
        token: int = self._lib.llama_sampler_sample(self._sampler, self._context, self._index(row))
        return token

    def _index(self, row: int) -> int:
        return -1 if self._last_only else self._first + row

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`, then let the cache run ahead by the draft tokens."""
        self._check()
        self.settle()
        past = len(self._tokens)
        self._tokens.append(token)
        self._ahead = len(draft)
        self._decode(past, (token, *draft))
        self._last_only = False

    def _decode(self, past: int, ids: Sequence[int]) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, id_ in enumerate(ids):
            batch.token[i], batch.pos[i] = id_, past + i
        if code := self._lib.llama_decode(self._context, batch):
            raise abort.failure(code, f"at position {past + 1}")
        if self._head is not None:
            self._head.saw(past, len(ids))

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


class RecurrentStepper(LlamaStepper):
    """The same for a model whose state cannot be cut: it is read before draft tokens and put back after a rejected one.

    What was accepted until then is evaluated again, in one batch with what follows.
    """

    _most_at_once = 2 * (_MOST + 1)

    def __init__(self, stream: Stream, recurrent: Recurrent) -> None:
        super().__init__(stream)
        self._recurrent = recurrent
        self._before: State | None = None  # the state after the first `_n_before` tokens, read before a draft
        self._n_before = 0
        self._again = 0  # tokens at the sequence's end that are to be evaluated again

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`, then let the cache run ahead by the draft tokens."""
        self._check()
        self._put_back()
        if self._again + 1 + len(draft) > self._capacity or self._again > _AGAIN:
            self._catch_up()
        past = len(self._tokens) - self._again
        if not self._again:
            self._recurrent.grown(past)
            if draft:
                self._before, self._n_before = self._recurrent.read(self._before), past
        again = self._tokens[past:]
        self._tokens.append(token)
        self._ahead, self._again, self._first = len(draft), 0, len(again)
        self._decode(past, (*again, token, *draft))
        self._last_only = False

    def settle(self) -> None:
        """Bring the state back to the sequence, which costs an evaluation if a draft token was rejected."""
        self._put_back()
        self._catch_up()

    def _put_back(self) -> None:
        if self._ahead:
            self._ahead = 0
            assert self._before is not None
            if not self._recurrent.put(self._before, self._n_before):
                raise EngineError(f"this model's state cannot go back to position {self._n_before}")
            self._again = len(self._tokens) - self._n_before

    def _catch_up(self) -> None:
        """Evaluate what is behind the sequence's end."""
        if self._again:
            past, self._again = len(self._tokens) - self._again, 0
            self._decode(past, self._tokens[past:])

    def _decode(self, past: int, ids: Sequence[int]) -> None:
        self._recurrent.begin(past)
        super()._decode(past, ids)
        self._recurrent.done()


def make_stepper(stream: Stream, recurrent: Recurrent | None) -> LlamaStepper:
    """The one for the kind of state the model keeps."""
    return LlamaStepper(stream) if recurrent is None else RecurrentStepper(stream, recurrent)
