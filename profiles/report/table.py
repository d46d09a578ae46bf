"""A table for the terminal: a line for each run, the figures people ask for first, and what to doubt.

Everything else is in the page and in the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgellm.profiles.report.figures import machines
from edgellm.profiles.report.figures.axes import axes_table
from edgellm.profiles.report.figures.doubts import FEW, doubts
from edgellm.profiles.report.figures.line import Line, lines
from edgellm.profiles.report.figures.numbers import Row, energy_reason, number_rows
from edgellm.profiles.report.figures.text_table import aligned
from edgellm.profiles.report.words import say
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Report
from edgellm.terminal import visible

SUFFIX = ".txt"
#: Runs that are shown: with head, units, energy and doubts they make 20 lines.
MOST = 12

#: Columns in this order, each where a run has the figure -> what they are called.
_COLUMNS = {
    "prefill_tokens_per_second": "col_prefill",
    "decode_tokens_per_second": "col_decode",
    "decode_bytes_per_second": "col_decode_text",
    "ttft_seconds": "col_ttft",
    "peak_bytes": "col_peak",
    "decode_joules_per_token": "col_energy",
}


def render(report: Report, lang: str = "en") -> str:
    """Aligned text: a head of names and units, a line for each run, why energy is missing, and the caveats."""
    every = lines([run for run in report.runs if run.launches], lang)
    shown = _first(every)
    text = [_head(shown, lang), aligned(_table(report, shown, lang))] if shown else []
    if more := len(every) - len(shown):
        text.append(say("table_more", lang, n=more))
    if further := axes_table(report, lang):
        text += ["", aligned(further), ""]
    if reason := energy_reason(report):
        off = all(line.run.workload.energy == "none" for line in shown)
        text.append(visible(reason) if off else say("table_no_energy", lang))
    text += [f"! {line}" for line in doubts(report, lang, FEW)]
    return "\n".join(text) + "\n"


def render_many(results: Mapping[str, Report], lang: str = "en") -> str:
    """Machine against machine: a table for each measurement."""
    return "\n".join(
        f"{visible(title)}\n{aligned(found)}\n" for title, found in machines.tables(results, lang)
    )


def _first(every: Sequence[Line]) -> list[Line]:
    """As many as there is room for: each model's fastest, then each one's second, as they were run."""

    def speed(line: Line) -> float:
        found = line.run.summary("decode_tokens_per_second") or line.run.summary("prefill_tokens_per_second")
        return found.median if found else 0.0

    places: dict[str, int] = {}
    ranked = []
    for line in sorted(every, key=speed, reverse=True):
        places[line.run.model.name] = places.get(line.run.model.name, 0) + 1
        ranked.append((places[line.run.model.name], line))
    kept = [id(line) for _, line in sorted(ranked, key=lambda each: each[0])[:MOST]]
    return [line for line in every if id(line) in kept]


def _head(shown: Sequence[Line], lang: str) -> str:
    """What all runs did, and how to read a figure."""
    works = {f"{line.run.workload.label_prefill}, {line.run.workload.label_decode}" for line in shown}
    counts = sorted({len(line.run.launches) for line in shown})
    return say(
        "table_head",
        lang,
        work="; ".join(works) if len(works) == 1 else say("table_works", lang),
        n="-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))),
        spread=say("spread", lang),
    )


def _table(report: Report, shown: Sequence[Line], lang: str) -> list[list[str]]:
    columns = [row for row in number_rows(report, [line.run for line in shown]) if _is_shown(row, shown)]
    order = list(_COLUMNS)
    columns.sort(key=lambda row: order.index(row.name.partition("@")[0]))
    names, units = [""], [""]
    for row in columns:
        base, _, meter = row.name.partition("@")
        names.append(say(_COLUMNS[base], lang) + (f" ({meter})" if meter else ""))
        units.append(row.scale.unit)
    body = [
        [line.label, *(row.scale.spread(cell) if (cell := row.cells[index]) else "-" for row in columns)]
        for index, line in enumerate(shown)
    ]
    _add_quality(
        [names, units, *body], [(report.quality or {}).get(line.run.model.name) for line in shown], lang
    )
    return [names, units, *body]


def _is_shown(row: Row, shown: Sequence[Line]) -> bool:
    """Text per second is told where models cut text otherwise: there tokens do not compare."""
    alike = len({round(line.run.launches[0].prompt.bytes_per_token, 6) for line in shown}) == 1
    return row.name.partition("@")[0] in _COLUMNS and not (alike and row.name == "decode_bytes_per_second")


def _add_quality(table: list[list[str]], records: Sequence[QualityRecord | None], lang: str) -> None:
    """Columns of what the models are worth, as far as it was measured."""
    found = [record or QualityRecord() for record in records]
    for key, cells in (
        ("col_bits", [f"{r.bits_per_byte.value:.3f}" if r.bits_per_byte else "-" for r in found]),
        ("col_kld", [f"{r.kld_mean.value:.4f}" if r.kld_mean else "-" for r in found]),
        ("col_right", [f"{r.total.value:.1%}" if r.total and r.total.n else "-" for r in found]),
    ):
        if any(cell != "-" for cell in cells):
            for line, cell in zip(table, [say(key, lang), "", *cells], strict=True):
                line.append(cell)
