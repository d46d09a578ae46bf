"""Which of several measured models is ahead, axis by axis, and whether the samples carry the claim.

Takes measurements, knows no engine and no file. Launches of one interleaved run form blocks, and a ratio is
taken inside each block, so that what the machine did in that time leaves it. Each pair is found to differ, to be
the same within a margin, or it cannot be told: no claim without a test. With many axes and models chance alone
would make some, so the p-values of all claims of a kind are adjusted together (Holm): at most 5% of comparisons
of equals name any difference at all, and at most 5% of comparisons of what differs by a margin call anything the
same within it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.quality_stats import Share
from edgellm.profiles.result.result import Measurement
from edgellm.stats import (
    Ratio,
    estimate_ratio,
    holm,
    launch_medians,
    log_ratio,
    paired_ratio,
    ratio,
    student_t,
)

#: Less than this is no difference, however sure.
MIN_DIFFERENCE = 0.01
#: Margins within which two may be called the same; the least that is proven is named.
SAME_WITHIN = (0.01, 0.02, 0.05, 0.1)
#: What was not measured in turns may differ by this much for the machine's sake alone: neither a difference nor
#: a sameness can be told within it.
UNPAIRED_MARGIN = 0.25
#: Chance of any false claim of a kind, over all axes and models of one comparison.
SIGNIFICANCE = 0.05
#: Standard error of one launch's memory, of itself: from launch to launch peaks vary by 0.1% (docs/study), which
#: no counting of launches has to show anew.
MEMORY_ERROR = 0.0025
#: Launches that are enough decide within this margin: the two differ, or are the same within it.
DECIDED_WITHIN = 0.05
#: More launches than this are not asked for.
MOST_LAUNCHES = 99


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
    """The same text was scored: dialogue by dialogue, what makes one hard for both leaves the ratio."""
    if a.bits_per_byte is None or b.bits_per_byte is None or a.text != b.text:
        return None
    x, y = a.bits_per_byte, b.bits_per_byte
    pairs = list(zip(_shares(a), _shares(b), strict=False))
    if len(_shares(a)) != len(_shares(b)) or len(pairs) < 2:
        return estimate_ratio(x.value, x.error, y.value, y.error)
    return _paired(math.log(x.value / y.value), [p - q for p, q in pairs])


def _shares(record: QualityRecord) -> list[float]:
    """By how much of the whole each dialogue's bits are more than its bytes would have; none where not kept.

    Linearised: W. G. Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6.
    """
    bits, size = record.dialogue_bits or (), record.dialogue_bytes or ()
    whole, text = sum(bits), sum(size)
    return [b / whole - s / text for b, s in zip(bits, size, strict=True)] if whole and text else []


def _right(a: QualityRecord, b: QualityRecord) -> Ratio | None:
    """Shares of right answers, item by item where both answered the same ones.

    Half an answer is added to each count, so that none and all have a logarithm.
    """
    if not a.total or not b.total or not a.total.n or not b.total.n:
        return None
    x, y = (t.k + 0.5 for t in (a.total, b.total))
    if a.right and b.right and len(a.right) == len(b.right) == a.total.n:
        differences = [int(p) / x - int(q) / y for p, q in zip(a.right, b.right, strict=True)]
        found = _paired(math.log(x / y), [*differences, 0.5 / x, -0.5 / y])
        return found.shown_as(_over(a.total, b.total, found.value))
    errors = [math.sqrt(1 / (t.k + 0.5) - 1 / (t.n + 0.5)) for t in (a.total, b.total)]
    x, y = x / (a.total.n + 0.5), y / (b.total.n + 0.5)
    found = estimate_ratio(x, x * errors[0], y, y * errors[1])
    return found.shown_as(_over(a.total, b.total, found.value))


def _over(a: Share, b: Share, otherwise: float) -> float:
    return a.value / b.value if a.k and b.k else otherwise


def _paired(log: float, parts: Sequence[float]) -> Ratio:
    """The ratio whose logarithm is the sum of so many independent parts, but for their mean."""
    n = len(parts)
    centre = math.fsum(parts) / n
    return log_ratio(log, math.sqrt(n / (n - 1) * math.fsum((part - centre) ** 2 for part in parts)))


#: Axes that launches do not carry.
BITS = Axis("quality", "bits_per_byte", "lower", timed=False)
TASKS = Axis("quality", "tasks_right", "higher", timed=False)
#: The same -> the ratio of two records, or None where one has no such figure.
QUALITY_AXES: dict[Axis, Callable[[QualityRecord, QualityRecord], Ratio | None]] = {
    BITS: _bits,
    TASKS: _right,
}


@dataclass(frozen=True)
class Pair:
    """Candidate `a` over candidate `b` on one axis."""

    a: int
    b: int
    ratio: Ratio
    adjusted_p: float | None  # of no difference, together with all others; None: too few launches to tell
    differs: bool
    same_within: float | None = None  # the least margin within which they are the same; None: not told
    launches_to_tell: int | None = None  # where neither is told: how many would; None: unknown, or too many

    def flipped(self) -> Pair:
        """`b` over `a`."""
        return replace(self, a=self.b, b=self.a, ratio=self.ratio.inverse)

    @property
    def told(self) -> bool:
        """Whether there is a claim at all."""
        return self.differs or self.same_within is not None


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
        (axis, a, b, pair_ratio(axis, first, second, paired=paired))
        for axis in axes
        for (a, first), (b, second) in itertools.combinations(_measured(axis, candidates), 2)
    ]
    tests += [
        (axis, a, b, found)
        for axis, of in QUALITY_AXES.items()
        for (a, first), (b, second) in itertools.combinations(enumerate(quality), 2)
        if first and second and (found := of(first, second))
    ]
    pairs: dict[Axis, list[Pair]] = {}
    for (axis, *_), pair in zip(tests, settle(tests, paired=paired), strict=True):
        pairs.setdefault(axis, []).append(pair)
    return tuple(Verdict(axis, tuple(own), _winner(axis, own)) for axis, own in pairs.items())


def settle(tests: Sequence[tuple[Axis, int, int, Ratio]], *, paired: bool) -> list[Pair]:
    """What may be claimed of each ratio (axis, a, b, a over b), judged together."""
    least = [UNPAIRED_MARGIN if axis.timed and not paired else 0.0 for axis, *_ in tests]
    beyond = _adjusted([found.p_beyond(floor) for (*_, found), floor in zip(tests, least, strict=True)])
    within = {
        margin: _adjusted(
            [
                found.p_within(margin) if margin > floor else None
                for (*_, found), floor in zip(tests, least, strict=True)
            ]
        )
        for margin in SAME_WITHIN
    }
    settled = []
    for index, (_, a, b, found) in enumerate(tests):
        p = beyond[index]
        same = [margin for margin in SAME_WITHIN if _is_small(within[margin][index])]
        apart = max(found.value, 1 / found.value) if found.value > 0 else 1.0
        differs = (
            _is_small(p)
            and apart > 1 + max(least[index], MIN_DIFFERENCE)
            and (found.value > 1) == ((found.centre or 0.0) > 0)
            and MIN_DIFFERENCE not in same
        )
        pair = Pair(a, b, found, p, differs, None if differs or not same else min(same))
        if not pair.told and not least[index]:
            pair = replace(pair, launches_to_tell=_launches_to_tell(found, len(tests)))
        settled.append(pair)
    return settled


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _is_small(p: float | None) -> bool:
    return p is not None and p < SIGNIFICANCE


def _launches_to_tell(found: Ratio, n_tests: int) -> int | None:
    """Launches with which the interval, fit for so many tests, is half as wide as DECIDED_WITHIN.

    Wherever such an interval lies, it leaves out 1 or lies within the margin.
    """
    if not found.error or found.df is None:
        return None
    spread = found.error * math.sqrt(found.df + 1)  # of one launch
    for n in range(found.df + 2, MOST_LAUNCHES + 1):
        if student_t(SIGNIFICANCE / n_tests, n - 1) * spread / math.sqrt(n) <= math.log1p(DECIDED_WITHIN) / 2:
            return n
    return None


def _measured(axis: Axis, candidates: Sequence[Mapping[str, Measurement]]) -> list[tuple[int, Measurement]]:
    found = [(index, own.get(axis.metric)) for index, own in enumerate(candidates)]
    return [(index, m) for index, m in found if m is not None and m.samples]


def pair_ratio(axis: Axis, a: Measurement, b: Measurement, *, paired: bool = True) -> Ratio:
    """`a` over `b`, the ratio of their medians; its error `paired` by the launches they share."""
    first, second = (launch_medians(m.samples, m.launches) for m in (a, b))
    shown = statistics.median(first.values()) / statistics.median(second.values())
    shared = sorted(set(first) & set(second))
    if not paired:
        found = ratio(list(first.values()), list(second.values()))
    elif not shared:
        found = ratio(list(first.values())[:1], list(second.values())[:1])  # a value, and no claim
    else:
        found = paired_ratio([first[i] for i in shared], [second[i] for i in shared])
    floor = MEMORY_ERROR * math.sqrt(1 / len(first) + 1 / len(second))
    if not axis.timed and (found.error or 0.0) < floor:
        found = log_ratio(math.log(found.value), floor)
    return found.shown_as(shown)


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
