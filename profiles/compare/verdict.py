"""Which of several measured models is ahead, axis by axis, and whether the samples carry the claim.

Takes measurements, knows no engine and no file. Launches of one interleaved run form blocks, and a ratio is
taken inside each block, so that what the machine did in that time leaves it. A winner is named only where it
differs measurably from every other; with many axes and models, chance alone would name some, so the p-values
are adjusted together (Holm): at most 5% of comparisons of equals name any difference at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Measurement
from edgellm.stats import Ratio, estimate_ratio, holm, launch_medians, paired_ratio, ratio

#: Less than this is called the same, however sure.
MIN_DIFFERENCE = 0.01
#: What was not measured in turns may differ by this much for the machine's sake alone, and is no difference.
UNPAIRED_MARGIN = 0.25
#: Chance of naming any difference where there is none, over all axes and models of one comparison.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Axis:
    """One thing by which models are ranked."""

    name: str  # group it belongs to: "load" | "ttft" | "prefill" | "decode" | "memory" | "energy" | "quality"
    metric: str  # a measurement's name
    better: str  # "higher" | "lower"
    per: str = ""  # "token" | "byte" where the unit has one of them
    timed: bool = True  # follows the machine's pace, so that it must be measured in turns


AXES = (
    Axis("load", "load_seconds", "lower"),
    Axis("ttft", "ttft_seconds", "lower"),
    Axis("prefill", "prefill_tokens_per_second", "higher", "token"),
    Axis("prefill", "prefill_bytes_per_second", "higher", "byte"),
    Axis("decode", "decode_tokens_per_second", "higher", "token"),
    Axis("decode", "decode_bytes_per_second", "higher", "byte"),
    Axis("memory", "peak_bytes", "lower", timed=False),
    Axis("energy", "prefill_joules_per_token", "lower", "token"),
    Axis("energy", "prefill_joules_per_byte", "lower", "byte"),
    Axis("energy", "decode_joules_per_token", "lower", "token"),
    Axis("energy", "decode_joules_per_byte", "lower", "byte"),
)


def _bits(a: QualityRecord, b: QualityRecord) -> Ratio | None:
    if a.bits_per_byte is None or b.bits_per_byte is None or a.text != b.text:
        return None
    x, y = a.bits_per_byte, b.bits_per_byte
    return estimate_ratio(x.value, x.error, y.value, y.error)


def _right(a: QualityRecord, b: QualityRecord) -> Ratio | None:
    """Shares of right answers; half an answer is added to each count, so that none and all have a logarithm."""
    if not a.total or not b.total or not a.total.n or not b.total.n:
        return None
    x, y = ((t.k + 0.5) / (t.n + 0.5) for t in (a.total, b.total))
    errors = (math.sqrt(1 / (t.k + 0.5) - 1 / (t.n + 0.5)) for t in (a.total, b.total))
    found = estimate_ratio(x, x * next(errors), y, y * next(errors))
    plain = a.total.value / b.total.value if b.total.k else found.value
    return replace(found, value=plain)


#: Axes that launches do not carry -> the ratio of two records, or None where one has no such figure.
QUALITY_AXES: dict[Axis, Callable[[QualityRecord, QualityRecord], Ratio | None]] = {
    Axis("quality", "bits_per_byte", "lower", timed=False): _bits,
    Axis("quality", "tasks_right", "higher", timed=False): _right,
}


@dataclass(frozen=True)
class Pair:
    """Candidate `a` over candidate `b` on one axis."""

    a: int
    b: int
    ratio: Ratio
    adjusted_p: float | None  # together with all others of the comparison; None: too few launches to tell
    differs: bool

    def flipped(self) -> Pair:
        """`b` over `a`."""
        old = self.ratio
        low = None if old.ci95_high is None else 1 / old.ci95_high
        high = None if old.ci95_low is None else 1 / old.ci95_low
        turned = Ratio(1 / old.value, low, high, old.p_value)
        return Pair(self.b, self.a, turned, self.adjusted_p, self.differs)


@dataclass(frozen=True)
class Verdict:
    """All pairs on one axis, and who is ahead of all others, if anyone is."""

    axis: Axis
    pairs: tuple[Pair, ...]  # a < b; only candidates that were measured
    winner: int | None

    def pair(self, a: int, b: int) -> Pair | None:
        """`a` over `b`; None where one of them was not measured."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.b, pair.a) == (a, b):
                return pair.flipped()
        return None


def judge(
    axes: Sequence[Axis],
    candidates: Sequence[Mapping[str, Measurement]],
    *,
    paired: bool,
    quality: Sequence[QualityRecord | None] = (),
) -> tuple[Verdict, ...]:
    """A verdict for each axis on which at least two candidates were measured.

    `paired`: launches of the same number were neighbours in one interleaved run. `quality` has one record for
    each candidate, or none at all.
    """
    tests = [
        (axis, a, b, _ratio(first, second, paired=paired))
        for axis in axes
        for (a, first), (b, second) in itertools.combinations(_measured(axis, candidates), 2)
    ]
    tests += [
        (axis, a, b, found)
        for axis, of in QUALITY_AXES.items()
        for (a, first), (b, second) in itertools.combinations(enumerate(quality), 2)
        if first and second and (found := of(first, second))
    ]
    adjusted = iter(holm([t.p_value for *_, t in tests if t.p_value is not None]))
    pairs: dict[Axis, list[Pair]] = {}
    for axis, a, b, found in tests:
        p = None if found.p_value is None else next(adjusted)
        pairs.setdefault(axis, []).append(Pair(a, b, found, p, _differs(axis, found, p, paired=paired)))
    return tuple(Verdict(axis, tuple(own), _winner(axis, own)) for axis, own in pairs.items())


def _measured(axis: Axis, candidates: Sequence[Mapping[str, Measurement]]) -> list[tuple[int, Measurement]]:
    found = [(index, own.get(axis.metric)) for index, own in enumerate(candidates)]
    return [(index, m) for index, m in found if m is not None and m.samples]


def _ratio(a: Measurement, b: Measurement, *, paired: bool) -> Ratio:
    first, second = (launch_medians(m.samples, m.launches) for m in (a, b))
    if not paired:
        return ratio(list(first.values()), list(second.values()))
    shared = sorted(set(first) & set(second))
    if not shared:
        return ratio(list(first.values())[:1], list(second.values())[:1])  # a value, and no claim
    return paired_ratio([first[i] for i in shared], [second[i] for i in shared])


def _differs(axis: Axis, found: Ratio, p: float | None, *, paired: bool) -> bool:
    least = UNPAIRED_MARGIN if axis.timed and not paired else MIN_DIFFERENCE
    apart = max(found.value, 1 / found.value) if found.value > 0 else 1.0
    return p is not None and p < SIGNIFICANCE and apart > 1 + least


def _winner(axis: Axis, pairs: Sequence[Pair]) -> int | None:
    """Who is measurably better than every other one that was measured."""
    everyone = {index for pair in pairs for index in (pair.a, pair.b)}
    beaten: dict[int, set[int]] = {index: set() for index in everyone}
    for pair in pairs:
        if pair.differs:
            first_is_better = (pair.ratio.value > 1) == (axis.better == "higher")
            better, worse = (pair.a, pair.b) if first_is_better else (pair.b, pair.a)
            beaten[better].add(worse)
    return next((index for index in sorted(everyone) if beaten[index] == everyone - {index}), None)
