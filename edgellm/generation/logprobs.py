"""What a model thought of the tokens that were drawn: their log-probabilities, and the likeliest beside them.

They are the model's own, before penalties, limits by a grammar and whatever the sampler cuts off: log-softmax of the
logits. Knows token ids and logits; knows no engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from edgellm.errors import EngineError

if TYPE_CHECKING:
    from edgellm.session import Constraint, Logits, Session


@dataclass(frozen=True)
class Logprob:
    """One token drawn."""

    token: int
    logprob: float  # natural logarithm of its probability
    top: tuple[tuple[int, float], ...]  # the likeliest tokens with theirs, likeliest first


@dataclass(frozen=True)
class TokenLogprob:
    """One token by its bytes: a `Logprob` that can be read without the model."""

    token: int
    data: bytes  # what it stands for: text, a part of a character, or nothing for control tokens
    logprob: float  # natural logarithm of its probability
    top: tuple[TokenLogprob, ...] = ()  # the likeliest tokens in its place, likeliest first

    @property
    def text(self) -> str:
        """`data` as text; a part of a character is U+FFFD."""
        return self.data.decode("utf-8", "replace")


def named(drawn: Logprob, session: Session) -> TokenLogprob:
    """With the bytes that the session's model has for the ids."""
    top = tuple(TokenLogprob(token, session.piece(token), logprob) for token, logprob in drawn.top)
    return TokenLogprob(drawn.token, session.piece(drawn.token), drawn.logprob, top)


class Logprobs:
    """A `Constraint` that forbids nothing and keeps the log-probabilities of what is taken; around another one, if any.

    `taken` has one for every id, in the order drawn; whoever reads it takes them out.
    """

    def __init__(self, n_top: int, inner: Constraint | None = None) -> None:
        self._n_top, self._inner = n_top, inner
        self._logits: Logits | None = None
        self._log_sum = 0.0
        self._top: tuple[tuple[int, float], ...] = ()
        self.taken: deque[Logprob] = deque()

    def apply(self, logits: Logits) -> None:
        """Look at `logits` as the model gave them, then have the other constraint narrow them."""
        import numpy as np

        peak = float(logits.max())
        self._log_sum = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
        self._top = ()
        if self._n_top:
            n_top = min(self._n_top, len(logits))
            found = np.argpartition(logits, -n_top)[-n_top:]
            found = found[np.lexsort((found, -logits[found]))]
            self._top = tuple((int(i), float(logits[i]) - self._log_sum) for i in found)
        self._logits = logits if self._inner is None else logits.copy()
        if self._inner is not None:
            self._inner.apply(logits)

    def take(self, token: int) -> int:
        """Keep the log-probability of `token`, or of the one that the other constraint puts in its place."""
        token = token if self._inner is None else self._inner.take(token)
        assert self._logits is not None
        self.taken.append(Logprob(token, float(self._logits[token]) - self._log_sum, self._top))
        return token

    def forced(self) -> Sequence[int]:
        """What the other constraint forces."""
        return () if self._inner is None else self._inner.forced()

    def follow(self, token: int) -> None:
        """Move past an id that another copy has taken."""
        if self._inner is not None:
            self._inner.follow(token)

    def recipe(self) -> Callable[[Session], Constraint]:
        """Refuse: what another process keeps would not be seen here. Raises EngineError."""
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise EngineError(
            "log-probabilities are told where the engine runs; open the model without isolation"
        )
