"""How many draft tokens pay: from how often they are accepted and what evaluations take, as seen.

An evaluation of one id and m draft tokens takes T(m) and yields 1 + p1 + p1 p2 + ... ids, p being the rate at which
draft tokens of a kind were accepted so far. The m with the most ids per second is taken, none where no m gains enough.
Times and rates are measured here, while generating; nothing is assumed of an engine but a first estimate.

Where text does not repeat itself, little must be lost: draft tokens are a stake, of the time that is lost where none is
accepted, and no more is staked than was won before, a step and a fiftieth of the time. Knows no ids and no engine.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

#: Numbers of draft tokens to choose from. With the id drawn, most make multiples of four: what kernels are cut for.
LENGTHS = (1, 3, 7, 15, 31)
_GAIN = 1.08  # at least: less is within the error of the times
_SLOPE = 0.35  # of a plain step: what a draft token is taken to cost until that length was tried
_PLAIN = 3  # plain steps that must have been timed before anything is compared with them
_FADE = 0.98  # weight of older observations against one newer
_EXPIRES = 256  # steps, for each time that was taken, after which a length's oldest time is forgotten
_CREDIT, _SHARE, _MOST = 1.0, 0.02, 16.0  # to stake, in plain steps: at first, more for each, and at most

#: Draft tokens are told apart by the length of the match they come from: (least length, rate until seen).
_KINDS = ((0, 0.3), (3, 0.5), (5, 0.7), (9, 0.8), (17, 0.9))
_BOUNDS = tuple(bound for bound, _ in _KINDS)[1:]
_PRIOR_WEIGHT = 4.0  # observations that the rate until seen counts for


class DraftLength:
    """Measures steps and draft tokens. One per drafter, kept from generation to generation."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started: float | None = None  # of the step under way
        self._n = 0  # draft tokens in it
        self._accepted, self._unbroken = 0, False  # of these so far, and whether all of them
        self._credit = _CREDIT
        self._steps = 0
        self._times: dict[int, deque[float]] = {n: deque(maxlen=7) for n in (0, *LENGTHS)}
        self._typical: dict[int, float] = {}  # medians of these
        self._timed_at: dict[int, int] = {}
        self._seen = [_PRIOR_WEIGHT] * len(_KINDS)
        self._true = [_PRIOR_WEIGHT * rate for _, rate in _KINDS]

    def begin(self) -> None:
        """A generation starts: the time since the last one is no step."""
        self._started, self._n = None, 0

    def skip(self) -> None:
        """A step is over, and what follows it is none."""
        self._end(self._clock())
        self.begin()

    def saw(self, match: int, true: bool) -> None:
        """A draft token from a match of this length was accepted, or was not; evaluated ahead or not."""
        kind = bisect_right(_BOUNDS, match)
        self._seen[kind] = self._seen[kind] * _FADE + 1.0
        self._true[kind] = self._true[kind] * _FADE + true
        if self._unbroken and self._accepted < self._n:
            self._accepted += true
            self._unbroken = true

    def step(self, available: int, match: int, *, growing: bool = True) -> int:
        """A step starts; how many of the `available` draft tokens it should evaluate.

        With `growing`, each one accepted makes the match longer by one.
        """
        now = self._clock()
        self._end(now)
        self._started = now
        self._steps += 1
        self._accepted, self._unbroken = 0, True
        self._n = self._best(available, match, growing) if available else 0
        return self._n

    def insist(self, n: int) -> int:
        """The step just started evaluates `n` draft tokens after all, to see how many are accepted."""
        self._n = n
        return n

    def rate(self, match: int) -> float:
        """How often draft tokens from a match of this length are accepted."""
        kind = bisect_right(_BOUNDS, match)
        return self._true[kind] / self._seen[kind]

    def _best(self, available: int, match: int, growing: bool) -> int:
        if len(self._times[0]) < _PLAIN:
            return 0
        best, best_speed = 0, _GAIN / self._typical[0]
        expected, chance, done = 1.0, 1.0, 0
        for n in LENGTHS:
            if n > available or self._extra(n) > self._credit:
                break
            while done < n:
                chance *= self.rate(match + done if growing else match)
                expected += chance
                done += 1
            speed = expected / self._cost(n)
            if speed > best_speed:
                best, best_speed = n, speed
        return best

    def _end(self, now: float) -> None:
        """The step under way, if there is one, is over: what it took, and what it won or lost in plain steps."""
        if self._started is None:
            return
        self._note(self._n, now - self._started)
        if self._times[0]:
            won = self._accepted - min(self._extra(self._n), self._n) if self._n else _SHARE
            self._credit = min(self._credit + won, _MOST)

    def _extra(self, n: int) -> float:
        """What `n` draft tokens cost beyond a plain step, in plain steps."""
        return self._cost(n) / self._typical[0] - 1

    def _cost(self, n: int) -> float:
        """Seconds of a step with `n` draft tokens. Old times are forgotten one by one: they may be disturbed."""
        times = self._times.get(n)
        if times and self._steps - self._timed_at[n] > _EXPIRES * len(times):
            times.popleft()
            self._timed_at[n] = self._steps
            self._typical[n] = statistics.median(times) if times else 0.0
        return self._typical[n] if times else self._typical[0] * (1 + _SLOPE * n)

    def _note(self, n: int, seconds: float) -> None:
        times = self._times.get(n)
        if times is None:  # cut short by the room left
            return
        times.append(seconds)
        self._typical[n] = statistics.median(times)
        self._timed_at[n] = self._steps
