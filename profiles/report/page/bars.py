"""Bar charts of one measurement: one card, or one for each family, all in one scale."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.profiles.report.figures.line import Line, grouped
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.report.figures.scale import Scale, capital, scale_for
from edgellm.profiles.report.page.blocks import FEW, Card, Fold
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result import derive
from edgellm.stats import Summary


def measured(name: str, shown: Sequence[Line]) -> bool:
    """Whether any run has the measurement."""
    return any(line.run.measurement(name).samples for line in shown)


def bar_cards(name: str, shown: Sequence[Line], lang: str) -> list[Card]:
    """A card, or one for each family, where there are more runs than can each have a bar with its name over it."""
    summaries = [line.run.summary(name) for line in shown]
    largest = max(s.median for s in summaries if s)
    reach = max([largest, *(ends[1] for s in summaries if s and (ends := shown_interval(s)))])
    scale, title = scale_for(derive.METRICS[name].unit, largest), capital(metric_name(name, lang))
    if len(shown) <= FEW:
        bars = [_bar(name, line, scale, say("not_measured", lang)) for line in shown]
        return [Card(title, svg.bars(title, bars))]
    return [
        Card(
            title,
            svg.thin_bars(title, [_thin(name, line, scale) for line in own], reach),
            f"{scale.unit} · {family}",
        )
        for family, own in grouped(shown)
    ]


def bar_folds(names: Sequence[str], shown: Sequence[Line], lang: str) -> list[Fold]:
    """The same of several measurements, each behind a click."""
    return [Fold(capital(metric_name(name, lang)), bar_cards(name, shown, lang), "wide") for name in names]


def _bar(name: str, line: Line, scale: Scale, absent: str) -> svg.Bar:
    summary = line.run.summary(name)
    if summary is None:
        return svg.Bar(line.label, None, absent, line.css)
    text = f"{scale.spread(summary)} {scale.unit}"
    samples = line.run.measurement(name).samples
    hint = exact(line, scale, summary)
    return svg.Bar(line.label, summary.median, text, line.css, shown_interval(summary), samples, hint)


def _thin(name: str, line: Line, scale: Scale) -> svg.Bar:
    summary = line.run.summary(name)
    css = f"{line.css} s1" if line.second else line.css
    if summary is None:
        return svg.Bar(line.short, None, "–", line.css)
    shown, ends = scale.number(summary.median), shown_interval(summary)
    return svg.Bar(line.short, summary.median, shown, css, ends, hint=exact(line, scale, summary))


def exact(line: Line, scale: Scale, summary: Summary) -> str:
    """`model: 12.3 tok/s (95%: 12.1–12.5)`: what is told where a mark is pointed at."""
    ends = shown_interval(summary)
    tail = f" (95%: {scale.number(ends[0])}–{scale.number(ends[1])})" if ends else ""
    return f"{line.label}: {scale.number(summary.median)} {scale.unit}{tail}"
