"""What a model is worth and what it costs, as figures with intervals: for plots and for findings alike.

Knows the report; draws nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.quality_stats import Estimate, Share
from edgellm.profiles.result.result import Report, Run
from edgellm.stats import Summary

_Z95 = 1.959964
KILOBYTE = 1000.0


@dataclass(frozen=True)
class Figure:
    """A value with its 95% interval, None where none can be given."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def scaled(self, factor: float) -> Figure:
        """In other units."""
        ends = (None if end is None else end * factor for end in (self.low, self.high))
        return Figure(self.value * factor, *ends)


@dataclass(frozen=True)
class Offer:
    """One model at its best settings: what it is worth, what it costs."""

    line: Line
    quality: QualityRecord
    bits: Figure | None  # bits per byte
    wrong: Figure | None  # share of tasks answered wrongly
    seconds: Figure | None  # to decode a kilobyte of text
    joules: Figure | None  # the same
    peak: Figure | None  # bytes of memory


def offers(report: Report, shown: Sequence[Line]) -> list[Offer]:
    """An offer for each model whose quality was measured, at the settings with which it decodes fastest."""
    best: dict[str, Line] = {}
    for line in shown:
        rate = _rate(line.run)
        if (
            rate and rate > _rate(best.get(line.run.model.name, line).run)
        ) or line.run.model.name not in best:
            best[line.run.model.name] = line
    quality = report.quality or {}
    return [_offer(line, quality[name]) for name, line in best.items() if name in quality]


def _rate(run: Run) -> float:
    summary = run.summary("decode_bytes_per_second")
    return summary.median if summary else 0.0


def _offer(line: Line, quality: QualityRecord) -> Offer:
    run = line.run
    joules = figure(run.summary("decode_joules_per_byte"))
    return Offer(
        line,
        quality,
        estimate(quality.bits_per_byte),
        wrong(quality.total),
        seconds_per_kilobyte(run),
        joules.scaled(KILOBYTE) if joules else None,
        figure(run.summary("peak_bytes")),
    )


def figure(summary: Summary | None) -> Figure | None:
    """A measurement's mean and interval; an interval needs three samples."""
    if summary is None:
        return None
    return Figure(summary.median, *(shown_interval(summary) or (None, None)))


def estimate(found: Estimate | None) -> Figure | None:
    """A quality figure with 1.96 standard errors to both sides."""
    if found is None:
        return None
    if found.error is None:
        return Figure(found.value)
    return Figure(found.value, found.value - _Z95 * found.error, found.value + _Z95 * found.error)


def wrong(total: Share | None) -> Figure | None:
    """The share that is not right, with Wilson's interval."""
    if total is None or not total.n:
        return None
    low, high = total.interval
    return Figure(1 - total.value, 1 - high, 1 - low)


def seconds_per_kilobyte(run: Run) -> Figure | None:
    """Time to decode a thousand bytes of text."""
    rate = figure(run.summary("decode_bytes_per_second"))
    if rate is None or not rate.value:
        return None
    ends = (None, None) if not rate.low or not rate.high else (KILOBYTE / rate.high, KILOBYTE / rate.low)
    return Figure(KILOBYTE / rate.value, *ends)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats in both coordinates, smaller being better, from left to right."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] < points[kept[-1]][1]:
            kept.append(index)
    return kept
