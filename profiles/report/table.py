"""A table for the terminal: a row for each quantity, a column for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgellm.profiles.report.figures import machines
from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.numbers import energy_reason, number_rows
from edgellm.profiles.report.figures.text_table import aligned
from edgellm.profiles.report.words import caveat_words, metric_name, say
from edgellm.profiles.result.result import Report
from edgellm.terminal import visible

SUFFIX = ".txt"

#: Runs side by side before the table goes on below.
_COLUMNS = 4


def render(report: Report, lang: str = "en") -> str:
    """Aligned text, nothing but the measurements, the reason for missing energy, and the caveats."""
    ran = lines([run for run in report.runs if run.launches], lang)
    blocks = [_block(report, ran[i : i + _COLUMNS], lang) for i in range(0, len(ran), _COLUMNS)]
    text = ["\n\n".join(blocks)] if blocks else []
    reason = energy_reason(report)
    if reason:
        text.append(visible(f"{say('energy', lang)}: {say('not_measured', lang)} - {reason}"))
    for caveat in report.caveats:
        fact, advice = caveat_words(caveat, lang)
        text.append(visible(f"! {caveat.subject + ': ' if caveat.subject else ''}{fact}; {advice}"))
    return "\n".join(text) + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    return "\n".join(
        f"{visible(title)}\n{aligned(found)}\n" for title, found in machines.tables(results, lang)
    )


def _block(report: Report, shown: Sequence[Line], lang: str) -> str:
    table = [["", *(line.label for line in shown), ""]]
    for row in number_rows(report, [line.run for line in shown]):
        label = f"{metric_name(row.name, lang)}{f'  {row.test}' if row.test else ''}"
        cells = [row.scale.spread(cell) if cell else "-" for cell in row.cells]
        table.append([label, *cells, row.scale.unit])
    return aligned(table, left=(0, len(table[0]) - 1))
