"""Numbers as people read them: a unit that fits the size, as many digits as the eye wants."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.stats import Summary, plus_minus

#: unit -> (smallest size, divisor, name), largest first. Bytes are decimal, as disks and networks count.
_SCALES: dict[str, tuple[tuple[float, float, str], ...]] = {
    "s": ((1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs")),
    "B": ((1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e3, 1e3, "kB"), (0.0, 1.0, "B")),
    "B/s": ((1e9, 1e9, "GB/s"), (1e6, 1e6, "MB/s"), (1e4, 1e3, "kB/s"), (0.0, 1.0, "B/s")),
    "J": ((1e3, 1e3, "kJ"), (1.0, 1.0, "J"), (0.0, 1e-3, "mJ")),
    "J/tok": ((1.0, 1.0, "J/tok"), (0.0, 1e-3, "mJ/tok")),
    "J/B": ((1.0, 1.0, "J/B"), (0.0, 1e-3, "mJ/B")),
}


@dataclass(frozen=True)
class Scale:
    """A divisor and the name of the unit it leads to."""

    divisor: float
    unit: str
    largest: float = 0.0  # of the values that share it, in this unit; 0: not told

    def number(self, value: float) -> str:
        """The value in this scale, three significant digits or all before the point."""
        return digits(value / self.divisor)

    def tick(self, value: float) -> str:
        """A round value with its unit, on an axis."""
        return f"{tick(value / self.divisor)} {self.unit}"

    def text(self, value: float) -> str:
        """The value with its unit."""
        return f"{self.number(value)} {self.unit}"

    def spread(self, summary: Summary) -> str:
        """`12.34 ± 0.05`, median and standard deviation of the repetitions, without the unit."""
        median = summary.median / self.divisor
        deviation = None if summary.stddev is None else summary.stddev / self.divisor
        return plus_minus(median, deviation, decimals(median))


def scale_for(unit: str, largest: float) -> Scale:
    """The scale in which `largest` reads best; all values that stand together share one."""
    for least, divisor, name in _SCALES.get(unit, ()):
        if largest >= least:
            return Scale(divisor, name)
    return Scale(1.0, unit)


def decimals(value: float) -> int:
    """Digits after the point for three significant ones; two at least below a hundred, as llama-bench writes."""
    size = abs(value)
    if size >= 1000:
        return 0
    if size >= 100:
        return 1
    return 2 if size >= 0.1 or size == 0 else 4


def digits(value: float) -> str:
    """Three or four significant digits, thousands apart."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def tick(value: float) -> str:
    """A round number on an axis, as short as it may be."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]
