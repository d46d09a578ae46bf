"""The page of a comparison: verdicts in words, ratios as a plot, the table; then all of the report, if it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgellm.profiles.compare.comparison import Comparison, label
from edgellm.profiles.report.comparison.rows import Row, axis_title, lines_of, names_of, notes, rows
from edgellm.profiles.report.figures.scale import capital
from edgellm.profiles.report.page.blocks import Card, Cell, Section, Table
from edgellm.profiles.report.page.document import render
from edgellm.profiles.report.page.report import glossary, view
from edgellm.profiles.report.plots import plot
from edgellm.profiles.report.words import say, sentence
from edgellm.profiles.result.result import Report

#: More candidates than this are counted in the title, and their values are the table's.
_NAMED = 3


@dataclass(frozen=True)
class Block:
    """One comparison on the page."""

    work: str
    sentences: Sequence[Markup]
    ratios: Section
    table: Card
    notes: Sequence[str]


def to_html(comparisons: Sequence[Comparison], report: Report | None, lang: str = "en") -> str:
    """The page as one string of HTML."""
    names = names_of(comparisons[0], lang)
    return render(
        "comparison.html.jinja",
        lang,
        title=say("cmp_versus", lang).join(names)
        if len(names) <= _NAMED
        else say("cmp_many", lang, n=len(names)),
        blocks=[_block(comparison, lang) for comparison in comparisons],
        view=view(report, lang) if report else None,
        words=glossary(
            [report] if report else [],
            lang,
            [verdict.axis.metric for comparison in comparisons for verdict in comparison.verdicts],
        ),
    )


def _block(comparison: Comparison, lang: str) -> Block:
    names = names_of(comparison, lang)
    found = rows(comparison, names, lang)
    return Block(
        label(comparison.candidates[0].run),
        _sentences(found, lang),
        _ratios(comparison, names, lang),
        Card(css="scroll", table=_table(found, names, lang)),
        notes(comparison, lang),
    )


def _sentences(found: Sequence[Row], lang: str) -> list[Markup]:
    """A sentence for each that is ahead somewhere, one for what is equal, one for what has no single best."""
    groups: dict[tuple[int | None, str], list[Markup]] = {}
    for row in found:
        part = Markup("{}").format(row.title)
        if len(row.values) <= _NAMED:
            part = sentence("cmp_axis", lang, axis=row.title, values=say("cmp_to", lang).join(row.values))
        groups.setdefault((row.winner, row.verdict), []).append(part)
    return [
        sentence(
            "cmp_verdict",
            lang,
            verdict=capital(verdict) if winner is None else verdict,
            axes=sentence("join_parts", lang).join(own),
        )
        for (winner, verdict), own in groups.items()
    ]


def _ratios(comparison: Comparison, names: Sequence[str], lang: str) -> Section:
    """For each candidate but the first: its ratios to the first, in the direction in which more is better."""
    cards = [_card(comparison, names, index, lang) for index in range(1, len(names))]
    return Section("ratios", say("cmp_plot_note", lang), cards, "wide" if len(cards) > 1 else "solo")


def _card(comparison: Comparison, names: Sequence[str], index: int, lang: str) -> Card:
    whiskers = []
    for verdict in comparison.verdicts:
        pair = verdict.pair(index, 0)
        if pair:
            better = pair.ratio if verdict.axis.better == "higher" else pair.ratio.inverse
            low, high = better.ci95_low, better.ci95_high
            ends = None if low is None or high is None else (low, high)
            css = lines_of(comparison, lang)[index].css if pair.differs else "same"
            whiskers.append(plot.Whisker(axis_title(verdict.axis, lang), better.value, ends, css))
    title = say("cmp_against", lang, a=names[index], b=names[0])
    return Card(title, plot.forest(title, whiskers, say("cmp_worse", lang), say("cmp_better", lang)))


def _table(found: Sequence[Row], names: Sequence[str], lang: str) -> Table:
    lines = [
        [Cell(row.title), *map(Cell, row.values, row.ratios), Cell(row.verdict)]  # a ratio below its value
        for row in found
    ]
    return Table("numbers", lines, [Cell(), *map(Cell, names), Cell(say("cmp_ahead", lang))])
