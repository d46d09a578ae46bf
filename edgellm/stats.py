"""Statistics of repeated measurements: samples in, what may be said about them out.

Knows no clock and no meter. Nothing is ever dropped: an outlier is pointed at, and still counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Two-sided 95% quantiles of Student's t by degrees of freedom; beyond the table see `t95`.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z95 = 1.959964

#: Launches needed before they, and not the repetitions inside them, carry the confidence interval.
MIN_LAUNCHES_FOR_INTERVAL = 3
#: Modified z-score above which a sample is called an outlier (Iglewicz & Hoaglin, 1993).
OUTLIER_SCORE = 3.5
#: With fewer samples a median absolute deviation says little, and no outlier is called.
MIN_SAMPLES_FOR_OUTLIERS = 5


@dataclass(frozen=True)
class Summary:
    """What a set of samples says. All but the counts are in the samples' unit, unless named otherwise."""

    n: int
    mean: float
    median: float  # of the launches, each the median of its samples: what reports show
    stddev: float | None  # None: one sample has no spread
    minimum: float
    maximum: float
    ci95_low: float | None  # of what a launch gives; None with fewer than MIN_LAUNCHES_FOR_INTERVAL
    ci95_high: float | None
    ci95_unit: (
        str | None
    )  # what it was taken over: "launches" | "repetitions" (no launches told) | "resolution"
    outliers: tuple[int, ...]  # indices into the samples
    drift_per_sample: float | None  # slope inside launches, in the order taken, as a fraction of the mean
    drift_is_clear: bool  # the slope is more than chance explains


@dataclass(frozen=True)
class Ratio:
    """One quantity over another, with a 95% interval (None: too few samples to have one)."""

    value: float
    ci95_low: float | None
    ci95_high: float | None
    p_value: float | None = None  # of a true ratio of 1
    error: float | None = None  # standard error of its logarithm
    df: int | None = None  # degrees of freedom of that error; None: it is known, and the normal law holds
    centre: float | None = (
        None  # the logarithm's estimate that `error` belongs to; `value` may be another one's
    )

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1."""
        if self.ci95_low is None or self.ci95_high is None:
            return False
        return self.ci95_low > 1 or self.ci95_high < 1

    @property
    def inverse(self) -> Ratio:
        """The second quantity over the first."""
        low = None if self.ci95_high is None else 1 / self.ci95_high
        high = None if self.ci95_low is None else 1 / self.ci95_low
        centre = None if self.centre is None else -self.centre
        return replace(self, value=1 / self.value, ci95_low=low, ci95_high=high, centre=centre)

    def shown_as(self, value: float) -> Ratio:
        """The same estimate told as `value`, that of the two figures which stand beside it: the interval holds both."""
        if self.ci95_low is None or self.ci95_high is None:
            return replace(self, value=value)
        return replace(
            self, value=value, ci95_low=min(self.ci95_low, value), ci95_high=max(self.ci95_high, value)
        )

    def p_beyond(self, bound: float) -> float | None:
        """Chance of an estimate like this, or one farther off, if the truth were within a factor of 1 + `bound`."""
        if self.error is None:
            return None
        return 1.0 if self._log <= math.log1p(bound) else self._tails(self._log - math.log1p(bound))

    def p_within(self, bound: float) -> float | None:
        """Chance of an estimate like this, or one nearer to 1, if the truth were at least a factor of 1 + `bound` off.

        The larger of two one-sided tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).
        """
        if self.error is None:
            return None
        inside = math.log1p(bound) - self._log
        return 1.0 if inside <= 0 else self._tails(inside) / 2

    @property
    def _log(self) -> float:
        """How far the estimate is from 1, on the logarithm's scale."""
        assert self.centre is not None
        return abs(self.centre)

    def _tails(self, distance: float) -> float:
        assert self.error is not None
        if self.error == 0:
            return 0.0
        if self.df is None:
            return math.erfc(distance / self.error / math.sqrt(2))
        return student_p(distance / self.error, self.df)


