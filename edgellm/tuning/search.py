"""Which settings to take: one knob after the other, its variants side by side, and only a difference that is there.

Knows neither engine nor process: a `Bench` measures. Every round visits all variants still in the race, in an order
that turns around, so that a slow minute of the machine slows them all; a variant leaves when it is credibly behind
and takes over only when it is credibly ahead.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgellm import stats
from edgellm.session import EngineOptions
from edgellm.tuning.space import DECODE, PREFILL, SHORT_PREFILL, Knob

MIN_ROUNDS, MAX_ROUNDS = 4, 9
_MAX_PREFILL_ROUNDS = 6  # they are long
#: Chance of a difference that is not there, at most. Small, for it is looked at after every round.
ALPHA = 0.01
MIN_GAIN = 1.02  # below it, another setting is not worth its name
HOPELESS = 0.75  # of the fastest: one round is enough to see that
PREFILL_FLOOR = 0.7  # of the best prompt speed seen: what faster decoding may cost

_PROMPT_ROUNDS = 3  # of the comparison at the end
_FLOOR_ROUNDS = 2  # a factor of 0.7 needs no more
_GRACE_SECONDS = 10.0  # over the budget, for the prompt speed of a setting that decodes faster

Progress = Callable[[str], None]


class Bench(Protocol):
    """Measures settings on one model. Rates are tokens per second of one short visit."""

    def start(self, variants: Sequence[EngineOptions]) -> None:
        """Get these ready, in a fresh process, and forget the others. Raises EngineError when none can be opened."""
        ...

    def why_not(self, options: EngineOptions) -> str | None:
        """Why these settings could not be opened; None when they are ready."""
        ...

    def visit(self, options: EngineOptions, phase: str, depth: int) -> float:
        """Tokens per second of `phase` (space.py) behind `depth` cached tokens."""
        ...


@dataclass(frozen=True)
class Request:
    """What to look for."""

    knobs: tuple[Knob, ...]
    start: EngineOptions
    depths: tuple[int, ...]  # cached tokens at which decoding matters to the user
    budget_seconds: float = 90.0
    lossy: bool = False  # try settings that change what the model computes


@dataclass(frozen=True)
class Trial:
    """One variant in one knob's race: medians of its visits, and how it ended."""

    knob: str
    options: EngineOptions
    phase: str
    rates: dict[int, float]  # depth -> tokens per second
    rounds: int
    verdict: str  # kept | taken | no faster | behind | prompts too slow | why it could not run


@dataclass(frozen=True)
class Found:
    """The end of a search."""

    options: EngineOptions
    trials: tuple[Trial, ...]
    seconds: float
    finished: bool  # False: the budget ended it


@dataclass(frozen=True)
class Comparison:
    """Two settings at one depth, side by side: tokens per second of each, and the ratio with its interval."""

    phase: str
    depth: int
    start: float
    found: float
    ratio: stats.Ratio


@dataclass
class Search:
    """One search; `run` does it."""

    bench: Bench
    request: Request
    progress: Progress = lambda text: None
    clock: Callable[[], float] = time.monotonic
    _trials: list[Trial] = field(default_factory=list)
    _best_prefill: dict[int, float] = field(default_factory=dict)

    def run(self) -> Found:
        """Turn each knob once. The budget is looked at between rounds; what was found by then stands."""
        begin = self.clock()
        self._deadline = begin + self.request.budget_seconds
        current, finished = self.request.start, True
        for number, knob in enumerate(self.request.knobs, start=1):
            if self._out_of_time():
                finished = False
                break
            self.progress(f"[{number}/{len(self.request.knobs)}] {knob.name}")
            current = self._turn(knob, current)
        finished = finished and not self._out_of_time()
        return Found(current, tuple(self._trials), self.clock() - begin, finished)

    def _turn(self, knob: Knob, current: EngineOptions) -> EngineOptions:
        """The best of this knob's variants of `current`."""
        variants = knob.variants(current, lossy=self.request.lossy)
        if len(variants) < 2:
            return current
        self.bench.start(variants)
        ready = []
        for options in variants:
            why = self.bench.why_not(options)
            if why is None:
                ready.append(options)
            else:
                self._trials.append(Trial(knob.name, options, knob.phase, {}, 0, why))
        if current not in ready or len(ready) < 2:
            return current
        race = _Race(self.bench, ready, knob.phase, self._depths(knob.phase), self._deadline, self.clock)
        race.run(MIN_ROUNDS, MAX_ROUNDS if knob.phase == DECODE else _MAX_PREFILL_ROUNDS)
        winner = current
        slow: list[EngineOptions] = []
        for faster in race.ahead():
            if knob.phase == DECODE and not self._prompts_fast_enough(current, faster):
                slow.append(faster)
                continue
            winner = faster
            break
        for options in ready:
            verdict = "prompts too slow" if options in slow else race.verdict(options, winner)
            self._trials.append(
                Trial(knob.name, options, knob.phase, race.medians(options), race.rounds(options), verdict)
            )
        return winner

    def _prompts_fast_enough(self, current: EngineOptions, winner: EngineOptions) -> bool:
        """Whether the winner's prompt speed is above the floor at every depth, both measured in turn."""
        race = _Race(
            self.bench,
            [current, winner],
            SHORT_PREFILL,
            self.request.depths,
            self._deadline + min(_GRACE_SECONDS, self.request.budget_seconds / 2),
            self.clock,
        )
        race.run(_FLOOR_ROUNDS, _FLOOR_ROUNDS)
        for options in (current, winner):
            for depth, rate in race.medians(options).items():
                self._best_prefill[depth] = max(rate, self._best_prefill.get(depth, 0.0))
        return all(
            rate >= PREFILL_FLOOR * self._best_prefill[depth] for depth, rate in race.medians(winner).items()
        )

    def _depths(self, phase: str) -> tuple[int, ...]:
        """Decoding counts at every depth; a prompt is long by itself."""
        return self.request.depths if phase == DECODE else self.request.depths[:1]

    def _out_of_time(self) -> bool:
        return self.clock() >= self._deadline


