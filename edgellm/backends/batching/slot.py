"""One sequence of an engine, its request and where that stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgellm.backends import steps
from edgellm.backends.batching.engine import Request
from edgellm.backends.batching.evaluator import MOST_DRAFTED, Evaluator

if TYPE_CHECKING:
    from edgellm.session import Logits, Session


class Slot:
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