def summarize(samples: Sequence[float], launches: Sequence[int] | None = None) -> Summary:
    """Summary of `samples` in the order taken. `launches[i]` is the process launch sample i came from.

    Samples of one process share its luck (memory layout, placement), so that what is told is the median of the
    launches, each the median of its samples, and its interval is Student's t over these: from three launches on, for
    the repetitions inside one or two cover the truth half as often as they claim. Without `launches` every sample
    stands for itself. Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples to summarize")
    values = [float(sample) for sample in samples]
    units = values if launches is None else list(launch_medians(values, launches).values())
    few = launches is not None and len(units) < MIN_LAUNCHES_FOR_INTERVAL
    half, centre, middle = half_width95(units), statistics.fmean(units), statistics.median(units)
    slope, clear = drift(values, launches)
    known = half is not None and not few
    return Summary(
        n=len(values),
        mean=statistics.fmean(values),
        median=middle,
        stddev=statistics.stdev(values) if len(values) > 1 else None,
        minimum=min(values),
        maximum=max(values),
        ci95_low=min(centre - half, middle) if half is not None and known else None,
        ci95_high=max(centre + half, middle) if half is not None and known else None,
        ci95_unit=None if not known else "repetitions" if launches is None else "launches",
        outliers=outliers(values),
        drift_per_sample=slope,
        drift_is_clear=clear,
    )


def launch_medians(samples: Sequence[float], launches: Sequence[int]) -> dict[int, float]:
    """Launch -> median of its samples: one hiccup in a repetition does not speak for the process."""
    groups: dict[int, list[float]] = {}
    for sample, launch in zip(samples, launches, strict=True):
        groups.setdefault(launch, []).append(sample)
    return {launch: statistics.median(group) for launch, group in groups.items()}


def widen(summary: Summary, error: float) -> Summary:
    """The summary with an interval no narrower than samples of this standard error allow.

    Few samples can agree by chance beyond what their instrument resolves; one sample has no spread at all.
    """
    half, unit = _Z95 * error / math.sqrt(summary.n), summary.ci95_unit
    low, high = summary.ci95_low, summary.ci95_high
    if low is not None and high is not None and high - low >= 2 * half:
        return summary
    return replace(
        summary,
        ci95_low=summary.median - half,
        ci95_high=summary.median + half,
        ci95_unit=unit or "resolution",
    )


def launch_means(samples: Sequence[float], launches: Sequence[int]) -> list[float]:
    """Mean of each launch's samples, in order of launch."""
    groups: dict[int, list[float]] = {}
    for sample, launch in zip(samples, launches, strict=True):
        groups.setdefault(launch, []).append(sample)
    return [statistics.fmean(groups[launch]) for launch in sorted(groups)]


def half_width95(values: Sequence[float]) -> float | None:
    """Half the width of the mean's 95% confidence interval by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    return t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def t95(df: int) -> float:
    """Two-sided 95% quantile of Student's t (Cornish-Fisher expansion beyond 30; error under 1e-4)."""
    if df < 1:
        raise ValueError(f"t needs at least one degree of freedom, got {df}")
    if df <= len(_T95):
        return _T95[df - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)


def outliers(values: Sequence[float]) -> tuple[int, ...]:
    """Indices of samples far from the rest by modified z-score: 0.6745 |x - median| / MAD > 3.5."""
    if len(values) < MIN_SAMPLES_FOR_OUTLIERS:
        return ()
    centre = statistics.median(values)
    deviation = statistics.median([abs(value - centre) for value in values])
    if deviation == 0:
        return ()
    return tuple(
        index
        for index, value in enumerate(values)
        if 0.6745 * abs(value - centre) / deviation > OUTLIER_SCORE
    )


