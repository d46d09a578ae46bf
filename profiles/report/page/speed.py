"""The page's sections on time: speeds, speed by context depth, token by token, repetitions in order."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape

from edgellm.profiles.report.page.cards import FEW, bar_cards, card, fold, grid, legend, measured, section
from edgellm.profiles.report.page.format import capital, digits, scale_for, tick
from edgellm.profiles.report.page.view import Line
from edgellm.profiles.report.plots import plot, svg
from edgellm.profiles.report.words.english import metric_name, say
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import Report, Run
from edgellm.stats import outliers

_FIRST = ("decode_bytes_per_second", "prefill_bytes_per_second")
_REST = ("ttft_seconds", "decode_tokens_per_second", "prefill_tokens_per_second", "load_seconds")


def speed(report: Report, shown: Sequence[Line], lang: str) -> str:
    """A bar chart for each speed; with many runs only the two that matter most stand open."""
    first = "".join(bar_cards(name, shown, lang) for name in _FIRST if measured(name, shown))
    rest = [name for name in _REST if measured(name, shown)]
    if len(shown) <= FEW:
        more = "".join(bar_cards(name, shown, lang) for name in rest)
        return section("speed", say("speed_note", lang), grid(first + more), lang)
    folds = "".join(
        fold(capital(metric_name(name, lang)), grid(bar_cards(name, shown, lang), "wide")) for name in rest
    )
    return section("speed", say("speed_note_many", lang), grid(first, "wide") + folds, lang)


def depth(report: Report, shown: Sequence[Line], lang: str) -> str:
    """Decode speed against the tokens in the cache, where a model ran at several depths."""
    curves: dict[tuple[str, object], list[Line]] = {}
    for line in shown:
        if line.run.summary("decode_tokens_per_second"):
            curves.setdefault((line.run.model.name, line.run.settings), []).append(line)
    several = [own for own in curves.values() if len({_depth(line.run) for line in own}) > 1]
    if not several:
        return ""
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
    return section("depth", say("depth_note", lang), grid(card("", chart + legend(shown)), "solo"), lang)


def _depth(run: Run) -> int:
    return run.workload.n_depth + run.workload.n_prompt


def _high(run: Run) -> float:
    summary = run.summary("decode_tokens_per_second")
    assert summary is not None
    return max(summary.mean, summary.ci95_high or 0.0)


def _depth_point(line: Line) -> plot.Point:
    summary = line.run.summary("decode_tokens_per_second")
    assert summary is not None
    low, high = summary.ci95_low, summary.ci95_high
    interval = None if low is None or high is None else (max(low, 0.0), high)
    hint = f"{line.label}: {digits(summary.mean)} tok/s"
    return plot.Point(_depth(line.run), summary.mean, line.css, hint, y_interval=interval, size=3.2)


def tokens(report: Report, shown: Sequence[Line], lang: str) -> str:
    """The time of each token along the answer, and the repetitions in order."""
    order = _strips(shown, lang) if len(shown) <= FEW else _order_plot(shown, lang)
    note = say("order_note" if len(shown) <= FEW else "order_all_note", lang)
    beside = f'<section><h2>{say("order", lang)}</h2><p class="note">{note}</p>{order}</section>'
    own = _gaps(shown, lang) if len(shown) <= FEW else ""
    return f'<div class="grid wide">{own}{beside}</div>' if order else own


def _gaps(shown: Sequence[Line], lang: str) -> str:
    series = [svg.Series(line.css, gap_medians(line.run)) for line in shown]
    if not any(s.values for s in series):
        return ""
    top = svg.axis_top(max(value for s in series for value in s.values))
    scale = scale_for("s", top)
    title = say("tokens_title", lang)
    chart = svg.lines(title, series, ("0", scale.text(top)), say("position", lang))
    return (
        f'<section><h2>{title}</h2><p class="note">{say("tokens_note", lang)}</p>'
        f'<div class="card">{chart}{legend(shown)}</div></section>'
    )


def gap_medians(run: Run) -> tuple[float, ...]:
    """Median over all repetitions of the gap at each position, in seconds."""
    columns = zip(*(r.gaps_ns for launch in run.launches for r in launch.repetitions), strict=True)
    return tuple(statistics.median(column) * derive.NS for column in columns)


def _strips(shown: Sequence[Line], lang: str) -> str:
    cards = []
    for line in shown:
        measurement = line.run.measurement("decode_tokens_per_second")
        if not measurement.samples:
            continue
        groups = tuple(
            tuple(s for s, i in zip(measurement.samples, measurement.launches, strict=True) if i == launch)
            for launch in sorted(set(measurement.launches))
        )
        rings = frozenset(outliers([value for group in groups for value in group]))
        low, high = svg.strip_range(measurement.samples)
        scale = scale_for("tok/s", high)
        words = [say("launch", lang, n=n + 1) for n in range(len(groups))]
        if len(groups) > 4:
            words = [str(n + 1) for n in range(len(groups))]
        strip = svg.Strip(line.css, groups, rings)
        chart = svg.strip(line.label, strip, (scale.number(low), scale.number(high)), words)
        cards.append(
            f'<div class="card"><h3>{escape(line.label)} <small>{scale.unit}</small></h3>{chart}</div>'
        )
    return grid("".join(cards))


def _order_plot(shown: Sequence[Line], lang: str) -> str:
    """All runs in one plot: each repetition against its run's median, at its launch's place in the order."""
    points = []
    for line in shown:
        measurement = line.run.measurement("decode_tokens_per_second")
        if not measurement.samples:
            continue
        middle = statistics.median(measurement.samples)
        places = {launch.index: launch.position for launch in line.run.launches}
        for sample, launch in zip(measurement.samples, measurement.launches, strict=True):
            share = sample / middle - 1
            hint = f"{line.label}: {digits(sample)} tok/s"
            points.append(plot.Point(places[launch] + 1, share, line.css, hint, size=2.2))
    if not points:
        return ""
    reach = min(1.0, max(0.05, *(abs(point.y) for point in points)))  # beyond it points stay at the edge
    x = plot.linear_axis(say("ax_order", lang), [1, *(p.x for p in points)], tick)
    y = plot.linear_axis(say("ax_deviation", lang), [-reach, reach], lambda v: f"{round(100 * v, 1):+g}%")
    return grid(card("", plot.plot(say("order", lang), x, y, points) + legend(shown)), "solo")
