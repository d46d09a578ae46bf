"""The page's tables of all numbers: mean, spread and interval of every measurement, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.numbers import Row, number_rows, shown_interval
from edgellm.profiles.report.figures.scale import capital
from edgellm.profiles.report.page.blocks import FEW, Card, Cell, Fold, Section, Table, heads
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result.result import Report
from edgellm.stats import Summary

#: Runs side by side in one table.
_COLUMNS = 6


def numbers(report: Report, shown: Sequence[Line], lang: str) -> Section:
    """As many tables as it takes; folded where there are many runs."""
    chunks = [shown[i : i + _COLUMNS] for i in range(0, len(shown), _COLUMNS)]
    cards = [Card(css="scroll", table=_table(report, chunk, lang)) for chunk in chunks]
    note = say("numbers_note", lang)
    if len(shown) > FEW:
        return Section("numbers", note, folds=[Fold(say("details", lang), cards)])
    return Section("numbers", note, cards, "")


def _table(report: Report, shown: Sequence[Line], lang: str) -> Table:
    rows = [
        [
            Cell(capital(metric_name(row.name, lang)), row.test),
            *(_cell(row, cell, lang) for cell in row.cells),
        ]
        for row in number_rows(report, [line.run for line in shown])
    ]
    return Table("numbers", rows, heads(shown, say("quantity", lang)))


def _cell(row: Row, summary: Summary | None, lang: str) -> Cell:
    if summary is None:
        return Cell(say("not_measured", lang))
    small, ends = "", shown_interval(summary)
    if ends:
        small = f"{row.scale.number(ends[0])} – {row.scale.number(ends[1])}"
    return Cell(f"{row.scale.spread(summary)} {row.scale.unit}", small)