def drift(values: Sequence[float], launches: Sequence[int] | None = None) -> tuple[float | None, bool]:
    """Least-squares slope per sample as a fraction of the mean, and whether it is clear of chance.

    With `launches`, the slope inside them, pooled: differences between launches are no drift. Clear means
    twice the slope's 95% half-width, because a run is looked at for drift in many places.
    """
    mean = statistics.fmean(values)
    groups: dict[int, list[float]] = {}
    for index, value in enumerate(values):
        groups.setdefault(launches[index] if launches else 0, []).append(value)
    df = len(values) - len(groups) - 1
    if df < 1 or mean == 0:
        return None, False
    points = [
        (place - (len(own) - 1) / 2, value - statistics.fmean(own))
        for own in groups.values()
        for place, value in enumerate(own)
    ]
    spread = sum(x * x for x, _ in points)
    slope = sum(x * y for x, y in points) / spread
    residual = sum((y - slope * x) ** 2 for x, y in points)
    return slope / mean, abs(slope) > 2 * t95(df) * math.sqrt(residual / df / spread)


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile with linear interpolation (R type 7), 0 <= q <= 1."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """mean(a) / mean(b) with the 95% interval of the log ratio by Student's t, variances pooled.

    The samples are positive (times, rates, sizes), so the logarithm is where their ratio is symmetric. Pooled,
    because both come from one machine and there may be as few as two of each.
    """
    value = statistics.fmean(a) / statistics.fmean(b)
    if len(a) < 2 or len(b) < 2:
        return Ratio(value, None, None)
    log_a, log_b = [math.log(x) for x in a], [math.log(x) for x in b]
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * statistics.variance(log_a) + (len(b) - 1) * statistics.variance(log_b)) / df
    error = math.sqrt(pooled * (1 / len(a) + 1 / len(b)))
    centre = statistics.fmean(log_a) - statistics.fmean(log_b)
    return log_ratio(centre, error, df, value)


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Geometric mean of a[i] / b[i], where a[i] and b[i] were taken next to each other.

    What both share - a slow minute, a hot processor - leaves the quotient; Student's t over the logarithms of
    the quotients gives the interval. Values are positive.
    """
    logs = [math.log(x / y) for x, y in zip(a, b, strict=True)]
    centre = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(centre), None, None)
    df = len(logs) - 1
    return log_ratio(centre, statistics.stdev(logs) / math.sqrt(len(logs)), df)


def estimate_ratio(a: float, error_a: float | None, b: float, error_b: float | None) -> Ratio:
    """a / b of two estimates with standard errors, by the normal law on the logarithm. Values are positive.

    Errors that go together (the same text, the same questions) make this stricter than it need be.
    """
    if error_a is None or error_b is None:
        return Ratio(a / b, None, None)
    return log_ratio(math.log(a / b), math.hypot(error_a / a, error_b / b))


def combined(ratios: Sequence[Ratio]) -> Ratio:
    """The geometric mean of these very ratios, as uncertain as they are. Without an interval where one has none."""
    logs = [math.log(each.value) for each in ratios]
    shown, n = math.exp(statistics.fmean(logs)), len(ratios)
    if n == 1 or any(each.error is None for each in ratios):
        return ratios[0] if n == 1 else Ratio(shown, None, None)
    centre = statistics.fmean([each.centre or 0.0 for each in ratios])
    error = math.sqrt(sum((each.error or 0.0) ** 2 for each in ratios)) / n
    own = [each.df for each in ratios if each.df is not None]
    return log_ratio(centre, error, sum(own) or None).shown_as(shown)


def log_ratio(centre: float, error: float, df: int | None = None, value: float | None = None) -> Ratio:
    """The ratio whose logarithm was found as `centre` with a standard error of `df` degrees of freedom.

    `value` is told where the ratio itself is another estimate than exp(centre).
    """
    half = (_Z95 if df is None else t95(df)) * error
    found = Ratio(
        math.exp(centre) if value is None else value,
        math.exp(centre - half),
        math.exp(centre + half),
        error=error,
        df=df,
        centre=centre,
    )
    return replace(found, p_value=found.p_beyond(0.0))


def student_t(p: float, df: int | None) -> float:
    """The t that is exceeded, to either side, with a chance of `p`; df None: the normal law's."""
    low, high = 0.0, 1.0

    def of(t: float) -> float:
        return math.erfc(t / math.sqrt(2)) if df is None else student_p(t, df)

    while of(high) > p:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) > p else (low, middle)
    return high


def student_p(t: float, df: int) -> float:
    """Chance of a |t| this large or larger with `df` degrees of freedom.

    The finite series of Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    theta = math.atan(abs(t) / math.sqrt(df))
    cos2, odd = math.cos(theta) ** 2, df % 2
    term = math.cos(theta) if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + odd, df, 2):
        term *= cos2 * (k - 1) / k
        total += term
    inside = (theta + math.sin(theta) * total) * 2 / math.pi if odd else math.sin(theta) * total
    return max(0.0, 1.0 - inside)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values made fit for being looked at together (S. Holm, Scand. J. Statist. 6, 1979), in their order.

    With a bound of 5% on these, the chance of even one false claim among them all is at most 5%, however they
    depend on one another.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def plus_minus(mean: float, stddev: float | None, digits: int = 2) -> str:
    """llama-bench's way to write a result: `12.34 ± 0.05`, or `12.34` where there is no spread."""
    if stddev is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {stddev:.{digits}f}"
