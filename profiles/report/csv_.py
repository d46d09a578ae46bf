"""One line per test for a spreadsheet, with llama-bench's column names; lists are joined by spaces."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from edgellm.profiles.report.figures.llama_bench import Row, rows
from edgellm.profiles.result.result import Report
from edgellm.terminal import visible

SUFFIX = ".csv"

#: What makes a spreadsheet take a cell for a formula; a quote before it makes it text (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@")


def render(report: Report, lang: str = "en") -> str:
    """CSV with a header line; the language changes nothing. An empty cell was not measured."""
    return _text(rows(report))


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """The rows of all under one header: `cpu_info` tells the machine."""
    return _text([row for report in results.values() for row in rows(report)])


def _text(found: Sequence[Row]) -> str:
    out = io.StringIO()
    if found:
        writer = csv.DictWriter(out, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in found)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(str(_cell(each)) for each in value)
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
