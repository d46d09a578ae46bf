"""How often each verdict is given, right and wrong, in simulated comparisons of two models: docs/report.md's table.

    python bench/verdicts.py [--trials 400] [--seed 1]

The machine is tests/helpers/noise_model.py's, whose defaults are what a shared 2-core virtual machine showed; all
axes are judged together, as `edgellm compare` and the page do. For each true slowdown of one model and each number
of launches: the share of trials whose verdict on decode speed is "differs", "the same" (within what margin most
often) and "cannot tell", and the launches that the latter asked for. Then, over all axes of a comparison: how often
equals were said to differ, and how often anything was called the same within a margin by which it differs. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import noise_model

from edgellm.profiles.compare.verdict import AXES, Pair, judge
from edgellm.profiles.study.order import schedule

SLOWDOWNS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
LAUNCHES = (3, 5, 8, 16)


def trial(rng: random.Random, slowdown: float, launches: int) -> dict[str, Pair]:
    """One simulated comparison: the pair of each axis by its metric."""
    measured = noise_model.measure(rng, schedule(2, launches), (1.0, 1.0 + slowdown))
    return {verdict.axis.metric: verdict.pairs[0] for verdict in judge(AXES, measured, paired=True)}


def main(argv: list[str] | None = None) -> int:
    """Print the table, then JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    rng = random.Random(given.seed)
    rows = []
    for slowdown in SLOWDOWNS:
        for launches in LAUNCHES:
            pairs = [trial(rng, slowdown, launches) for _ in range(given.trials)]
            rows.append(row(slowdown, launches, pairs))
            print(text(rows[-1]), flush=True)
    print(json.dumps({"trials": given.trials, "seed": given.seed, "rows": rows}))
    return 0


def row(slowdown: float, launches: int, trials: list[dict[str, Pair]]) -> dict[str, float | int | None]:
    """Shares of the verdicts on decode, and of comparisons with a false claim on any axis."""
    decode = [found["decode_tokens_per_second"] for found in trials]
    margins = [pair.same_within for pair in decode if pair.same_within is not None]
    wanted = [pair.launches_to_tell for pair in decode if pair.launches_to_tell is not None]
    n = len(trials)
    false_same = sum(
        any(wrong_same(metric, pair, slowdown) for metric, pair in found.items()) for found in trials
    )
    false_differs = sum(
        any(pair.differs and (not slowdown or metric == "peak_bytes") for metric, pair in found.items())
        for found in trials
    )
    return {
        "slowdown": slowdown,
        "launches": launches,
        "differs": sum(pair.differs for pair in decode) / n,
        "same": len(margins) / n,
        "margin": statistics.median_low(margins) if margins else None,
        "cannot_tell": sum(not pair.told for pair in decode) / n,
        "launches_asked_for": int(statistics.median(wanted)) if wanted else None,
        "false_differs": false_differs / n,
        "false_same": false_same / n,
    }


def wrong_same(metric: str, pair: Pair, slowdown: float) -> bool:
    """Whether something is called the same within a margin by which it differs. Memory is the same."""
    return pair.same_within is not None and metric != "peak_bytes" and slowdown >= pair.same_within


def text(found: dict[str, float | int | None]) -> str:
    """A row of the table in Markdown."""
    margin = "" if found["margin"] is None else f" (mostly within {found['margin']:.0%})"
    return (
        f"| {found['slowdown']:.0%} | {found['launches']} | {found['differs']:.0%} | {found['same']:.0%}{margin} | "
        f"{found['cannot_tell']:.0%} | {found['launches_asked_for'] or ''} | {found['false_differs']:.1%} | "
        f"{found['false_same']:.1%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
