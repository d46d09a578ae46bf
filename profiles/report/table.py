"""A table for the terminal: a row for each quantity, a column for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgellm import terminal
from edgellm.profiles.report.page import joined
from edgellm.profiles.report.page.numbers import energy_reason, number_rows
from edgellm.profiles.report.words.english import caveat_words, metric_name, say
from edgellm.profiles.result.result import Report, Run
from edgellm.terminal import visible

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
        lines.append(visible(f"{say('energy', lang)}: {say('not_measured', lang)} - {reason}"))
    for caveat in report.caveats:
        fact, advice = caveat_words(caveat, lang)
        lines.append(visible(f"! {caveat.subject + ': ' if caveat.subject else ''}{fact}; {advice}"))
    return "\n".join(lines) + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    return "\n".join(f"{visible(title)}\n{aligned(found)}\n" for title, found in joined.tables(results, lang))


def aligned(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns of one width each; those in `left` begin at their left edge."""
    sides = "".join("<" if i in left else ">" for i in range(len(table[0])))
    return "\n".join(terminal.aligned(table, sides))


def _block(report: Report, runs: Sequence[Run], lang: str) -> str:
    table = [["", *(run.model.name for run in runs), ""]]
    for row in number_rows(report, runs):
        label = f"{metric_name(row.name, lang)}{f'  {row.test}' if row.test else ''}"
        cells = [row.scale.spread(cell) if cell else "-" for cell in row.cells]
        table.append([label, *cells, row.scale.unit])
    return aligned(table, (0, len(runs) + 1))
