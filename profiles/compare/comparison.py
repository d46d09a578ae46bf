"""Runs from results, brought together so that they may be judged - or refused with the reason.

Runs of one report took turns and are paired. Runs of several reports were measured at different times: they are
held against each other without pairs and with a wide margin. Where both the machine and the model differ nobody
could tell whose the difference is, and nothing is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgellm.errors import CheckFailedError, UsageError
from edgellm.profiles.compare.verdict import AXES, Axis, Pair, Verdict, judge
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.result import Machine, Measurement, Report, Run

#: What has to be the same for two runs to have done the same work.
Point = tuple[int, int, int, int, float]

#: Axes that a limit on slowness looks at.
SPEEDS = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second")


@dataclass(frozen=True)
class Candidate:
    """A run, and where it comes from."""

    source: str  # the file's name, or ""
    machine: Machine
    run: Run
    quality: QualityRecord | None


@dataclass(frozen=True)
class Comparison:
    """Candidates at one point of the workload, the first being the one that others are held against."""

    candidates: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    paired: bool
    same_tokenizer: bool

    def verdict(self, metric: str) -> Verdict | None:
        """The verdict on a measurement; None where it takes no part."""
        return next((v for v in self.verdicts if v.axis.metric == metric), None)


def compare(results: Mapping[str, Report]) -> list[Comparison]:
    """A comparison for each point of the workload at which two runs or more were made. Raises UsageError."""
    everyone = [
        Candidate(
            name if len(results) > 1 else "", report.machine, run, (report.quality or {}).get(run.model.name)
        )
        for name, report in results.items()
        for run in report.runs
        if run.launches
    ]
    points: dict[Point, list[Candidate]] = {}
    for candidate in everyone:
        points.setdefault(point_of(candidate.run), []).append(candidate)
    several = [own for own in points.values() if len(own) > 1]
    if not several:
        raise UsageError(f"there is nothing to compare: {_lonely(everyone)}")
    for own in several:
        _check_machines(own)
    return [_comparison(own, paired=len(results) == 1) for own in several]


def point_of(run: Run) -> Point:
    """The work a run did."""
    work = run.workload
    return work.n_prompt, work.n_gen, work.n_depth, work.n_batch or 0, work.temperature


def machine_key(machine: Machine) -> tuple[object, ...]:
    """What tells two machines apart."""
    return machine.cpu_model, machine.physical_cores, machine.memory_bytes, machine.os.split()[0]


def label(run: Run) -> str:
    """The work of a run by llama-bench's names."""
    return f"{run.workload.label_prefill}, {run.workload.label_decode}"


def _lonely(everyone: Sequence[Candidate]) -> str:
    if len(everyone) < 2:
        return "only one run has figures; name two models, or a result with two"
    works = [
        f"{c.source or c.run.model.name}: {c.run.workload.label_prefill}, {c.run.workload.label_decode}"
        for c in everyone
    ]
    return f"no two runs did the same work ({'; '.join(works[:4])}); measure them with the same -p -n -d -b"


def _check_machines(own: Sequence[Candidate]) -> None:
    for a, b in itertools.combinations(own, 2):
        if machine_key(a.machine) == machine_key(b.machine) or a.run.model.sha256 == b.run.model.sha256:
            continue
        raise UsageError(
            f"{a.source} is of {a.machine.cpu_model} and {b.source} of {b.machine.cpu_model}, and they ran "
            f"different models ({a.run.model.name}, {b.run.model.name}): a difference could be either's; measure "
            "both models on one machine, or one model on both"
        )


def _comparison(own: Sequence[Candidate], *, paired: bool) -> Comparison:
    bytes_per_token = {round(c.run.launches[0].prompt.bytes_per_token, 6) for c in own}
    same_tokenizer = len(bytes_per_token) == 1
    axes = [axis for axis in AXES if not (same_tokenizer and axis.per == "byte")]
    named = [{m.name: m for m in c.run.measurements} for c in own]
    quality = [c.quality for c in own]
    verdicts = judge(axes, named, paired=paired, quality=quality)
    return Comparison(tuple(own), verdicts, paired, same_tokenizer)


def value(candidate: Candidate, axis: Axis) -> float | None:
    """The candidate's own figure on an axis."""
    if axis.metric == "bits_per_byte":
        record = candidate.quality
        return record.bits_per_byte.value if record and record.bits_per_byte else None
    if axis.metric == "tasks_right":
        total = candidate.quality.total if candidate.quality else None
        return total.value if total and total.n else None
    found: Measurement | None = next((m for m in candidate.run.measurements if m.name == axis.metric), None)
    summary = found.summary() if found else None
    return summary.median if summary else None


def check_not_slower(comparisons: Sequence[Comparison], limit: float) -> None:
    """Raise CheckFailedError if anyone is slower than the first by more than `limit` (0.05: 5%), beyond chance.

    Beyond chance: the whole 95% interval of the ratio lies past the limit.
    """
    for comparison in comparisons:
        for metric, other in itertools.product(SPEEDS, range(1, len(comparison.candidates))):
            verdict = comparison.verdict(metric)
            pair = verdict.pair(other, 0) if verdict else None
            if verdict and pair and (slower := _slower(verdict.axis, pair)) and slower[0] > limit:
                first, name = (
                    comparison.candidates[0].run.model.name,
                    comparison.candidates[other].run.model.name,
                )
                raise CheckFailedError(
                    f"{name} is slower than {first}: {verdict.axis.name} by {slower[1]:.1%} "
                    f"(95%: at least {slower[0]:.1%}), and at most {limit:.1%} was allowed"
                )


def _slower(axis: Axis, pair: Pair) -> tuple[float, float] | None:
    """By which share more time is taken: at least, and in the mean. None: not told, or no difference."""
    low, high = pair.ratio.ci95_low, pair.ratio.ci95_high
    if low is None or high is None or not pair.differs:
        return None
    if axis.better == "lower":
        return low - 1, pair.ratio.value - 1
    return 1 / high - 1, 1 / pair.ratio.value - 1
