"""In which order launches are made, and when there are enough of them. Pure: knows no process and no clock.

Launches come in blocks that hold every run once. Each block is shuffled, and the next one is it turned around
(A B C, C B A), so that a machine that gets hotter or busier does so for all runs alike, and no run always comes
after the same other one. The order follows from a seed, so that an interrupted report can go on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from edgellm.profiles.result.result import Measurement, Run
from edgellm.profiles.result.settings import Plan
from edgellm.stats import MIN_LAUNCHES_FOR_INTERVAL

#: The figures whose intervals must be narrow before a run may end.
WATCHED = ("decode_tokens_per_second", "prefill_tokens_per_second")
#: A run whose first launches all failed is given up.
MAX_FAILURES = 2


def block(n_runs: int, index: int, seed: int = 0) -> list[int]:
    """The runs of block `index` in order."""
    order = list(range(n_runs))
    if n_runs > 2:  # of two, a shuffle could only undo the turning around
        random.Random(f"{seed} {index // 2}").shuffle(order)
    return order if index % 2 == 0 else order[::-1]


def schedule(n_runs: int, n_blocks: int, seed: int = 0) -> list[tuple[int, int]]:
    """(block, run) pairs of `n_blocks` whole blocks."""
    return [(index, run) for index in range(n_blocks) for run in block(n_runs, index, seed)]


def ending(run: Run, plan: Plan) -> str | None:
    """Why `run` needs no more launches; None while it does."""
    n_done = len(run.launches)
    if not n_done and len(run.failures) >= MAX_FAILURES:
        return "failed"
    if n_done + len(run.failures) < run.workload.launches:
        return None
    if plan.until is None:
        return "launches"
    if n_done >= MIN_LAUNCHES_FOR_INTERVAL and is_narrow(run, plan.until):
        return "interval"
    return "launches" if n_done + len(run.failures) >= plan.max_launches else None


def is_narrow(run: Run, until: float) -> bool:
    """Whether every watched figure that the run has is known to within `until` of its mean."""
    widths = [half_width(run.measurement(name)) for name in WATCHED if run.measurement(name).samples]
    return all(width is not None and width <= until for width in widths)


def half_width(measurement: Measurement) -> float | None:
    """Half of the 95% interval over the mean; None where there is no interval."""
    summary = measurement.summary()
    if summary is None or summary.ci95_low is None or summary.ci95_high is None or not summary.median:
        return None
    return (summary.ci95_high - summary.ci95_low) / 2 / summary.median


def launches_left(runs: Sequence[Run], plan: Plan) -> list[int]:
    """For each run, the launches it is sure to need still; where more may be asked for, one at a time."""
    return [
        0 if run.ended else max(run.workload.launches - len(run.launches) - len(run.failures), 1)
        for run in runs
    ]
