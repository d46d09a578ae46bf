"""Plots with two axes as SVG text: points with error crosses, a Pareto front, labels that keep clear, lines.

Same rules as svg.py: drawn for a card about 360 units wide, colours are classes, text is escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgellm.profiles.report.plots.svg import WIDTH, number, shorten, svg

LEFT, TOP, RIGHT, BOTTOM = 46.0, 10.0, 348.0, 248.0
HEIGHT = 286.0
#: Names a tick.
Words = Callable[[float], str]
#: Width of a character of a label, on average; labels are kept apart by it.
_CHARACTER, _LINE = 5.9, 12.0


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with words at some values."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1, kept on the axis."""
        if self.log:
            place = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, place))


@dataclass(frozen=True)
class Point:
    """A mark with its 95% intervals; `label` stands beside it where there is room, `hint` when pointed at."""

    x: float
    y: float
    css: str
    hint: str
    label: str = ""
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    hollow: bool = False
    size: float = 4.0


@dataclass(frozen=True)
class Path:
    """A line through points. `css` holds its colour and kind: "front", "ceiling", "line m0"."""

    css: str
    points: tuple[tuple[float, float], ...]
    label: str = ""  # at its end


@dataclass(frozen=True)
class Whisker:
    """A ratio with its interval, on a line of its own."""

    label: str
    value: float
    interval: tuple[float, float] | None
    css: str


def forest(title: str, rows: Sequence[Whisker], worse: str, better: str) -> str:
    """Ratios about 1 on a logarithmic axis, one line each: left of the middle is worse, right is better."""
    ends = [end for row in rows for end in (row.interval or ())]
    values = max(max(row.value, 1 / row.value) for row in rows)
    # An interval that is far wider than all ratios leaves the plot, with an arrow: the others stay readable.
    reach = max(1.1, min(values**2 * 1.5, max([values, *(max(end, 1 / end) for end in ends)]))) * 1.03
    axis = Axis("", 1 / reach, reach, (), log=True)
    left, right, row_height, top = 158.0, 304.0, 24.0, 20.0
    middle, bottom = (left + right) / 2, top + row_height * len(rows)
    body = [
        f'<text class="tick" x="{left:g}" y="12">← {html.escape(worse)}</text>',
        f'<text class="tick end" x="{right:g}" y="12">{html.escape(better)} →</text>',
        f'<path class="axis" d="M{middle:g} {top - 2:g}V{bottom:g}"/>',
    ]
    for index, row in enumerate(rows):
        y = top + row_height * (index + 0.5)
        at = number(left + axis.share(row.value) * (right - left))
        if row.interval:
            low, high = (number(left + axis.share(end) * (right - left)) for end in row.interval)
            line = f"M{low} {y:g}H{high}{_arrows(row.interval, axis, low, high, y)}"
            line += "".join(
                f"M{place} {y - 4:g}v8"
                for end, place in zip(row.interval, (low, high), strict=True)
                if axis.holds(end)
            )
            body.append(f'<path class="cross strong {row.css}" d="{line}"/>')
        body.append(f'<circle class="point {row.css}" cx="{at}" cy="{y:g}" r="4"></circle>')
        words = html.escape(shorten(row.label, 27))
        body.append(f'<text class="label" x="0" y="{y + 4:g}">{words}</text>')
        body.append(f'<text class="value" x="{WIDTH:g}" y="{y + 4:g}">×{row.value:.2f}</text>')
    return svg(title, bottom + 4, "".join(body))


def log_axis(title: str, values: Sequence[float], words: Words) -> Axis:
    """An axis that holds `values` (positive) with room at both ends; `words(value)` names a tick."""
    low, high = min(values) / 1.15, max(values) * 1.25
    steps = (1, 1.5, 2, 3, 4, 5, 7) if high / low < 8 else (1, 2, 5) if high / low < 100 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    axis = Axis(title, low, high, (), log=True)
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if low <= tick <= high and (not kept or _clear(axis, kept[-1], (tick, words(tick)))):
            kept.append((tick, words(tick)))
    return replace(axis, ticks=tuple(kept))


def _clear(axis: Axis, left: tuple[float, str], right: tuple[float, str]) -> bool:
    """Whether two ticks' words keep apart, were they side by side."""
    room = (axis.share(right[0]) - axis.share(left[0])) * (RIGHT - LEFT)
    return room > (len(left[1]) + len(right[1])) / 2 * _CHARACTER + 6


def linear_axis(title: str, values: Sequence[float], words: Words, *, zero: bool = False) -> Axis:
    """As `log_axis`, with round steps; from zero on if `zero`."""
    low, high = (0.0 if zero else min(values)), max(values)
    span = (high - low) or abs(high) or 1.0
    step = _round_step(span / 4)
    low = 0.0 if zero else math.floor((low - 0.06 * span) / step) * step
    high = math.ceil((high + 0.04 * span) / step) * step
    count = round((high - low) / step)
    ticks = [low + step * i for i in range(count + 1)]
    return Axis(title, low, high, tuple((tick, words(tick)) for tick in ticks))


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999999)


