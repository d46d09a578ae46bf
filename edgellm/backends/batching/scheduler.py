"""What the next evaluation holds: an id of every answer that is being written, and a piece of the prompts that wait.

Iteration-level scheduling, as Orca (Yu et al., OSDI 2022) named it, with prefill in chunks: answers are written on
while a long prompt is evaluated piece by piece beside them. A slot keeps its sequence when its request has ended, so
that the next prompt that begins alike goes on from there; of a running sequence the common beginning is copied. Knows
ids and an `Evaluator`; knows no library.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgellm.backends import checks, steps
from edgellm.backends.batching.engine import Drawn, Load, Request, common
from edgellm.errors import EdgellmError

if TYPE_CHECKING:
    from edgellm.session import EngineInfo, Logits, Sampling, Session

CHUNK = 256  # tokens of prompts in an evaluation that answers wait for
_WORTH_WAITING = 32  # tokens that another prompt evaluates just now, and this one begins with as well
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
        """Append to the sequences; for each part the number of its first row of logits. Raises EngineError."""
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


class Scheduler:
    """An `Engine` of as many sequences as its evaluator has slots. `tokenizer` has the vocabulary."""

    batching = "continuous"

    def __init__(self, evaluator: Evaluator, tokenizer: Session) -> None:
        self._evaluator, self.tokenizer = evaluator, tokenizer
        self.n_slots = evaluator.n_slots
        self._slots = [_Slot(i, evaluator) for i in range(self.n_slots)]
        self._waiting: deque[Request] = deque()
        self._n_steps = self._n_taken = 0
        self._n_evaluated = self._n_cached = 0

    def add(self, request: Request) -> None:
        """Have `request` wait for its turn."""
        self._waiting.append(request)

    def step(self) -> list[Drawn]:
        """One evaluation of everything that can go on."""
        self._n_steps += 1
        ended = self._admit()
        parts = self._plan()
        if not parts:
            return ended
        try:
            rows = self._evaluator.evaluate([part for _, part in parts])
        except EdgellmError as error:
            return [*ended, *self._all_failed(error)]
        drawn = [
            one for (slot, part), row in zip(parts, rows, strict=True) for one in self._went(slot, part, row)
        ]
        return [*ended, *drawn]

    def end(self, request: Request) -> None:
        """No more ids of it are wanted."""
        for slot in self._slots:
            if slot.request is request:
                slot.leave(self._n_steps)
                return
        with contextlib.suppress(ValueError):
            self._waiting.remove(request)

    def alone(self) -> contextlib.AbstractContextManager[Session]:
        """A session on the same weights."""
        return self._evaluator.session()

    def load(self) -> Load:
        """What it holds and does."""
        return Load(
            sum(slot.request is not None for slot in self._slots),
            len(self._waiting),
            sum(len(slot.tokens) for slot in self._slots),
            self.n_slots * self._evaluator.info.n_ctx,
            self._n_evaluated,
            self._n_cached,
        )

    def close(self) -> None:
        """Free everything."""
        for slot in self._slots:
            if slot.request is not None:
                slot.leave(self._n_steps)
        self._evaluator.close()

    def _admit(self) -> list[Drawn]:
        """Give free slots to those who wait; those who cannot be served are told so."""
        ended: list[Drawn] = []
        while self._waiting and (free := [slot for slot in self._slots if slot.request is None]):
            request = self._waiting.popleft()
            try:
                request.cancel.check()
                checks.check_tokens(request.prompt, 0, self._evaluator.info)
                checks.check_bias(request.sampling, self._evaluator.info.n_vocab)
            except EdgellmError as error:
                ended.append(Drawn(request, None, error))
                continue
            best = max(free, key=lambda slot: (common(slot.tokens, request.prompt), -slot.left))
            if common(best.tokens, request.prompt) < len(best.tokens) // 2:  # it would lose more than it has
                best = min(free, key=lambda slot: slot.left)
            self._n_taken += 1
            best.take(request, self._n_taken)
        return ended

    def _plan(self) -> list[tuple[_Slot, Part]]:
        """What goes into the next evaluation: every answer's next ids first."""
        room = self._evaluator.n_batch
        parts: list[tuple[_Slot, Part]] = []
        for slot in self._slots:
            if slot.wish:
                parts.append((slot, Part(slot.index, len(slot.tokens) - 1, slot.wish, len(slot.wish))))
                room -= len(slot.wish)
        if parts:
            room = min(room, CHUNK)
        for slot in self._reading():
            if room <= 0:
                break
            if slot.pieces is None and not self._begin(slot):
                continue
            n = min(room, slot.stop - len(slot.tokens))
            start, request = len(slot.tokens), slot.request
            assert request is not None
            last = start + n == len(request.prompt)
            parts.append((slot, Part(slot.index, start, request.prompt[start : start + n], int(last))))
            room -= n
        return parts

    def _reading(self) -> list[_Slot]:
        """Slots whose prompt is not yet evaluated: by turns that which came first, and those with the least to do."""
        waiting = [slot for slot in self._slots if slot.request is not None and slot.ids is None]
        if self._n_steps % 2:
            return sorted(waiting, key=lambda slot: slot.arrived)
        return sorted(waiting, key=lambda slot: (slot.to_read, slot.arrived))

    def _begin(self, slot: _Slot) -> bool:
        """Start a prompt from what the cache has of it; False where another prompt is about to have more."""
        request = slot.request
        assert request is not None
        wanted = [] if request.exact else request.prompt[:-1]
        donor, n = slot, self._evaluator.reusable(slot.index, common(slot.tokens, wanted))
        for other in self._slots:
            if other is slot or request.exact:
                continue
            shared = min(common(other.tokens, wanted), other.n_cached)
            if shared > n and (shared := self._evaluator.reusable(other.index, shared)) > n:
                donor, n = other, shared
        for other in self._slots:
            if other is not slot and other.is_reading and other.request is not None:
                coming = common(other.request.prompt, wanted)
                if coming >= n + _WORTH_WAITING and coming > len(other.tokens):
                    return False
        if donor is slot:
            self._evaluator.cut(slot.index, n)
        else:
            self._evaluator.share(donor.index, slot.index, n)
        slot.tokens = list(request.prompt[:n])
        request.n_cached, request.began = n, time.perf_counter()
        self._n_cached += n
        self._n_evaluated += len(request.prompt) - n
        slot.pieces = self._evaluator.pieces(slot.index, n, len(request.prompt))
        slot.pause()
        return True

    def _went(self, slot: _Slot, part: Part, row: int) -> list[Drawn]:
        """What came of a slot's part of the evaluation."""
        request = slot.request
        assert request is not None
        request.n_evaluated += len(part.tokens)
        if slot.ids is None:
            slot.tokens.extend(part.tokens)
            if len(slot.tokens) == slot.stop:
                slot.pause()
            if len(slot.tokens) < len(request.prompt):
                return []
            slot.answer(self.tokenizer)
        slot.first = row
        try:
            drawn = [Drawn(request, token) for token in slot.drawn()]
        except EdgellmError as error:
            slot.leave(self._n_steps)
            return [Drawn(request, None, error)]
        if not slot.wish:  # the context is full
            drawn.append(Drawn(request, None))
            slot.leave(self._n_steps)
        return drawn

    def _all_failed(self, error: EdgellmError) -> list[Drawn]:
        """The evaluation failed: what the cache holds of these sequences is not known."""
        failed = [slot for slot in self._slots if slot.request is not None]
        drawn = [Drawn(slot.request, None, error) for slot in failed if slot.request is not None]
        for slot in self._slots:
            slot.forget(self._n_steps)
        return drawn


