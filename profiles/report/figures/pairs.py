"""Two runs of one report held against each other, and the words that numbers of a sentence need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Sequence

from markupsafe import Markup

from edgellm.profiles.compare.verdict import AXES, QUALITY_AXES, Axis, Pair, pair_ratio, settle
from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.scale import scale_for
from edgellm.profiles.report.words import say, sentence
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Measurement
from edgellm.stats import Ratio, launch_medians, paired_ratio


def axis_of(metric: str) -> Axis:
    """The axis that ranks by a measurement."""
    return next(axis for axis in AXES if axis.metric == metric)


#: A metric, and what is held against what.
_Key = tuple[str, Hashable, Hashable]


class Tests:
    """What a page claims of pairs of runs, judged together: a page is written until it asks for no further test."""

    def __init__(self) -> None:
        self._asked: dict[_Key, tuple[Axis, Ratio]] = {}
        self._told: dict[_Key, Pair] = {}

    def versus(self, a: Line, b: Line, metric: str) -> Pair:
        """`a` over `b`, paired by the launches they share; both were measured."""
        axis = axis_of(metric)
        first, second = (line.run.measurement(metric) for line in (a, b))
        return self._pair(axis, id(a.run), id(b.run), lambda: pair_ratio(axis, first, second))

    def quality(self, axis: Axis, a: QualityRecord, b: QualityRecord) -> Pair | None:
        """`a` over `b` on an axis of quality; None where one of them has no such figure."""
        found = QUALITY_AXES[axis](a, b)
        return None if found is None else self._pair(axis, id(a), id(b), lambda: found)

    def across(self, pairs: Sequence[tuple[Line, Line]], metric: str) -> Pair:
        """The first of each pair over the second: the geometric mean over the pairs, launch by launch."""
        axis = axis_of(metric)
        logs: dict[int, list[float]] = {}
        for pair in pairs:
            own = [
                launch_medians(m.samples, m.launches) for m in (line.run.measurement(metric) for line in pair)
            ]
            for launch in own[0].keys() & own[1].keys():
                logs.setdefault(launch, []).append(math.log(own[0][launch] / own[1][launch]))
        means = [math.exp(statistics.fmean(of)) for _, of in sorted(logs.items()) if len(of) == len(pairs)]
        firsts, seconds = (tuple(id(pair[side].run) for pair in pairs) for side in (0, 1))
        return self._pair(axis, firsts, seconds, lambda: paired_ratio(means, [1.0] * len(means)))

    def settled(self) -> bool:
        """Judge what was asked for; whether all of it had been judged together already."""
        done = self._asked.keys() == self._told.keys()
        tests = [(axis, 0, 1, found) for axis, found in self._asked.values()]
        self._told = dict(zip(self._asked, settle(tests, paired=True), strict=True))
        return done

    def _pair(self, axis: Axis, a: Hashable, b: Hashable, ratio: Callable[[], Ratio]) -> Pair:
        key, turned = (axis.metric, a, b), (axis.metric, b, a)
        if turned in self._asked:
            return self._told_of(turned).flipped()
        if key not in self._asked:
            self._asked[key] = axis, ratio()
        return self._told_of(key)

    def _told_of(self, key: _Key) -> Pair:
        axis, found = self._asked[key]
        return self._told.get(key) or settle([(axis, 0, 1, found)], paired=True)[0]


def standing(pair: Pair, lang: str) -> Markup:
    """What is to be said of two that were not found to differ: the same within a margin, or that nobody can tell."""
    if pair.same_within is not None:
        return sentence("told_same", lang, margin=f"{pair.same_within:.0%}")
    low, high = pair.ratio.ci95_low, pair.ratio.ci95_high
    if low is None or high is None:
        return sentence("told_nothing", lang)
    values = {"low": f"{low:.2f}", "high": f"{high:.2f}", "n": pair.launches_to_tell}
    return sentence("told_not" if pair.launches_to_tell is None else "told_not_yet", lang, **values)


def differs(larger: Measurement, smaller: Measurement) -> bool:
    """Whether the samples carry the claim that `larger` is larger."""
    axis = Axis("any", larger.name, "higher")
    (pair,) = settle([(axis, 0, 1, pair_ratio(axis, larger, smaller))], paired=True)
    return pair.differs and pair.ratio.value > 1


def ranked(shown: Sequence[Line], metric: str, best: Callable[..., object]) -> list[Line]:
    """Those that were measured, the best (`max` or `min`) first."""
    measured = [line for line in shown if line.run.measurement(metric).samples]
    return sorted(measured, key=lambda line: median(line, metric), reverse=best is max)


def median(line: Line, metric: str) -> float:
    """What is shown of a measurement that has samples: the median of its launches."""
    summary = line.run.summary(metric)
    assert summary is not None
    return summary.median


def interval(found: Ratio, lang: str) -> Markup:
    """`(95%: 1.1 to 1.3)`, small, or nothing."""
    if found.ci95_low is None or found.ci95_high is None:
        return Markup()
    return sentence("interval", lang, low=f"{found.ci95_low:.2f}", high=f"{found.ci95_high:.2f}")


def rate(line: Line, phase: str, lang: str) -> str:
    """`100 tok/s (300 B/s of text)`: the speed of a phase, "prefill" or "decode"."""
    tokens, size = median(line, f"{phase}_tokens_per_second"), median(line, f"{phase}_bytes_per_second")
    return say("rate", lang, tokens=text("tok/s", tokens), bytes=text("B/s", size))


def text(unit: str, value: float) -> str:
    """A value in the unit that fits it."""
    return scale_for(unit, value).text(value)
