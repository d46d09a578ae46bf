"""Two runs of one report held against each other, and the words that numbers of a sentence need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from edgellm.profiles.compare.verdict import AXES, Axis, Pair, judge
from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.scale import scale_for
from edgellm.profiles.report.words import say, sentence
from edgellm.profiles.result.result import Measurement
from edgellm.stats import Ratio


def axis_of(metric: str) -> Axis:
    """The axis that ranks by a measurement."""
    return next(axis for axis in AXES if axis.metric == metric)


def versus(a: Line, b: Line, metric: str) -> Pair:
    """`a` over `b`, paired by the launches they share; both were measured."""
    return _pair(a.run.measurement(metric), b.run.measurement(metric), axis_of(metric))


def _pair(a: Measurement, b: Measurement, axis: Axis) -> Pair:
    (verdict,) = judge([axis], [{axis.metric: a}, {axis.metric: b}], paired=True)
    return verdict.pairs[0]


def clear(found: Pair) -> bool:
    """Whether a difference may be claimed."""
    return found.differs


def differs(larger: Measurement, smaller: Measurement) -> bool:
    """Whether the samples carry the claim that `larger` is larger."""
    axis = Axis("any", larger.name, "higher")
    pair = _pair(larger, Measurement(larger.name, smaller.unit, smaller.samples, smaller.launches), axis)
    return pair.differs and pair.ratio.value > 1


def ranked(shown: Sequence[Line], metric: str, best: Callable[..., object]) -> list[Line]:
    """Those that were measured, the best (`max` or `min`) first."""
    measured = [line for line in shown if line.run.measurement(metric).samples]
    return sorted(measured, key=lambda line: mean(line, metric), reverse=best is max)


def mean(line: Line, metric: str) -> float:
    """The mean of a measurement that has samples."""
    summary = line.run.summary(metric)
    assert summary is not None
    return summary.mean


def interval(found: Ratio, lang: str) -> Markup:
    """`(95%: 1.1 to 1.3)`, small, or nothing."""
    if found.ci95_low is None or found.ci95_high is None:
        return Markup()
    return sentence("interval", lang, low=f"{found.ci95_low:.2f}", high=f"{found.ci95_high:.2f}")


def rate(line: Line, phase: str, lang: str) -> str:
    """`100 tok/s (300 B/s of text)`: the mean speed of a phase, "prefill" or "decode"."""
    tokens, size = mean(line, f"{phase}_tokens_per_second"), mean(line, f"{phase}_bytes_per_second")
    return say("rate", lang, tokens=text("tok/s", tokens), bytes=text("B/s", size))


def text(unit: str, value: float) -> str:
    """A value in the unit that fits it."""
    return scale_for(unit, value).text(value)