class _Slot:
    """One sequence, its request and where that stands; a `steps.Stepper` for its answer."""

    def __init__(self, index: int, evaluator: Evaluator) -> None:
        self.index, self._evaluator = index, evaluator
        self.tokens: list[int] = []  # the sequence
        self.request: Request | None = None
        self.pieces: Iterator[tuple[int, bool]] | None = None  # of the prompt's evaluation; None: not begun
        self.stop = 0  # where it pauses next
        self.ids: Iterator[int | None] | None = None  # the answer's; None: the prompt is not evaluated yet
        self.wish: tuple[int, ...] = ()  # what the next evaluation is to hold: the last id, and draft tokens
        self.first = 0  # row of the logits after the last id drawn
        self.arrived = 0  # which request it is, counted from the first
        self.left = 0  # the step at which the last one ended
        self._keep = False  # the state, where the evaluation of the prompt pauses
        self._ahead = 0  # draft tokens in the cache beyond the sequence
        self._sampler: Any = None

    @property
    def to_read(self) -> int:
        """Tokens of the prompt that are not evaluated."""
        assert self.request is not None
        done = len(self.tokens) if self.pieces is not None else 0
        return len(self.request.prompt) - done

    @property
    def is_reading(self) -> bool:
        """Whether a prompt is being evaluated."""
        return self.pieces is not None and self.ids is None

    @property
    def n_cached(self) -> int:
        """Tokens of the sequence that are in the cache: all but one that was drawn just now."""
        return len(self.tokens) - bool(self.wish)

    def take(self, request: Request, arrived: int) -> None:
        """Serve `request`, the `arrived`-th."""
        self.request, self.pieces, self.ids, self.wish = request, None, None, ()
        self.arrived, self._keep = arrived, False

    def leave(self, step: int) -> None:
        """The request has ended; its sequence stays."""
        self._cut_drafts()
        if self.wish:
            self.tokens.pop()  # drawn, and not evaluated
        self.request, self.pieces, self.ids, self.wish, self.left = None, None, None, (), step
        if self._sampler is not None:
            self._evaluator.free(self._sampler)
            self._sampler = None

    def forget(self, step: int) -> None:
        """Drop request and sequence."""
        self.wish, self._ahead = (), 0
        self.leave(step)
        self.tokens = []
        self._evaluator.cut(self.index, 0)

    def pause(self) -> None:
        """Keep the state where one is due, and find the next place to pause."""
        assert self.pieces is not None
        while True:
            if self._keep:
                self._evaluator.keep(self.index, len(self.tokens))
            self.stop, self._keep = next(self.pieces, (self.stop, False))
            if self.stop > len(self.tokens) or not self._keep:
                return

    def answer(self, session: Session) -> None:
        """The prompt is evaluated; ids can be drawn."""
        request = self.request
        assert request is not None
        self._sampler = self._evaluator.sampler(request.sampling)
        room = self._evaluator.info.n_ctx - len(self.tokens)
        drafter = request.drafter if self._evaluator.drafts else None
        self.ids = steps.drawing(self, _Seen(session, self.tokens), room, request.constraint, drafter)

    def drawn(self) -> Iterator[int]:
        """The ids that the last evaluation decides."""
        assert self.ids is not None
        self.wish = ()
        for token in self.ids:
            if token is None:
                return
            yield token

    # What the loop of drawing asks of an engine:

    @property
    def max_draft(self) -> int:
        """Draft tokens that the next evaluation takes."""
        return MOST_DRAFTED if self._evaluator.drafts else 0

    def logits(self, row: int) -> Logits:
        """Logits after the row-th id of the slot's last part."""
        return self._evaluator.logits(self.first + row)

    def check(self, row: int) -> None:
        """Raise where the request was cancelled, or the logits are not numbers."""
        assert self.request is not None
        self.request.cancel.check()
        self._evaluator.check(self.first + row)

    def sample(self, row: int) -> int:
        """Draw from the logits of `row`."""
        return self._evaluator.sample(self._sampler, self.first + row)

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`, and have the next evaluation hold it and `draft`."""
        assert self.request is not None
        self._cut_drafts()
        self.tokens.append(token)
        self.wish, self._ahead = (token, *draft), len(draft)
        self.request.n_drafted += len(draft)

    def accept(self, token: int) -> None:
        """Append the next draft token, which is in the cache."""
        assert self.request is not None
        self.tokens.append(token)
        self._ahead -= 1
        self.request.n_accepted += 1

    def _cut_drafts(self) -> None:
        if self._ahead and self.wish == ():
            self._evaluator.cut(self.index, len(self.tokens))
        self._ahead = 0


class _Seen:
    """A session as a drafter sees it: its vocabulary, and this sequence."""

    def __init__(self, session: Session, tokens: list[int]) -> None:
        self._session, self.tokens = session, tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
