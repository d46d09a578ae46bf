"""The page's table of all runs: one row each, sortable where scripts run, plain where they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgellm.profiles.report.figures.line import Line
from edgellm.profiles.report.figures.numbers import shown_interval
from edgellm.profiles.report.figures.scale import Scale, scale_for
from edgellm.profiles.report.page.blocks import Card, Cell, Section, Table
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result import derive
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Report

#: A spread below this share is not shown.
_EXACT = 0.0005


def _even(value: float, scale: Scale) -> str:
    """A value of a column, with as many places as every other one."""
    places = 0 if scale.largest >= 100 else 1 if scale.largest >= 10 else 2
    return f"{value / scale.divisor:,.{places}f}"


@dataclass(frozen=True)
class _Column:
    """A column: the term that heads it, and a cell of a line."""

    name: str
    of: Callable[[Report, Line, Scale], Cell]
    unit: str = ""
    size: Callable[[Report, Line], float | None] = lambda report, line: None  # to choose the scale by


def _cell(value: float, text: str, small: str = "") -> Cell:
    """A figure, sorted by its value."""
    return Cell(text, small, value=f"{value:.9g}")


#: Not measured: sorted behind all that was.
_NONE = Cell("–", value="")


def _metric(name: str) -> _Column:
    def size(report: Report, line: Line) -> float | None:
        summary = line.run.summary(name)
        return summary.median if summary else None

    def of(report: Report, line: Line, scale: Scale) -> Cell:
        summary = line.run.summary(name)
        if summary is None:
            return _NONE
        low, high = shown_interval(summary) or (0.0, 0.0)
        wide = high - low > 2 * _EXACT * summary.median
        return _cell(
            summary.median,
            _even(summary.median, scale),
            f"{_even(low, scale)}–{_even(high, scale)}" if wide else "",
        )

    return _Column(name, of, derive.METRICS[name].unit, size)


def _quality(name: str, of: Callable[[QualityRecord], Cell]) -> _Column:
    def cell(report: Report, line: Line, scale: Scale) -> Cell:
        record = (report.quality or {}).get(line.run.model.name)
        return of(record) if record else _NONE

    return _Column(name, cell)


def _estimate(name: str, places: int, factor: float = 1.0) -> Callable[[QualityRecord], Cell]:
    def of(record: QualityRecord) -> Cell:
        found = getattr(record, name)
        if found is None:
            return _NONE
        value, ends = found.value * factor, ""
        if found.error is not None:
            half = 1.96 * found.error * factor
            ends = f"{max(value - half, 0.0):.{places}f}–{value + half:.{places}f}"
        return _cell(found.value, f"{value:.{places}f}", ends)

    return of


def _tasks(record: QualityRecord) -> Cell:
    if record.total is None or not record.total.n:
        return _NONE
    low, high = record.total.interval
    return _cell(record.total.value, f"{record.total.value:.1%}", f"{100 * low:.0f}–{high:.0%}")


def _bandwidth(report: Report, line: Line, scale: Scale) -> Cell:
    summary = line.run.summary("decode_bandwidth_share")
    return _cell(summary.median, f"{summary.median:.0%}") if summary else _NONE


COLUMNS = (
    _Column(
        "file_size",
        lambda report, line, scale: _cell(line.run.model.size_bytes, _even(line.run.model.size_bytes, scale)),
        "B",
        lambda report, line: float(line.run.model.size_bytes),
    ),
    _metric("prefill_tokens_per_second"),
    _metric("decode_tokens_per_second"),
    _metric("prefill_bytes_per_second"),
    _metric("decode_bytes_per_second"),
    _metric("ttft_seconds"),
    _metric("load_seconds"),
    _metric("peak_bytes"),
    _metric("decode_joules_per_token"),
    _metric("decode_joules_per_byte"),
    _Column("decode_bandwidth_share", _bandwidth),
    _quality("bits_per_byte", _estimate("bits_per_byte", 3)),
    _quality("kld_mean", _estimate("kld_mean", 4)),
    _quality("same_top", _estimate("same_top", 1, 100.0)),
    _quality("tasks_right", _tasks),
)


def all_runs(report: Report, shown: Sequence[Line], lang: str) -> Section:
    """A row for each run; columns that nobody has are left out."""
    head, columns = [Cell(say("model", lang))], [[_name(line) for line in shown]]
    for column in COLUMNS:
        sizes = [size for line in shown if (size := column.size(report, line)) is not None]
        scale = scale_for(column.unit, max(sizes)) if sizes else Scale(1.0, "")
        scale = replace(scale, largest=max(sizes, default=0.0) / scale.divisor)
        cells = [column.of(report, line, scale) for line in shown]
        if any(cell.value for cell in cells):
            unit = "%" if column.name == "same_top" else scale.unit
            head.append(Cell(metric_name(column.name, lang), unit))
            columns.append(cells)
    table = Table("numbers runs", list(zip(*columns, strict=True)), head)
    return Section("all_runs", say("all_runs_note", lang), [Card(css="scroll", table=table)], "")


def _name(line: Line) -> Cell:
    tail = line.label.removeprefix(line.run.model.name).removeprefix(" · ")
    return Cell(line.run.model.name, tail, line.css, line.label)
