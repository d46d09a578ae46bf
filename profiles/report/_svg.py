"""Small charts as SVG text. They know rectangles, lines and words; colours are classes that the page defines.

Every chart is drawn for a card about 360 units wide, so that its words keep their size on a phone. Text from
outside is escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 360.0
_ROW = 46.0
_BAR = 16.0
_LABEL_Y = 13.0
_VALUE_SPACE = 4.0


@dataclass(frozen=True)
class Bar:
    """One bar: a label over it, its value at the right end of the label's line."""

    label: str
    value: float | None  # None: a dashed gap
    text: str  # the value as words, or the reason's short form
    css: str  # colour class, e.g. "m0"
    low: float | None = None  # 95% interval
    high: float | None = None
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stack:
    """One stacked bar."""

    label: str
    text: str
    css: str
    parts: tuple[float, ...]
    mark: float | None = None  # a line across, e.g. the peak


@dataclass(frozen=True)
class Series:
    """A line over positions 1, 2, ..."""

    css: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Strip:
    """Points in order, grouped; `rings` are indices to be circled."""

    css: str
    groups: tuple[tuple[float, ...], ...]
    rings: frozenset[int] = frozenset()


def svg(title: str, height: float, body: str) -> str:
    """The frame of a chart."""
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{html.escape(title)}">'
        f"<title>{html.escape(title)}</title>{body}</svg>"
    )


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero, with interval, samples and value."""
    largest = max([0.0, *(v for row in rows for v in (row.value, row.high, *row.samples) if v is not None)])
    scale = (WIDTH - _VALUE_SPACE) / largest if largest > 0 else 0.0
    body = "".join(_bar(row, index * _ROW, scale) for index, row in enumerate(rows))
    return svg(title, len(rows) * _ROW, body)


def _bar(row: Bar, top: float, scale: float) -> str:
    head = _head(row.label, row.text, top, muted=row.value is None)
    y = top + 20
    if row.value is None:
        return head + f'<rect class="gap" x="0.5" y="{y:g}" width="{WIDTH - 1:g}" height="{_BAR:g}" rx="3"/>'
    parts = [head, _rect(f"bar {row.css}", 0, y, row.value * scale)]
    middle = y + _BAR / 2
    parts += [
        f'<circle class="dot {row.css}" cx="{_n(s * scale)}" cy="{middle:g}" r="2.2"/>' for s in row.samples
    ]
    if row.low is not None and row.high is not None:
        low, high = _n(max(row.low, 0) * scale), _n(row.high * scale)
        parts.append(
            f'<path class="whisker" d="M{low} {middle:g}H{high}M{low} {y + 3:g}v10M{high} {y + 3:g}v10"/>'
        )
    return "".join(parts)


def stacks(title: str, rows: Sequence[Stack]) -> str:
    """Stacked horizontal bars; part number k has the class `s<k>` besides the row's own."""
    largest = max([0.0, *(max(sum(row.parts), row.mark or 0) for row in rows)])
    scale = (WIDTH - 2) / largest if largest > 0 else 0.0
    return svg(title, len(rows) * _ROW, "".join(_stack(r, i * _ROW, scale) for i, r in enumerate(rows)))


def _stack(row: Stack, top: float, scale: float) -> str:
    parts, x, y = [_head(row.label, row.text, top)], 0.0, top + 20
    for index, size in enumerate(row.parts):
        if size > 0:
            parts.append(_rect(f"bar {row.css} s{index}", x, y, size * scale, rounded=False))
            x += size * scale
    if row.mark is not None:
        at = _n(min(row.mark * scale, WIDTH - 1))
        parts.append(f'<path class="whisker" d="M{at} {y - 3:g}v{_BAR + 6:g}"/>')
    return "".join(parts)


