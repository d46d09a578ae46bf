"""The page's table of all runs: one row each, sortable where scripts run, plain where they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from edgellm.profiles.report.page.cards import section
from edgellm.profiles.report.page.format import Scale, scale_for
from edgellm.profiles.report.page.view import Line
from edgellm.profiles.report.words.english import say
from edgellm.profiles.result import derive
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Report

#: Sorts a table by the column whose head is clicked, largest or smallest first in turn. The page is whole without it.
SCRIPT = """
for(const t of document.querySelectorAll('table.runs')){const b=t.tBodies[0];
t.tHead.rows[0].querySelectorAll('th').forEach((h,i)=>{h.tabIndex=0;let up=false;const sort=()=>{up=!up;
t.querySelectorAll('th[aria-sort]').forEach(o=>o.removeAttribute('aria-sort'));
h.setAttribute('aria-sort',up?'ascending':'descending');
const v=r=>r.cells[i].dataset.v??r.cells[i].textContent;
[...b.rows].sort((x,y)=>{const p=v(x),q=v(y);if(p===''||q==='')return (p==='')-(q==='');
const d=isNaN(p)||isNaN(q)?p.localeCompare(q):p-q;return up?d:-d}).forEach(r=>b.append(r))};
h.onclick=sort;h.onkeydown=e=>{if(e.key==='Enter'||e.key===' '){e.preventDefault();sort()}}})}
"""


#: A spread below this share is not shown.
_EXACT = 0.0005


def _even(value: float, scale: Scale) -> str:
    """A value of a column, with as many places as every other one."""
    places = 0 if scale.largest >= 100 else 1 if scale.largest >= 10 else 2
    return f"{value / scale.divisor:,.{places}f}"


def two(value: float) -> str:
    """Two significant digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


@dataclass(frozen=True)
class _Cell:
    """A value to sort by, and how it reads."""

    value: float | None
    text: str


@dataclass(frozen=True)
class _Column:
    """A column: its head, and a cell of a line."""

    key: str
    of: Callable[[Report, Line, Scale], _Cell]
    unit: str = ""
    size: Callable[[Report, Line], float | None] = lambda report, line: None  # to choose the scale by


def _metric(key: str, name: str) -> _Column:
    def size(report: Report, line: Line) -> float | None:
        summary = line.run.summary(name)
        return summary.mean if summary else None

    def of(report: Report, line: Line, scale: Scale) -> _Cell:
        summary = line.run.summary(name)
        if summary is None:
            return _Cell(None, "–")
        text = _even(summary.mean, scale)
        if summary.n > 2 and summary.ci95_high is not None and summary.ci95_low is not None:
            half = (summary.ci95_high - summary.ci95_low) / 2
            if half > _EXACT * summary.mean:
                text += f"<small>± {two(half / scale.divisor)}</small>"
        return _Cell(summary.mean, text)

    return _Column(key, of, derive.METRICS[name].unit, size)


def _quality(key: str, of: Callable[[QualityRecord], tuple[float | None, str]]) -> _Column:
    def cell(report: Report, line: Line, scale: Scale) -> _Cell:
        record = (report.quality or {}).get(line.run.model.name)
        return _Cell(*of(record)) if record else _Cell(None, "–")

    return _Column(key, cell)


def _estimate(
    name: str, places: int, factor: float = 1.0
) -> Callable[[QualityRecord], tuple[float | None, str]]:
    def of(record: QualityRecord) -> tuple[float | None, str]:
        found = getattr(record, name)
        if found is None:
            return None, "–"
        text = f"{found.value * factor:.{places}f}"
        if found.error is not None:
            text += f"<small>± {1.96 * found.error * factor:.{places}f}</small>"
        return found.value, text

    return of


def _tasks(record: QualityRecord) -> tuple[float | None, str]:
    if record.total is None or not record.total.n:
        return None, "–"
    low, high = record.total.interval
    return record.total.value, f"{record.total.value:.1%}<small>{100 * low:.0f}–{high:.0%}</small>"


def _bandwidth(report: Report, line: Line, scale: Scale) -> _Cell:
    summary = line.run.summary("decode_bandwidth_share")
    return _Cell(summary.mean, f"{summary.mean:.0%}") if summary else _Cell(None, "–")


COLUMNS = (
    _Column(
        "c_size",
        lambda report, line, scale: _Cell(line.run.model.size_bytes, _even(line.run.model.size_bytes, scale)),
        "B",
        lambda report, line: float(line.run.model.size_bytes),
    ),
    _metric("c_write", "decode_bytes_per_second"),
    _metric("c_write", "decode_tokens_per_second"),
    _metric("c_read", "prefill_bytes_per_second"),
    _metric("c_read", "prefill_tokens_per_second"),
    _metric("c_ttft", "ttft_seconds"),
    _metric("c_load", "load_seconds"),
    _metric("c_peak", "peak_bytes"),
    _metric("c_energy", "decode_joules_per_byte"),
    _metric("c_energy", "decode_joules_per_token"),
    _Column("c_mbu", _bandwidth),
    _quality("c_bpb", _estimate("bits_per_byte", 3)),
    _quality("c_kld", _estimate("kld_mean", 4)),
    _quality("c_same", _estimate("same_top", 1, 100.0)),
    _quality("c_tasks", _tasks),
)


def runs_table(report: Report, shown: Sequence[Line], lang: str) -> str:
    """A row for each run; columns that nobody has are left out."""
    heads, columns = [], []
    for column in COLUMNS:
        sizes = [size for line in shown if (size := column.size(report, line)) is not None]
        scale = scale_for(column.unit, max(sizes)) if sizes else Scale(1.0, "")
        scale = replace(scale, largest=max(sizes, default=0.0) / scale.divisor)
        cells = [column.of(report, line, scale) for line in shown]
        if any(cell.value is not None for cell in cells):
            unit = "%" if column.key == "c_same" else scale.unit
            heads.append(f"<th>{say(column.key, lang)}<small>{unit}</small></th>")
            columns.append(cells)
    rows = "".join(_row(line, [column[i] for column in columns]) for i, line in enumerate(shown))
    head = f"<th>{say('c_model', lang)}</th>{''.join(heads)}"
    table = f'<table class="numbers runs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return section("all_runs", say("all_runs_note", lang), f'<div class="card scroll">{table}</div>', lang)


def _row(line: Line, cells: Sequence[_Cell]) -> str:
    tail = line.label.removeprefix(line.run.model.name).removeprefix(" · ")
    small = f"<small>{escape(tail)}</small>" if tail else ""
    name = f'<span class="swatch {line.css}"></span>{escape(line.run.model.name)}{small}'
    body = "".join(
        f'<td data-v="{"" if cell.value is None else f"{cell.value:.9g}"}">{cell.text}</td>' for cell in cells
    )
    return f'<tr><th data-v="{escape(line.label)}">{name}</th>{body}</tr>'
