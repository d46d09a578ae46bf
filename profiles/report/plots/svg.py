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
#: Thin rows: their height, and where bars begin and end between label and value.
_THIN_ROW, _THIN_START, _THIN_END = 22.0, 126.0, 276.0


@dataclass(frozen=True)
class Bar:
    """One bar: a label over it, its value at the right end of the label's line."""

    label: str
    value: float | None  # None: a dashed gap
    text: str  # the value as words, or the reason's short form
    css: str  # colour class, e.g. "m0"
    interval: tuple[float, float] | None = None  # 95%
    samples: tuple[float, ...] = ()
    hint: str = ""  # exact figures, told where the bar is pointed at


@dataclass(frozen=True)
class Stack:
    """One stacked bar."""

    label: str
    text: str
    css: str
    parts: tuple[float, ...]
    mark: float | None = None  # a line across, e.g. the peak
    gap: bool = False  # a dashed part at the end: something that was not measured
    hints: tuple[str, ...] = ()  # of each part, told where it is pointed at


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
    largest = max(
        [0.0, *(v for row in rows for v in (row.value, *(row.interval or ()), *row.samples) if v is not None)]
    )
    scale = (WIDTH - _VALUE_SPACE) / largest if largest > 0 else 0.0
    body = "".join(_bar(row, index * _ROW, scale) for index, row in enumerate(rows))
    return svg(title, len(rows) * _ROW, body)


def _bar(row: Bar, top: float, scale: float) -> str:
    head = _head(row.label, row.text, top, muted=row.value is None)
    y = top + 20
    if row.value is None:
        return head + f'<rect class="gap" x="0.5" y="{y:g}" width="{WIDTH - 1:g}" height="{_BAR:g}" rx="3"/>'
    parts = [head, _rect(f"bar {row.css}", 0, y, row.value * scale, hint=row.hint)]
    middle = y + _BAR / 2
    parts += [
        f'<circle class="dot {row.css}" cx="{number(s * scale)}" cy="{middle:g}" r="2.2"></circle>'
        for s in row.samples
    ]
    if row.interval:
        low, high = (number(max(end, 0.0) * scale) for end in row.interval)
        parts.append(
            f'<path class="whisker" d="M{low} {middle:g}H{high}M{low} {y + 3:g}v10M{high} {y + 3:g}v10"/>'
        )
    return "".join(parts)


def thin_bars(title: str, rows: Sequence[Bar], reach: float) -> str:
    """Bars for many: label left, value right, all drawn to `reach`, so that charts side by side compare."""
    scale = (_THIN_END - _THIN_START) / reach if reach > 0 else 0.0
    body = "".join(_thin_bar(row, index * _THIN_ROW, scale) for index, row in enumerate(rows))
    return svg(title, len(rows) * _THIN_ROW, body)


def _thin_bar(row: Bar, top: float, scale: float) -> str:
    text = _thin_words(row.label, row.text, top)
    if row.value is None:
        return text
    middle = top + _THIN_ROW / 2
    bar = _rect(
        f"bar {row.css}", _THIN_START, top + 5, row.value * scale, height=_THIN_ROW - 10, hint=row.hint
    )
    if row.interval is None:
        return text + bar
    low, high = (number(_THIN_START + max(end, 0.0) * scale) for end in row.interval)
    return f'{text}{bar}<path class="whisker" d="M{low} {middle:g}H{high}"/>'


def thin_stacks(title: str, rows: Sequence[Stack], reach: float) -> str:
    """Stacked bars for many, as `thin_bars`."""
    scale = (_THIN_END - _THIN_START) / reach if reach > 0 else 0.0
    body = []
    for index, row in enumerate(rows):
        top, x = index * _THIN_ROW, _THIN_START
        body.append(_thin_words(row.label, row.text, top))
        for part, size in enumerate(row.parts):
            if size > 0:
                css = f"bar {row.css} s{part}"
                hint = row.hints[part] if row.hints else ""
                body.append(
                    _rect(css, x, top + 4, size * scale, rounded=False, height=_THIN_ROW - 8, hint=hint)
                )
                x += size * scale
        if row.gap:
            body.append(
                f'<rect class="gap" x="{number(x + 1)}" y="{top + 4.5:g}" width="26" height="{_THIN_ROW - 9:g}"/>'
            )
    return svg(title, len(rows) * _THIN_ROW, "".join(body))


def _thin_words(label: str, text: str, top: float) -> str:
    y = f"{top + _THIN_ROW / 2 + 4:g}"
    return (
        f'<text class="label" x="0" y="{y}">{html.escape(shorten(label, 18))}</text>'
        f'<text class="value" x="{WIDTH:g}" y="{y}">{html.escape(text)}</text>'
    )


def stacks(title: str, rows: Sequence[Stack]) -> str:
    """Stacked horizontal bars; part number k has the class `s<k>` besides the row's own."""
    largest = max([0.0, *(max(sum(row.parts), row.mark or 0) for row in rows)])
    scale = (WIDTH - 2) / largest if largest > 0 else 0.0
    return svg(title, len(rows) * _ROW, "".join(_stack(r, i * _ROW, scale) for i, r in enumerate(rows)))


def _stack(row: Stack, top: float, scale: float) -> str:
    parts, x, y = [_head(row.label, row.text, top)], 0.0, top + 20
    for index, size in enumerate(row.parts):
        if size > 0:
            hint = row.hints[index] if row.hints else ""
            parts.append(_rect(f"bar {row.css} s{index}", x, y, size * scale, rounded=False, hint=hint))
            x += size * scale
    if row.mark is not None:
        at = number(min(row.mark * scale, WIDTH - 1))
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
        points = " ".join(
            f"{number(left + i * step)},{number(bottom - v * scale)}" for i, v in enumerate(s.values)
        )
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
    for panel, group in enumerate(rows.groups):
        x0 = left + panel * width
        if panel % 2:
            body.append(
                f'<rect class="band" x="{number(x0)}" y="{top:g}" width="{number(width)}" height="{bottom - top:g}"/>'
            )
        middle = number(x0 + width / 2)
        body.append(
            f'<text class="tick mid" x="{middle}" y="{bottom + 15:g}">{html.escape(group_words[panel])}</text>'
        )
        for place, value in enumerate(group):
            x, y = number(x0 + (place + 0.5) * width / len(group)), number(bottom - (value - low) * scale)
            body.append(f'<circle class="point {rows.css}" cx="{x}" cy="{y}" r="3.4"></circle>')
            if index in rows.rings:
                body.append(f'<circle class="ring" cx="{x}" cy="{y}" r="7"></circle>')
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


def _rect(
    css: str, x: float, y: float, width: float, *, rounded: bool = True, height: float = _BAR, hint: str = ""
) -> str:
    corner = ' rx="3"' if rounded else ""
    box = f'<rect class="{css}" x="{number(x)}" y="{y:g}" width="{number(width)}" height="{height:g}"{corner}'
    return f"{box}><title>{html.escape(hint)}</title></rect>" if hint else f"{box}/>"


def number(value: float) -> str:
    """A coordinate, as short as it may be."""
    return f"{value:.1f}".removesuffix(".0")
