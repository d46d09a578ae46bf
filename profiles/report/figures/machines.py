"""Results of several machines as one: models matched by their hash, machines held against the first.

Each machine runs a shared model at the settings with which it decodes fastest there. Knows how to match and what
to refuse; joined pages and tables are made from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from edgellm.errors import UsageError
from edgellm.profiles.compare.comparison import Point, point_of
from edgellm.profiles.compare.verdict import pair_ratio
from edgellm.profiles.report.figures.line import COLOURS, Line, lines
from edgellm.profiles.report.figures.pairs import axis_of
from edgellm.profiles.report.figures.scale import capital, scale_for
from edgellm.profiles.report.words import metric_name, say
from edgellm.profiles.result.result import Report
from edgellm.stats import Ratio, combined

#: What machines are held against each other by.
METRICS = (
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "ttft_seconds",
    "peak_bytes",
    "decode_joules_per_token",
)
#: The same, in what units.
UNITS = ("tok/s", "tok/s", "s", "B", "J/tok")


@dataclass(frozen=True)
class Place:
    """A machine and its result."""

    name: str
    short: str  # the file's name
    report: Report
    lines: tuple[Line, ...]
    css: str


@dataclass(frozen=True)
class Shared:
    """One model under one workload on several machines; None where a machine did not run it."""

    name: str
    by_place: tuple[Line | None, ...]


def places(results: Mapping[str, Report], lang: str) -> list[Place]:
    """The machines by the names of their files. Raises UsageError for what is no machine of its own."""
    found: list[Place] = []
    stems = [PurePath(name).name.removesuffix(".json") for name in results]
    titles = stems if len(set(stems)) == len(stems) else list(results)
    for index, (title, report) in enumerate(zip(titles, results.values(), strict=True)):
        shown = lines([run for run in report.runs if run.launches], lang)
        if not shown:
            raise UsageError(f"{title} has no run with figures; leave it out")
        name = f"{title} ({report.machine.cpu_model or say('unknown', lang)})"
        found.append(Place(name, title, report, tuple(shown), f"m{index % COLOURS}"))
    _check_same(found)
    return found


def _check_same(found: Sequence[Place]) -> None:
    """Boards of one kind may well end in the same second, but not with the same samples."""
    for a, b in itertools.combinations(found, 2):
        if a.report.created == b.report.created and a.report.runs == b.report.runs:
            raise UsageError(f"{a.name} and {b.name} are the same result; leave one out")


def shared(found: Sequence[Place]) -> list[Shared]:
    """Models that two machines or more ran. Raises UsageError, saying what stands against it, without any."""
    best: dict[tuple[str, Point], list[Line | None]] = {}
    names: dict[tuple[str, Point], str] = {}
    for index, place in enumerate(found):
        for line in place.lines:
            key = line.run.model.sha256, point_of(line.run)
            row = best.setdefault(key, [None] * len(found))
            names.setdefault(key, line.run.model.name)
            held = row[index]
            if held is None or _rate(line) > _rate(held):
                row[index] = line
    several = {key: row for key, row in best.items() if sum(line is not None for line in row) > 1}
    if not several:
        raise UsageError(f"the results cannot be joined: {_why_not(found)}")
    points = {key[1] for key in several}
    return [Shared(_title(names[key], key[1], points), tuple(row)) for key, row in several.items()]


def _title(name: str, point: Point, points: set[Point]) -> str:
    """The model; with the point of the workload where there are several."""
    return name if len(points) == 1 else f"{name} · p{point[0]} n{point[1]} d{point[2]}"


def _rate(line: Line) -> float:
    summary = line.run.summary("decode_tokens_per_second")
    return summary.median if summary else 0.0


def _why_not(found: Sequence[Place]) -> str:
    first, second = found[0], found[1]
    for a in first.lines:
        for b in second.lines:
            x, y = a.run.model, b.run.model
            if x.sha256 == y.sha256:
                return (
                    f"{x.name} did different work on {first.name} ({a.run.workload.label_prefill}, "
                    f"{a.run.workload.label_decode}) and {second.name} ({b.run.workload.label_prefill}, "
                    f"{b.run.workload.label_decode}); measure it with the same -p -n -d -b"
                )
            if x.name == y.name:
                return (
                    f"{x.name} is not the same model on {first.name} (SHA-256 {x.sha256[:12]}…) and {second.name} "
                    f"({y.sha256[:12]}…); copy the file instead of converting it anew"
                )
    return f"{first.name} and {second.name} have no model in common; measure the same files on both"


def ratio_over(models: Sequence[Shared], index: int, metric: str) -> tuple[Ratio, int] | None:
    """Machine `index` over the first, and over how many shared models: their geometric mean, or one model's own."""
    pairs = [
        (line.run.measurement(metric), first.run.measurement(metric))
        for each in models
        if (line := each.by_place[index]) and (first := each.by_place[0])
    ]
    pairs = [(a, b) for a, b in pairs if a.samples and b.samples]
    if not pairs:
        return None
    axis = axis_of(metric)
    return combined([pair_ratio(axis, a, b, paired=False) for a, b in pairs]), len(pairs)


def table(found: Sequence[Place], models: Sequence[Shared], metric: str, unit: str) -> list[list[str]]:
    """Rows of text: a head, then a shared model each."""
    rows = [["", *(place.name for place in found)]]
    for each in models:
        summaries = [line.run.summary(metric) if line else None for line in each.by_place]
        known = [summary.median for summary in summaries if summary]
        if known:
            scale = scale_for(unit, max(known))
            rows.append([each.name, *(scale.text(s.median) if s else "–" for s in summaries)])
    return rows


def tables(results: Mapping[str, Report], lang: str) -> list[tuple[str, list[list[str]]]]:
    """(measurement's words, its table) for all that is measured."""
    found = places(results, lang)
    models = shared(found)
    made = [
        (capital(metric_name(metric, lang)), table(found, models, metric, unit))
        for metric, unit in zip(METRICS, UNITS, strict=True)
    ]
    return [(title, rows) for title, rows in made if len(rows) > 1]
