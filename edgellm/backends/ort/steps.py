"""Evaluating draft tokens in ONNX Runtime: one run with logits at every position, and the cache
cut where one is rejected.

The session's list of ids is the sequence; while a stream runs, the cache may hold draft tokens beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgellm.backends import checks

if TYPE_CHECKING:
    from edgellm.backends.ort.cache import Cache
    from edgellm.backends.ort.runner import Runner
    from edgellm.backends.ort.sampler import Sampler
    from edgellm.session import EngineInfo, Logits

_ROWS = 16  # tokens in one run: more go through another kernel, which rounds otherwise


class OrtStepper:
    """A `steps.Stepper`. `tokens` is the session's own list, `first` the logits after the prompt."""

    def __init__(
        self,
        runner: Runner,
        cache: Cache,
        tokens: list[int],
        sampler: Sampler,
        first: Logits,
        info: EngineInfo,
        check: Callable[[], None],
    ) -> None:
        """`check` raises when the stream is to end, or the session was closed under it."""
        self._runner, self._cache, self._tokens, self._sampler = runner, cache, tokens, sampler
        self._info, self._check = info, check
        self._rows = first[None]
        self._ahead = 0  # draft tokens in the cache beyond the sequence

    @property
    def max_draft(self) -> int:
        """Fewer where tokens that a rejected draft took along come again."""
        self.settle()
        return max(_ROWS - 1 - (len(self._tokens) - self._cache.length), 0)

    def logits(self, row: int) -> Logits:
        """A view of the bound output."""
        logits: Logits = self._rows[row]
        return logits

    def check(self, row: int) -> None:
        """As the protocol says."""
        self._check()
        checks.check_finite(self._rows[row], self._info)

    def sample(self, row: int) -> int:
        """Draw with the sampler, which remembers the id for its penalties."""
        return self._sampler.draw(self._rows[row])

    def evaluate(self, token: int, draft: Sequence[int]) -> None:
        """Append `token`, then let the cache run ahead by the draft tokens."""
        self._check()
        self.settle()
        again = self._tokens[self._cache.length :]
        if not again:
            self._cache.mark(due=True)
        if draft:
            self._cache.try_out()
        self._rows = self._runner.run((*again, token, *draft), 1 + len(draft))
        self._ahead = len(draft)
        self._tokens.append(token)

    def accept(self, token: int) -> None:
        """The cache holds it already."""
        self._tokens.append(token)
        self._ahead -= 1

    def settle(self) -> None:
        """Cut the cache back to the sequence."""
        if self._ahead:
            self._ahead = 0
            self._cache.rewind(len(self._tokens))

    def __enter__(self) -> OrtStepper:
        return self

    def __exit__(self, *exc: object) -> None:
        self.settle()
