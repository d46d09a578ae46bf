"""Markdown for an issue or a README: llama-bench's table with our columns, then energy and caveats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgellm.profiles.report.page import joined
from edgellm.profiles.report.page.format import scale_for
from edgellm.profiles.report.page.numbers import energy_reason
from edgellm.profiles.report.page.rows import Row, model_type, params, rows
from edgellm.profiles.report.words.english import caveat_words, say
from edgellm.profiles.result.result import Report
from edgellm.stats import plus_minus
from edgellm.terminal import visible

SUFFIX = ".md"

_HEAD = ("model", "size", "params", "backend", "threads", "test", "t/s", "text B/s", "ttft", "peak", "J/tok")
_LEFT = 1  # columns set flush left
_MARKS = re.compile(r"[\\|]|!(?=\[)|(?<=\])[(:]")


def render(report: Report, lang: str = "en") -> str:
    """A table with a row for each test of each model."""
    types = {run.model.name: model_type(run.model) for run in report.runs}
    lines = [line(_HEAD), line(["---"] * _LEFT + ["---:"] * (len(_HEAD) - _LEFT))]
    lines += [line(_cells(row, types[row["model_name"]])) for row in rows(report)]
    machine = report.machine.cpu_model or say("unknown", lang)
    about = escape(f"{machine}, {report.machine.os}, edgellm {report.edgellm_version}")
    text = [about, "", *lines, ""]
    if reason := energy_reason(report):
        text += [f"{say('energy', lang)}: {say('not_measured', lang)} ({escape(reason)})", ""]
    for caveat in report.caveats:
        fact, advice = caveat_words(caveat, lang)
        text.append(escape(f"- {caveat.subject + ': ' if caveat.subject else ''}{fact}; {advice}"))
    return "\n".join(text).rstrip() + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    blocks = []
    for title, found in joined.tables(results, lang):
        lines = [line(found[0]), line(["---"] + ["---:"] * (len(found[0]) - 1)), *map(line, found[1:])]
        blocks.append("\n".join([f"**{escape(title)}**", "", *lines]))
    return "\n\n".join(blocks) + "\n"


def _cells(row: Row, kind: str) -> list[str]:
    return [
        f"{row['model_name']} ({kind})" if kind else row["model_name"],
        _scaled("B", row["model_size"]),
        params(row["model_n_params"]),
        row["engine"],
        str(row["n_threads"] or ""),
        row["test"],
        plus_minus(row["avg_ts"], row["stddev_ts"]),
        f"{row['avg_bytes_per_second']:.0f}" if row["avg_bytes_per_second"] else "",
        _scaled("s", row["ttft_seconds"]),
        _scaled("B", row["peak_bytes"]),
        f"{row['joules_per_token']:.4g}" if row["joules_per_token"] is not None else "",
    ]


def _scaled(unit: str, value: float | None) -> str:
    return scale_for(unit, value).text(value) if value is not None else ""


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def escape(text: str) -> str:
    """Text in which nobody can begin a cell, a tag, an image or a link, or hide anything."""
    return _MARKS.sub(r"\\\g<0>", visible(" ".join(text.split()))).replace("<", "&lt;")
