"""Markdown for an issue or a README: llama-bench's table with our columns, then energy and caveats."""

from __future__ import annotations

from collections.abc import Mapping

from edgellm.profiles.report.figures import machines
from edgellm.profiles.report.figures.axes import axes_table
from edgellm.profiles.report.figures.doubts import doubts
from edgellm.profiles.report.figures.llama_bench import Row, model_type, params, rows
from edgellm.profiles.report.figures.numbers import energy_reason
from edgellm.profiles.report.figures.scale import scale_for
from edgellm.profiles.report.figures.text_table import escape, markdown
from edgellm.profiles.report.words import say
from edgellm.profiles.result.result import Report
from edgellm.stats import plus_minus

SUFFIX = ".md"

_HEAD = (
    "model",
    "size",
    "params",
    "backend",
    "threads",
    "test",
    "t/s",
    "text B/s",
    "ttft",
    "peak",
    "J/tok",
    "bits/B",
    "right",
)


def render(report: Report, lang: str = "en") -> str:
    """A table with a row for each test of each model."""
    types = {run.model.name: model_type(run.model) for run in report.runs}
    table = [_HEAD, *(_cells(row, types[row["model_name"]]) for row in rows(report))]
    machine = report.machine.cpu_model or say("unknown", lang)
    about = escape(f"{machine}, {report.machine.os}, edgellm {report.edgellm_version}")
    text = [about, "", markdown(table), "", say("spread", lang), ""]
    if further := axes_table(report, lang):
        text += [markdown(further), ""]
    if reason := energy_reason(report):
        text += [f"{say('energy', lang)}: {say('not_measured', lang)} ({escape(reason)})", ""]
    text += [escape(f"- {line}") for line in doubts(report, lang)]
    return "\n".join(text).rstrip() + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    tables = machines.tables(results, lang)
    return "\n\n".join(f"**{escape(title)}**\n\n{markdown(found)}" for title, found in tables) + "\n"


def _cells(row: Row, kind: str) -> list[str]:
    return [
        f"{row['model_name']} ({kind})" if kind else row["model_name"],
        _scaled("B", row["model_size"]),
        params(row["model_n_params"]),
        row["engine"],
        str(row["n_threads"] or ""),
        row["test"],
        plus_minus(row["median_ts"] or 0.0, row["stddev_ts"]),
        f"{row['median_bytes_per_second']:.0f}" if row["median_bytes_per_second"] else "",
        _scaled("s", row["ttft_seconds"]),
        _scaled("B", row["peak_bytes"]),
        f"{row['joules_per_token']:.4g}" if row["joules_per_token"] is not None else "",
        f"{row['bits_per_byte']:.3f}" if row["bits_per_byte"] is not None else "",
        f"{row['tasks_exact']}/{row['tasks']}" if row["tasks"] else "",
    ]


def _scaled(unit: str, value: float | None) -> str:
    return scale_for(unit, value).text(value) if value is not None else ""
