"""A table for the terminal: a row for each quantity, a column for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgellm.profiles.report.figures import machines
from edgellm.profiles.report.figures.numbers import energy_reason, number_rows
from edgellm.profiles.report.figures.text_table import aligned
from edgellm.profiles.report.words import caveat_words, metric_name, say
from edgellm.profiles.result.result import Report, Run

SUFFIX = ".txt"

#: Models side by side before the table goes on below.
_COLUMNS = 4


def render(report: Report, lang: str = "en") -> str:
    """Aligned text, nothing but the measurements, the reason for missing energy, and the caveats."""
    ran = [run for run in report.runs if run.launches]
    blocks = [_block(report, ran[i : i + _COLUMNS], lang) for i in range(0, len(ran), _COLUMNS)]
    lines = ["\n\n".join(blocks)] if blocks else []
    reason = energy_reason(report)
    if reason:
        lines.append(f"{say('energy', lang)}: {say('not_measured', lang)} - {reason}")
    for caveat in report.caveats:
        fact, advice = caveat_words(caveat, lang)
        lines.append(f"! {caveat.subject + ': ' if caveat.subject else ''}{fact}; {advice}")
    return "\n".join(lines) + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    return "\n".join(f"{title}\n{aligned(found)}\n" for title, found in machines.tables(results, lang))


def _block(report: Report, runs: Sequence[Run], lang: str) -> str:
    table = [["", *(run.model.name for run in runs), ""]]
    for row in number_rows(report, runs):
        label = f"{metric_name(row.name, lang)}{f'  {row.test}' if row.test else ''}"
        cells = [row.scale.spread(cell) if cell else "-" for cell in row.cells]
        table.append([label, *cells, row.scale.unit])
    return aligned(table, left=(0, len(table[0]) - 1))