def compare(
    bench: Bench, a: EngineOptions, b: EngineOptions, depths: Sequence[int], rounds: int
) -> tuple[Comparison, ...]:
    """`b` over `a` in a process of their own: decoding at each depth, a long prompt at the first."""
    bench.start([a, b])
    found = []
    for phase, n, where in ((DECODE, rounds, depths), (PREFILL, _PROMPT_ROUNDS, depths[:1])):
        race = _Race(bench, [a, b], phase, where, math.inf, time.monotonic, drops=False)
        race.run(n, n)
        for place, depth in enumerate(where):
            mine, base = race.column(b, place), race.column(a, place)
            rates = statistics.median(base), statistics.median(mine)
            found.append(Comparison(phase, depth, *rates, stats.paired_ratio(mine, base)))
    return tuple(found)


class _Race:
    """Variants of one knob against the first of them, round by round."""

    def __init__(
        self,
        bench: Bench,
        variants: Sequence[EngineOptions],
        phase: str,
        depths: Sequence[int],
        deadline: float,
        clock: Callable[[], float],
        *,
        drops: bool = True,
    ) -> None:
        self._drops = drops
        self._bench, self._phase, self._depths = bench, phase, tuple(depths)
        self._deadline, self._clock = deadline, clock
        self._alive = list(variants)
        self._incumbent = variants[0]
        #: options -> rounds -> rates, one for each depth; everyone alive is visited in every round
        self._rates: dict[EngineOptions, list[tuple[float, ...]]] = {options: [] for options in variants}

    def run(self, min_rounds: int, max_rounds: int) -> None:
        """Rounds until one variant is left, nothing can change, or another round would not be done in time."""
        for number in range(max_rounds):
            begin = self._clock()
            self._round(number)
            if self._drops and number == 0:
                self._drop_hopeless()
            if self._drops and number + 1 >= min_rounds:
                self._thin_out()
            now = self._clock()
            if len(self._alive) < 2 or now + (now - begin) > self._deadline:
                return

    def ahead(self) -> list[EngineOptions]:
        """Those credibly faster than the incumbent, the fastest first."""
        ahead = [options for options in self._rates if options != self._incumbent and self._ahead(options)]
        return sorted(ahead, key=lambda options: -self._against(options).value)

    def medians(self, options: EngineOptions) -> dict[int, float]:
        """Depth -> median rate."""
        by_depth = zip(self._depths, zip(*self._rates[options], strict=True), strict=False)
        return {depth: statistics.median(rates) for depth, rates in by_depth}

    def column(self, options: EngineOptions, place: int) -> list[float]:
        """The rates of all rounds at one depth."""
        return [rates[place] for rates in self._rates[options]]

    def rounds(self, options: EngineOptions) -> int:
        """Rounds this variant took part in."""
        return len(self._rates[options])

    def verdict(self, options: EngineOptions, winner: EngineOptions) -> str:
        """How the race ended for `options`."""
        if options == winner:
            return "kept" if options == self._incumbent else "taken"
        return "behind" if options not in self._alive or self._behind(options, winner) else "no faster"

    def _round(self, number: int) -> None:
        for options in self._alive if number % 2 == 0 else self._alive[::-1]:
            rates = tuple(self._bench.visit(options, self._phase, depth) for depth in self._depths)
            self._rates[options].append(rates)

    def _drop_hopeless(self) -> None:
        best = max(self._scores(options)[0] for options in self._alive)
        self._alive = [
            o for o in self._alive if o == self._incumbent or self._scores(o)[0] >= HOPELESS * best
        ]

    def _thin_out(self) -> None:
        """Drop who is credibly behind the fastest; the incumbent stays until a challenger is credibly ahead of it."""
        leader = max(self._alive, key=lambda options: statistics.fmean(self._scores(options)))
        self._alive = [
            options for options in self._alive if options == leader or not self._behind(options, leader)
        ]
        if self._alive == [leader] or leader != self._incumbent:
            return
        if not any(self._may_win(options) for options in self._alive if options != leader):
            self._alive = [leader]

    def _may_win(self, options: EngineOptions) -> bool:
        """Whether more rounds could still show a gain worth having."""
        high = self._against(options).ci95_high
        return high is None or high >= MIN_GAIN

    def _ahead(self, options: EngineOptions) -> bool:
        found = self._against(options)
        return found.value >= MIN_GAIN and found.p_value is not None and found.p_value < ALPHA

    def _behind(self, options: EngineOptions, leader: EngineOptions) -> bool:
        mine, best = self._scores(options), self._scores(leader)
        n = min(len(mine), len(best))
        found = stats.paired_ratio(mine[:n], best[:n])
        return found.value < 1 and found.p_value is not None and found.p_value < ALPHA

    def _against(self, options: EngineOptions) -> stats.Ratio:
        """This variant's speed over the incumbent's, round by round."""
        mine, base = self._scores(options), self._scores(self._incumbent)
        n = min(len(mine), len(base))
        return stats.paired_ratio(mine[:n], base[:n]) if n else stats.Ratio(1.0, None, None)

    def _scores(self, options: EngineOptions) -> list[float]:
        """One number for each round: the geometric mean over the depths."""
        return [
            math.exp(statistics.fmean(math.log(rate) for rate in rates)) for rates in self._rates[options]
        ]
