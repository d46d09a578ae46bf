"""A table for the terminal: a row for each quantity, a column for each model."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from edgellm.profiles.report.page import joined
from edgellm.profiles.report.page.numbers import energy_reason, number_rows
from edgellm.profiles.report.words.english import caveat_words, metric_name, say
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
    return "\n".join(f"{title}\n{aligned(found)}\n" for title, found in joined.tables(results, lang))


def aligned(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns of one width each; those in `left` begin at their left edge."""
    widths = [max(width(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [[pad(cell, widths[i], left=i in left) for i, cell in enumerate(line)] for line in table]
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def _block(report: Report, runs: Sequence[Run], lang: str) -> str:
    table = [["", *(run.model.name for run in runs), ""]]
    for row in number_rows(report, runs):
        label = f"{metric_name(row.name, lang)}{f'  {row.test}' if row.test else ''}"
        cells = [row.scale.spread(cell) if cell else "-" for cell in row.cells]
        table.append([label, *cells, row.scale.unit])
    widths = [max(width(line[i]) for line in table) for i in range(len(table[0]))]
    return "\n".join(_line(line, widths) for line in table)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = (
        pad(cell, size, left=index == 0) for index, (cell, size) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *middle, last.strip()]).rstrip()


def pad(text: str, size: int, *, left: bool) -> str:
    """Fill up to `size` columns of a terminal, where Chinese characters take two."""
    space = " " * (size - width(text))
    return text + space if left else space + text


def width(text: str) -> int:
    """Columns a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