def lines(title: str, series: Sequence[Series], y_text: tuple[str, str], x_text: str) -> str:
    """Lines from zero upwards. `y_text` are the words at zero and at the top of the axis."""
    height, left, bottom = 168.0, 44.0, 146.0
    largest = axis_top(max([0.0, *(value for s in series for value in s.values)]))
    longest = max([2, *(len(s.values) for s in series)])
    step, scale = (WIDTH - left - 8) / (longest - 1), (bottom - 14) / largest
    body = [
        f'<path class="axis" d="M{left} 14V{bottom:g}H{WIDTH:g}"/><path class="grid" d="M{left} 14H{WIDTH:g}"/>',
        f'<text class="tick end" x="{left - 5:g}" y="18">{html.escape(y_text[1])}</text>',
        f'<text class="tick end" x="{left - 5:g}" y="{bottom:g}">{html.escape(y_text[0])}</text>',
        f'<text class="tick" x="{left:g}" y="{bottom + 14:g}">{html.escape(x_text)} 1</text>',
        f'<text class="tick end" x="{WIDTH:g}" y="{bottom + 14:g}">{longest}</text>',
    ]
    for s in series:
        points = " ".join(f"{_n(left + i * step)},{_n(bottom - v * scale)}" for i, v in enumerate(s.values))
        body.append(f'<polyline class="line {s.css}" points="{points}"/>')
    return svg(title, height, "".join(body))


def strip(title: str, rows: Strip, text: tuple[str, str], group_words: Sequence[str]) -> str:
    """Dots in the order taken, one panel per group; `text` are the words at the bottom and top of the axis."""
    height, left, top, bottom = 124.0, 44.0, 10.0, 100.0
    values = [value for group in rows.groups for value in group]
    low, high = strip_range(values)
    scale = (bottom - top) / (high - low)
    width = (WIDTH - left) / max(1, len(rows.groups))
    body, index = [f'<path class="axis" d="M{left} {top:g}V{bottom:g}H{WIDTH:g}"/>'], 0
    for number, group in enumerate(rows.groups):
        x0 = left + number * width
        if number % 2:
            body.append(
                f'<rect class="band" x="{_n(x0)}" y="{top:g}" width="{_n(width)}" height="{bottom - top:g}"/>'
            )
        middle = _n(x0 + width / 2)
        body.append(
            f'<text class="tick mid" x="{middle}" y="{bottom + 15:g}">{html.escape(group_words[number])}</text>'
        )
        for place, value in enumerate(group):
            x, y = _n(x0 + (place + 0.5) * width / len(group)), _n(bottom - (value - low) * scale)
            body.append(f'<circle class="point {rows.css}" cx="{x}" cy="{y}" r="3.4"/>')
            if index in rows.rings:
                body.append(f'<circle class="ring" cx="{x}" cy="{y}" r="7"/>')
            index += 1
    body.append(f'<text class="tick end" x="{left - 5:g}" y="{top + 7:g}">{html.escape(text[1])}</text>')
    body.append(f'<text class="tick end" x="{left - 5:g}" y="{bottom:g}">{html.escape(text[0])}</text>')
    return svg(title, height, "".join(body))


def strip_range(values: Sequence[float]) -> tuple[float, float]:
    """Bottom and top of a strip's axis: at least ±5% about the middle, so that calm looks calm."""
    middle = (min(values) + max(values)) / 2
    half = max((max(values) - min(values)) * 0.6, 0.05 * abs(middle), 1e-12)
    return (max(0.0, middle - half) if min(values) >= 0 else middle - half), middle + half


def axis_top(largest: float) -> float:
    """The next round number (1, 2, 2.5 or 5 times a power of ten) at or above the largest value."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= largest * 0.999999)


def _head(label: str, text: str, top: float, *, muted: bool = False) -> str:
    css = "value muted" if muted else "value"
    y = f"{top + _LABEL_Y:g}"
    return (
        f'<text class="label" x="0" y="{y}">{html.escape(shorten(label))}</text>'
        f'<text class="{css}" x="{WIDTH:g}" y="{y}">{html.escape(text)}</text>'
    )


def shorten(label: str, limit: int = 30) -> str:
    """A name that fits its line: the middle gives way."""
    if len(label) <= limit:
        return label
    half = (limit - 1) // 2
    return f"{label[:half]}…{label[-half:]}"


def _rect(css: str, x: float, y: float, width: float, *, rounded: bool = True) -> str:
    corner = ' rx="3"' if rounded else ""
    return f'<rect class="{css}" x="{_n(x)}" y="{y:g}" width="{_n(width)}" height="{_BAR:g}"{corner}/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
