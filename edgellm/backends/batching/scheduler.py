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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgellm.backends import checks
from edgellm.backends.batching.engine import Drawn, Load, Request
from edgellm.backends.batching.evaluator import Evaluator, Part
from edgellm.backends.batching.slot import Slot
from edgellm.errors import CancelledError, EdgellmError
from edgellm.session import common

if TYPE_CHECKING:
    from edgellm.session import Session

STALL_SECONDS = 1.0  # that answers wait for a piece of a prompt, about
_LEAST_CHUNK = 32  # tokens of such a piece, on however slow a machine
_FIRST_CHUNK = 128  # before its speed is known
_WORTH_WAITING = 32  # tokens that another prompt evaluates just now, and this one begins with as well


class Scheduler:
    """An `Engine` of as many sequences as its evaluator has slots. `tokenizer` has the vocabulary."""

    batching = "continuous"

    def __init__(self, evaluator: Evaluator, tokenizer: Session) -> None:
        self._evaluator, self.tokenizer = evaluator, tokenizer
        self.n_slots = evaluator.n_slots
        self._slots = [Slot(i, evaluator) for i in range(self.n_slots)]
        self._waiting: deque[Request] = deque()
        self._n_steps = self._n_taken = 0
        self._rate: float | None = None  # tokens of prompts evaluated a second, lately
        self._evaluated: list[Slot] = []  # those in the present evaluation, or the last

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
        start, self._evaluated = time.perf_counter(), [slot for slot, _ in parts]
        try:
            rows = self._evaluator.evaluate([part for _, part in parts])
        except CancelledError as error:
            return [*ended, *self._failed(self._evaluated, error)]
        except EdgellmError as error:
            return [*ended, *self._failed(self._slots, error)]
        self._time(parts, time.perf_counter() - start)
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

    def cancelled(self) -> None:
        """A request's wish to end has come, from any thread: stop an evaluation in which nobody else is."""
        if all(slot.request is None or slot.request.cancel.is_set for slot in self._evaluated):
            self._evaluator.interrupt()

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
            self._n_taken += 1
            self._best(free, request.prompt).take(request, self._n_taken)
        return ended

    def _best(self, free: Sequence[Slot], prompt: Sequence[int]) -> Slot:
        """The slot that has most of the prompt, else the one left longest ago; under load, beside those that run."""
        best = max(free, key=lambda slot: (common(slot.tokens, prompt), -slot.left))
        if common(best.tokens, prompt) >= len(best.tokens) // 2:  # it would not lose more than it has
            return best
        busy = [slot.index for slot in self._slots if slot.request is not None]
        if len(busy) > 2:  # an engine evaluates only neighbours at once (llama.cpp: consecutive streams)
            free = [slot for slot in free if min(busy) - 1 <= slot.index <= max(busy) + 1] or free
        return min(free, key=lambda slot: slot.left)

    def _plan(self) -> list[tuple[Slot, Part]]:
        """What goes into the next evaluation: every answer's next ids first."""
        room = self._evaluator.n_batch
        parts: list[tuple[Slot, Part]] = []
        for slot in self._slots:
            if slot.wish:
                parts.append((slot, Part(slot.index, len(slot.tokens) - 1, slot.wish, len(slot.wish))))
                room -= len(slot.wish)
        if parts:
            room = min(room, self._chunk)
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

    def _reading(self) -> list[Slot]:
        """Slots whose prompt is not yet evaluated: by turns that which came first, and those with the least to do."""
        waiting = [slot for slot in self._slots if slot.request is not None and slot.ids is None]
        if self._n_steps % 2:
            return sorted(waiting, key=lambda slot: slot.arrived)
        return sorted(waiting, key=lambda slot: (slot.to_read, slot.arrived))

    def _begin(self, slot: Slot) -> bool:
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
        slot.pieces = self._evaluator.pieces(slot.index, n, len(request.prompt))
        slot.pause()
        return True

    def _went(self, slot: Slot, part: Part, row: int) -> list[Drawn]:
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

    def _failed(self, slots: Sequence[Slot], error: EdgellmError) -> list[Drawn]:
        """An evaluation with these in it did not end well: what the cache holds of them is not known."""
        drawn = [Drawn(slot.request, None, error) for slot in slots if slot.request is not None]
        for slot in slots:
            slot.forget(self._n_steps)
        return drawn

    @property
    def _chunk(self) -> int:
        """Tokens of prompts in an evaluation that answers wait for."""
        return _FIRST_CHUNK if self._rate is None else max(_LEAST_CHUNK, int(self._rate * STALL_SECONDS))

    def _time(self, parts: Sequence[tuple[Slot, Part]], seconds: float) -> None:
        n = sum(len(part.tokens) for slot, part in parts if slot.ids is None)
        if n >= _LEAST_CHUNK and seconds > 0:
            self._rate = n / seconds if self._rate is None else 0.7 * self._rate + 0.3 * n / seconds