def plot(title: str, x: Axis, y: Axis, points: Sequence[Point], paths: Sequence[Path] = ()) -> str:
    """The plot. Points come over lines, labels over both."""
    body = [_frame(x, y)]
    body += [_path(path, x, y) for path in paths]
    places = [(_x(x, p.x), _y(y, p.y)) for p in points]
    body += [_mark(p, at, x, y) for p, at in zip(points, places, strict=True)]
    body += _labels(points, places)
    return svg(title, HEIGHT, "".join(body))


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (RIGHT - LEFT)


def _y(axis: Axis, value: float) -> float:
    return BOTTOM - axis.share(value) * (BOTTOM - TOP)


def _frame(x: Axis, y: Axis) -> str:
    parts = []
    for value, words in y.ticks:
        at = number(_y(y, value))
        parts.append(f'<path class="grid" d="M{LEFT:g} {at}H{RIGHT:g}"/>')
        parts.append(
            f'<text class="tick end" x="{LEFT - 5:g}" y="{float(at) + 4:g}">{html.escape(words)}</text>'
        )
    for value, words in x.ticks:
        at = number(_x(x, value))
        parts.append(f'<path class="grid" d="M{at} {TOP:g}V{BOTTOM:g}"/>')
        parts.append(f'<text class="tick mid" x="{at}" y="{BOTTOM + 15:g}">{html.escape(words)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT:g} {TOP:g}V{BOTTOM:g}H{RIGHT:g}"/>')
    parts.append(
        f'<text class="tick end title" x="{RIGHT:g}" y="{BOTTOM + 32:g}">{html.escape(x.title)} →</text>'
    )
    parts.append(f'<text class="tick title" x="{LEFT + 6:g}" y="{TOP + 9:g}">↑ {html.escape(y.title)}</text>')
    return "".join(parts)


def _path(path: Path, x: Axis, y: Axis) -> str:
    places = [(_x(x, a), _y(y, b)) for a, b in path.points]
    line = " ".join(f"{number(a)},{number(b)}" for a, b in places)
    drawn = f'<polyline class="{path.css}" points="{line}"/>'
    if path.label:
        a, b = places[-1]
        at = f'x="{number(min(a, RIGHT - 2))}" y="{number(b - 5)}"'
        drawn += f'<text class="tick end" {at}>{html.escape(path.label)}</text>'
    return drawn


def _mark(point: Point, at: tuple[float, float], x: Axis, y: Axis) -> str:
    a, b = number(at[0]), number(at[1])
    cross = ""
    if point.x_interval:
        low, high = (number(_x(x, value)) for value in point.x_interval)
        cross += f"M{low} {b}H{high}{_arrows(point.x_interval, x, low, high, at[1])}"
    if point.y_interval:
        low, high = (number(_y(y, value)) for value in point.y_interval)
        cross += f"M{a} {low}V{high}{_arrows(point.y_interval, y, low, high, at[0], upright=True)}"
    drawn = f'<path class="cross {point.css}" d="{cross}"/>' if cross else ""
    kind = "point hollow" if point.hollow else "point"
    return (
        f'{drawn}<circle class="{kind} {point.css}" cx="{a}" cy="{b}" r="{point.size:g}">'
        f"<title>{html.escape(point.hint)}</title></circle>"
    )


def _arrows(
    ends: tuple[float, float], axis: Axis, low: str, high: str, across: float, *, upright: bool = False
) -> str:
    """Heads of arrows at those ends of an interval that lie beyond the axis."""
    drawn = ""
    for end, place, outward in ((ends[0], low, -1), (ends[1], high, 1)):
        if axis.holds(end):
            continue
        if upright:  # up is where the axis grows and where coordinates fall
            drawn += f"M{number(across - 3)} {number(float(place) + 4 * outward)}L{number(across)} {place}"
            drawn += f"L{number(across + 3)} {number(float(place) + 4 * outward)}"
        else:
            drawn += f"M{number(float(place) - 4 * outward)} {number(across - 3)}L{place} {number(across)}"
            drawn += f"L{number(float(place) - 4 * outward)} {number(across + 3)}"
    return drawn


def _labels(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[str]:
    """A label goes right, left, above or below its point, the first place that is free, or is left out."""
    taken = [(a - 4, b - 4, a + 4, b + 4) for a, b in places]
    taken.append((LEFT, TOP, LEFT + 150, TOP + 14))  # the y axis's title
    drawn = []
    for point, (a, b) in zip(points, places, strict=True):
        if not point.label:
            continue
        width = len(point.label) * _CHARACTER
        for anchor, left, base in (
            ("", a + 7, b + 4),
            ("end", a - 7 - width, b + 4),
            ("mid", a - width / 2, b - 8),
            ("mid", a - width / 2, b + 17),
            ("", a + 5, b - 7),
            ("end", a - 5 - width, b - 7),
            ("", a + 5, b + 15),
            ("end", a - 5 - width, b + 15),
        ):
            box = (left, base - _LINE + 3, left + width, base + 3)
            if _free(box, taken):
                taken.append(box)
                place = {"": left, "end": left + width, "mid": left + width / 2}[anchor]
                words = html.escape(point.label)
                drawn.append(
                    f'<text class="mark {anchor}" x="{number(place)}" y="{number(base)}">{words}</text>'
                )
                break
    return drawn


def _free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    if left < LEFT or right > WIDTH or top < 0 or bottom > BOTTOM:
        return False
    return not any(left < r and right > l and top < b and bottom > t for l, t, r, b in taken)  # noqa: E741
