"""Comparisons as JSON: every ratio with its interval, its p-value and the one adjusted for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgellm.profiles.compare.comparison import Comparison, value
from edgellm.profiles.compare.verdict import Verdict
from edgellm.profiles.report.comparison.rows import names_of
from edgellm.profiles.result.codec import to_plain

SCHEMA = "edgellm.compare/1"


def to_json(comparisons: Sequence[Comparison]) -> str:
    """Indented JSON; names are in English."""
    plain = {"schema": SCHEMA, "comparisons": [_plain(comparison) for comparison in comparisons]}
    return json.dumps(to_plain(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(comparison: Comparison) -> dict[str, Any]:
    names = names_of(comparison, "en")
    return {
        "workload": comparison.candidates[0].run.workload,
        "paired": comparison.paired,
        "same_tokenizer": comparison.same_tokenizer,
        "candidates": [
            {"name": name, "source": c.source, "model": c.run.model.name, "sha256": c.run.model.sha256}
            for name, c in zip(names, comparison.candidates, strict=True)
        ],
        "axes": [_plain_axis(comparison, verdict, names) for verdict in comparison.verdicts],
    }


def _plain_axis(comparison: Comparison, verdict: Verdict, names: Sequence[str]) -> dict[str, Any]:
    axis = verdict.axis
    return {
        "axis": axis.name,
        "metric": axis.metric,
        "better": axis.better,
        "values": {n: value(c, axis) for n, c in zip(names, comparison.candidates, strict=True)},
        "winner": None if verdict.winner is None else names[verdict.winner],
        "ratios": [
            {
                "of": names[pair.a],
                "over": names[pair.b],
                "ratio": pair.ratio.value,
                "ci95_low": pair.ratio.ci95_low,
                "ci95_high": pair.ratio.ci95_high,
                "p_value": pair.ratio.p_value,
                "adjusted_p_value": pair.adjusted_p,
                "verdict": "differs" if pair.differs else "same" if pair.told else "cannot tell",
                "same_within": pair.same_within,
                "launches_to_tell": pair.launches_to_tell,
            }
            for pair in verdict.pairs
        ],
    }
