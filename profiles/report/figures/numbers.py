"""The numbers every human-readable report shows: which measurements, in which order, one scale per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.profiles.report.figures.scale import Scale, scale_for
from edgellm.profiles.result.derive import METRICS
from edgellm.profiles.result.result import Report, Run
from edgellm.stats import Summary

#: Shown in every report, in this order; those that no model has are left out, energy for itself.
SHOWN = (
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "prefill_bytes_per_second",
    "decode_bytes_per_second",
    "ttft_seconds",
    "tpot_seconds",
    "gap_p95_seconds",
    "answer_seconds",
    "load_seconds",
    "peak_bytes",
    "needed_bytes",
    "anonymous_bytes",
    "file_bytes",
    "pss_bytes",
    "prefill_joules_per_token",
    "decode_joules_per_token",
    "decode_joules_per_byte",
    "prefill_joules_per_token_net",
    "decode_joules_per_token_net",
    "idle_watts",
)


@dataclass(frozen=True)
class Row:
    """One measurement of every model, in one scale. A cell is None where it was not measured."""

    name: str
    scale: Scale
    cells: tuple[Summary | None, ...]
    test: str = ""  # llama-bench's label where there is one for all


def shown_interval(summary: Summary) -> tuple[float, float] | None:
    """Both ends of the 95% interval, the lower one at least 0 where no sample is below; None with fewer launches
    than carry one."""
    low, high = summary.ci95_low, summary.ci95_high
    if low is None or high is None or summary.ci95_unit == "resolution":
        return None
    return (max(low, 0.0) if summary.minimum >= 0 else low), high


def number_rows(report: Report, runs: Sequence[Run]) -> list[Row]:
    """A row for each shown measurement that at least one of `runs` has."""
    found = []
    for name in (*SHOWN, *_beside(runs)):
        cells = tuple(run.summary(name) for run in runs)
        known = [cell for cell in cells if cell]
        if known:
            scale = scale_for(METRICS[name.partition("@")[0]].unit, max(cell.median for cell in known))
            tests = {_test(name, run) for run in runs}
            found.append(Row(name, scale, cells, tests.pop() if len(tests) == 1 else ""))
    return found


def _beside(runs: Sequence[Run]) -> list[str]:
    """Figures of meters that ran beside the headline's, each after its meter: `NAME@METER`."""
    names = dict.fromkeys(m.name for run in runs for m in run.measurements if "@" in m.name)
    return sorted((name for name in names if name.partition("@")[0] in SHOWN), key=_place)


def _place(name: str) -> tuple[str, int]:
    base, _, meter = name.partition("@")
    return meter, SHOWN.index(base)


def energy_reason(report: Report) -> str | None:
    """Why no model has an energy figure; None when one has."""
    reasons = []
    for run in report.runs:
        measurement = run.measurement("decode_joules_per_token")
        if measurement.samples:
            return None
        reasons.append(measurement.reason)
    return next((reason for reason in reasons if reason), None)


def _test(name: str, run: Run) -> str:
    if name == "prefill_tokens_per_second":
        return run.workload.label_prefill
    return run.workload.label_decode if name == "decode_tokens_per_second" else ""
