"""Pieces that the page's sections are built from: sections, cards, folds, legends, bar charts of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgellm.profiles.report.page.format import capital, scale_for
from edgellm.profiles.report.page.view import Line, grouped
from edgellm.profiles.report.plots import svg
from edgellm.profiles.report.words.english import metric_name, say
from edgellm.profiles.result import derive

#: Up to so many runs each has a bar with its name over it; beyond, thin bars stand under their family's name.
FEW = 6


def section(key: str, note: str, body: str, lang: str) -> str:
    """A heading, a note, and what belongs to them."""
    below = f'<p class="note">{note}</p>' if note else ""
    return f'<section><h2 id="{key}">{say(key, lang)}</h2>{below}{body}</section>'


def card(title: str, body: str, extra: str = "") -> str:
    """A box; `title` is text, `body` markup."""
    head = f"<h3>{escape(title)}{extra}</h3>" if title else ""
    return f'<div class="card">{head}{body}</div>'


def grid(cards: str, css: str = "charts") -> str:
    """Boxes side by side where there is room."""
    return f'<div class="grid {css}">{cards}</div>' if cards else ""


def fold(title: str, body: str) -> str:
    """Something that opens at a click; on paper it is open."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def legend(shown: Sequence[Line]) -> str:
    """Colours and their models, or families where one colour stands for many models."""
    names: dict[str, str] = {}
    for line in shown:
        names.setdefault(line.css, line.run.model.name if _one_model(shown, line.css) else line.family)
    items = "".join(f'<span class="{css}"><b></b>{escape(name)}</span>' for css, name in names.items())
    return f'<div class="legend">{items}</div>'


def _one_model(shown: Sequence[Line], css: str) -> bool:
    return len({line.run.model.name for line in shown if line.css == css}) == 1


def measured(name: str, shown: Sequence[Line]) -> bool:
    """Whether any run has the measurement."""
    return any(line.run.measurement(name).samples for line in shown)


def bar_cards(name: str, shown: Sequence[Line], lang: str) -> str:
    """A bar chart of a measurement: one card, or one for each family, all in one scale."""
    summaries = [line.run.summary(name) for line in shown]
    largest = max(s.mean for s in summaries if s)
    reach = max([largest, *(s.ci95_high for s in summaries if s and s.ci95_high and s.n > 2)])
    if len(shown) <= FEW:
        return card(capital(metric_name(name, lang)), _bars(name, shown, largest, lang))
    return "".join(
        card(
            f"{capital(metric_name(name, lang))}",
            _thin(name, own, largest, reach, lang),
            f" <small>{escape(family)}</small>",
        )
        for family, own in grouped(shown)
    )


def _bars(name: str, shown: Sequence[Line], largest: float, lang: str) -> str:
    scale = scale_for(derive.METRICS[name].unit, largest)
    rows = []
    for line in shown:
        summary = line.run.summary(name)
        if summary is None:
            rows.append(svg.Bar(line.label, None, say("not_measured", lang), line.css))
            continue
        low, high = (None, None) if summary.n < 3 else (summary.ci95_low, summary.ci95_high)
        text = f"{scale.spread(summary)} {scale.unit}"
        samples = line.run.measurement(name).samples
        rows.append(svg.Bar(line.label, summary.mean, text, line.css, low, high, samples))
    return svg.bars(capital(metric_name(name, lang)), rows)


def _thin(name: str, shown: Sequence[Line], largest: float, reach: float, lang: str) -> str:
    scale = scale_for(derive.METRICS[name].unit, largest)
    rows = []
    for line in shown:
        summary = line.run.summary(name)
        if summary is None:
            rows.append(svg.Bar(line.short, None, "–", line.css))
            continue
        low, high = (None, None) if summary.n < 3 else (summary.ci95_low, summary.ci95_high)
        text = f"{scale.number(summary.mean)} {scale.unit}"
        css = f"{line.css} s1" if line.second else line.css
        rows.append(svg.Bar(line.short, summary.mean, text, css, low, high))
    return svg.thin_bars(capital(metric_name(name, lang)), rows, reach)
