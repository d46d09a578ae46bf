"""Drawing a token from logits with the meaning of llama.cpp's sampler chain, in numpy.

The order is bias, penalties, top-k, top-p, min-p, temperature, draw; each stage sees what the one before left. Source:
src/llama-sampler.cpp of llama.cpp; the tests hold the candidates after every setting against its own chain.
Knows logits and ids, no engine.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgellm.backends import checks
from edgellm.session import Sampling

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgellm.session import Logits

    Ids = npt.NDArray[np.intp]

_GROUP = 64  # logits per group when looking for the k largest: the groups' maxima alone name few candidates
_FIRST_LOOK = 1024  # candidates sorted at first when there is no top-k: few models spread more widely


class Candidates(NamedTuple):
    """What is left to draw from, largest logit first. Logits are before temperature."""

    ids: Ids
    logits: Logits


class Sampler:
    """Draws ids one after the other; penalties look back on what it drew itself."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(checks.seed(sampling))
        self._recent: deque[int] = deque(maxlen=max(sampling.repeat_last_n, 0))

    def draw(self, logits: Logits) -> int:
        """The next id. `logits` [n_vocab] is not changed."""
        if self._sampling.temperature <= 0:
            token = int(np.argmax(self._penalized(logits)))
        else:
            ids, shares = self.distribution(logits)
            cumulative = np.cumsum(shares, dtype=np.float64)
            place = np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right")
            token = int(ids[min(int(place), len(ids) - 1)])
        self._recent.append(token)
        return token

    def distribution(self, logits: Logits) -> tuple[Ids, Logits]:
        """The ids that can be drawn next, likeliest first, and their probabilities; for a temperature above 0."""
        left = candidates(self._penalized(logits), self._sampling)
        return left.ids, _softmax(left.logits / np.float32(self._sampling.temperature))

    def _penalized(self, logits: Logits) -> Logits:
        if self._sampling.logit_bias:
            logits = logits.copy()
            for token, bias in self._sampling.logit_bias:
                logits[token] += bias
        return penalized(logits, self._recent, self._sampling) if self._penalizes else logits

    @property
    def _penalizes(self) -> bool:
        s = self._sampling
        return (
            bool(s.repeat_penalty != 1.0 or s.frequency_penalty or s.presence_penalty)
            and s.repeat_last_n != 0
        )


def penalized(logits: Logits, recent: deque[int], sampling: Sampling) -> Logits:
    """A copy of `logits` with the penalties on the ids in `recent`."""
    logits = logits.copy()
    for token, count in Counter(recent).items():
        value = logits[token]
        value = value * sampling.repeat_penalty if value <= 0 else value / sampling.repeat_penalty
        logits[token] = value - count * sampling.frequency_penalty - sampling.presence_penalty
    return logits


def candidates(logits: Logits, sampling: Sampling) -> Candidates:
    """What top-k, top-p and min-p leave."""
    s = sampling
    left = _largest(logits, s.top_k if 0 < s.top_k < len(logits) else len(logits), s)
    if s.top_p < 1.0:
        cumulative = np.cumsum(_shares(left, logits, s), dtype=np.float32)
        left = _first(left, int(np.searchsorted(cumulative, np.float32(s.top_p), side="left")) + 1)
    if s.min_p > 0.0:
        threshold = left.logits[0] + np.float32(np.log(s.min_p))
        left = _first(left, max(1, int(np.count_nonzero(left.logits >= threshold))))
    return left


def _shares(left: Candidates, logits: Logits, sampling: Sampling) -> Logits:
    """Probabilities of `left`, among all that top-k keeps: without a top-k, among the whole vocabulary."""
    if 0 < sampling.top_k < len(logits):
        return _softmax(left.logits)
    powers: Logits = np.exp(left.logits - left.logits[0])
    powers /= np.exp(logits - left.logits[0]).sum(dtype=np.float32)
    return powers


def _largest(logits: Logits, k: int, sampling: Sampling) -> Candidates:
    """The k largest, sorted. All of them are only sorted when the later stages need so many."""
    if k == len(logits) and k > _FIRST_LOOK and (sampling.top_p < 1.0 or sampling.min_p > 0.0):
        few = _top(logits, _FIRST_LOOK)
        if _enough(few, logits, sampling):
            return few
    return _top(logits, k)


def _enough(few: Candidates, logits: Logits, sampling: Sampling) -> bool:
    """Whether top-p or min-p would end within `few`."""
    if sampling.top_p < 1.0 and _shares(few, logits, sampling).sum(dtype=np.float64) > sampling.top_p + 1e-4:
        return True
    return sampling.min_p > 0.0 and few.logits[-1] < few.logits[0] + np.float32(np.log(sampling.min_p))


def _top(logits: Logits, k: int) -> Candidates:
    n = len(logits)
    if k * _GROUP * 4 < n:
        whole = n // _GROUP * _GROUP
        peaks = logits[:whole].reshape(-1, _GROUP).max(axis=1)
        floor = np.partition(peaks, len(peaks) - k)[len(peaks) - k]  # k groups reach it, so k logits do
        ids = np.flatnonzero(logits >= floor)
    else:
        ids = np.arange(n)
    order = np.argsort(-logits[ids], kind="stable")[:k]
    ids = ids[order]
    return Candidates(ids, logits[ids])


def _first(left: Candidates, n: int) -> Candidates:
    return Candidates(left.ids[:n], left.logits[:n])


def _softmax(logits: Logits) -> Logits:
    powers: Logits = np.exp(logits - logits.max())
    powers /= powers.sum(dtype=np.float32)
    return powers
