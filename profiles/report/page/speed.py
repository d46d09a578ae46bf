"""The page's sections on time: speeds, speed by context depth, token by token, repetitions in order."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.report.figures.scale import digits, scale_for, tick
from edgellm.profiles.report.page.bars import bar_cards, bar_folds, exact, measured
from edgellm.profiles.report.page.blocks import FEW, Card, Section, legend
from edgellm.profiles.report.plots import plot, svg
from edgellm.profiles.report.words import say
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import Report, Run
from edgellm.stats import outliers

_DECODE = "decode_tokens_per_second"
_FIRST = ("prefill_tokens_per_second", "decode_tokens_per_second")
_TEXT = ("prefill_bytes_per_second", "decode_bytes_per_second")
_REST = ("ttft_seconds", "load_seconds")


def speed(report: Report, shown: Sequence[Line], lang: str) -> Section:
    """A bar chart for each speed. With many runs two stand open, and those by which different tokenizers compare."""
    tokenizers = {round(line.run.launches[0].prompt.bytes_per_token, 6) for line in shown}
    names = [name for name in (*_FIRST, *_TEXT, *_REST) if measured(name, shown)]
    if len(shown) <= FEW:
        cards = [card for name in names for card in bar_cards(name, shown, lang)]
        return Section("speed", say("speed_note", lang), cards)
    opened = (*_FIRST, *_TEXT) if len(tokenizers) > 1 else _FIRST
    cards = [card for name in names if name in opened for card in bar_cards(name, shown, lang)]
    folds = bar_folds([name for name in names if name not in opened], shown, lang)
    return Section("speed", say("speed_note_many", lang), cards, "wide", folds)


def depth(report: Report, shown: Sequence[Line], lang: str) -> Section | None:
    """Decode speed against the tokens in the cache, where a model ran at several depths."""
    curves: dict[tuple[str, object], list[Line]] = {}
    for line in shown:
        if line.run.summary(_DECODE):
            curves.setdefault((line.run.model.name, line.run.settings), []).append(line)
    several = [own for own in curves.values() if len({_depth(line.run) for line in own}) > 1]
    if not several:
        return None
    x = plot.linear_axis(say("ax_depth", lang), [_depth(line.run) for own in several for line in own], tick)
    highs = [_high(line.run) for own in several for line in own]
    y = plot.linear_axis("tok/s", highs, tick, zero=True)
    points, paths = [], []
    for own in several:
        ordered = sorted(own, key=lambda line: _depth(line.run))
        mine = [_depth_point(line) for line in ordered]
        points += mine
        kind = own[0].run.model.name.removeprefix(f"{own[0].family}-")
        paths.append(plot.Path(f"line {own[0].css}", tuple((p.x, p.y) for p in mine), kind))
    chart = plot.plot(say("depth", lang), x, y, points, paths)
    return Section("depth", say("depth_note", lang), [Card(chart=chart, legend=legend(shown))], "solo")


def _depth(run: Run) -> int:
    return run.workload.n_depth + run.workload.n_prompt


def _high(run: Run) -> float:
    summary = run.summary(_DECODE)
    assert summary is not None
    return max(summary.median, (shown_interval(summary) or (0.0, 0.0))[1])


def _depth_point(line: Line) -> plot.Point:
    summary = line.run.summary(_DECODE)
    assert summary is not None
    interval = shown_interval(summary)
    hint = exact(line, scale_for("tok/s", summary.median), summary)
    return plot.Point(_depth(line.run), summary.median, line.css, hint, y_interval=interval, size=3.2)


def tokens(report: Report, shown: Sequence[Line], lang: str) -> Section | None:
    """The time of each token along the answer: of few runs, for lines would hide each other."""
    series = [svg.Series(line.css, gap_medians(line.run)) for line in shown]
    if len(shown) > FEW or not any(s.values for s in series):
        return None
    top = svg.axis_top(max(value for s in series for value in s.values))
    scale = scale_for("s", top)
    chart = svg.lines(say("tokens", lang), series, ("0", scale.text(top)), say("position", lang))
    return Section("tokens", say("tokens_note", lang), [Card(chart=chart, legend=legend(shown))], "")


def order(report: Report, shown: Sequence[Line], lang: str) -> Section | None:
    """The repetitions in the order taken, one strip for each run or all in one plot."""
    if len(shown) <= FEW:
        cards = [_strip(line, lang) for line in shown if line.run.measurement(_DECODE).samples]
        return Section("order", say("order_note", lang), cards) if cards else None
    cards = _order_plot(shown, lang)
    return Section("order", say("order_all_note", lang), cards, "solo") if cards else None


def gap_medians(run: Run) -> tuple[float, ...]:
    """Median over all repetitions of the gap at each position, in seconds."""
    columns = zip(*(r.gaps_ns for launch in run.launches for r in launch.repetitions), strict=True)
    return tuple(statistics.median(column) * derive.NS for column in columns)


def _strip(line: Line, lang: str) -> Card:
    measurement = line.run.measurement(_DECODE)
    groups = tuple(
        tuple(s for s, i in zip(measurement.samples, measurement.launches, strict=True) if i == launch)
        for launch in sorted(set(measurement.launches))
    )
    rings = frozenset(outliers([value for group in groups for value in group]))
    low, high = svg.strip_range(measurement.samples)
    scale = scale_for("tok/s", high)
    words = [str(n) if len(groups) > 4 else say("launch", lang, n=n) for n in range(1, len(groups) + 1)]
    strip = svg.Strip(line.css, groups, rings)
    chart = svg.strip(line.label, strip, (scale.number(low), scale.number(high)), words)
    return Card(line.label, chart, scale.unit)


def _order_plot(shown: Sequence[Line], lang: str) -> list[Card]:
    """All runs in one plot: each repetition against its run's median, at its launch's place in the order."""
    points = []
    for line in shown:
        measurement = line.run.measurement(_DECODE)
        if not measurement.samples:
            continue
        middle = statistics.median(measurement.samples)
        places = {launch.index: launch.position for launch in line.run.launches}
        for sample, launch in zip(measurement.samples, measurement.launches, strict=True):
            share = sample / middle - 1
            hint = f"{line.label}: {digits(sample)} tok/s"
            points.append(plot.Point(places[launch] + 1, share, line.css, hint, size=2.2))
    if not points:
        return []
    reach = min(1.0, max(0.05, *(abs(point.y) for point in points)))  # beyond it points stay at the edge
    x = plot.linear_axis(say("ax_order", lang), [1, *(p.x for p in points)], tick)
    y = plot.linear_axis(say("ax_deviation", lang), [-reach, reach], lambda v: f"{round(100 * v, 1):+g}%")
    return [Card(chart=plot.plot(say("order", lang), x, y, points), legend=legend(shown))]
