"""`tune`: search on one model, hold what was found against where it started, remember it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from edgellm import backends
from edgellm.backends import tuned
from edgellm.formats.artifact import Artifact
from edgellm.machine import others
from edgellm.session import EngineOptions
from edgellm.tuning import probe, search, space
from edgellm.tuning.search import Comparison, Found
from edgellm.tuning.space import DECODE

_CONFIRM_ROUNDS = 6
_SEARCH_SHARE = 0.8  # of the budget; the rest is for the comparison at the end

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TuneOptions:
    """What to tune for."""

    depths: tuple[int, ...] = (512, 2048)  # cached tokens: a short and a long conversation
    budget_seconds: float = 90.0
    lossy: bool = False


@dataclass(frozen=True)
class Tuned:
    """What came out."""

    record: tuned.Record
    found: Found
    comparison: tuple[Comparison, ...]  # empty when the start is the best there is


def tune(artifact: Artifact, options: TuneOptions, progress: Progress) -> Tuned:
    """Search, confirm, remember. Raises EngineError when the model cannot be opened at all."""
    depths = fitting(artifact, options.depths)
    start = space.start(artifact.format)
    busy = [others.busy_share()]
    with probe.Probe(artifact, depths) as bench:
        request = search.Request(
            space.knobs(artifact.format), start, depths, _SEARCH_SHARE * options.budget_seconds, options.lossy
        )
        found = search.Search(bench, request, progress).run()
        rows: tuple[Comparison, ...] = ()
        if found.options != start:
            progress("what was found against the defaults, in a fresh process")
            busy.append(others.busy_share())
            rows = search.compare(bench, start, found.options, depths, _CONFIRM_ROUNDS)
    if any(row.phase == DECODE and (row.ratio.ci95_high or 1.0) < 1 for row in rows):
        found, rows = (
            replace(found, options=start),
            (),
        )  # what the search saw does not come back: a busy machine
    record = record_of(artifact, start, found.options, "full", depths, rows)
    record = replace(record, busy=max((share for share in busy if share is not None), default=None))
    tuned.write(artifact, backends.build(artifact.format), record)
    return Tuned(record, found, rows)


def fitting(artifact: Artifact, depths: tuple[int, ...]) -> tuple[int, ...]:
    """The depths within the model's window, each once, the smallest first."""
    longest = max(0, (artifact.n_ctx_train or max(depths) + probe.MARGIN) - probe.MARGIN)
    return tuple(sorted({min(depth, longest) for depth in depths}))


def record_of(
    artifact: Artifact,
    start: EngineOptions,
    best: EngineOptions,
    how: str,
    depths: tuple[int, ...],
    rows: tuple[Comparison, ...],
) -> tuned.Record:
    """What is to be remembered: the settings in which `best` differs from `start`."""
    names = [name for name in start.__dataclass_fields__ if getattr(best, name) != getattr(start, name)]
    plain = tuple(
        {
            "phase": row.phase,
            "depth": row.depth,
            "start": row.start,
            "found": row.found,
            "ratio": [row.ratio.value, row.ratio.ci95_low, row.ratio.ci95_high],
        }
        for row in rows
    )
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    settings = {name: getattr(best, name) for name in names}
    return tuned.Record(artifact.name, settings, how, made, depths, rows=plain)
