"""`edgellm profile` on other machines: their results in a folder, and what all of them say together."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import files
from edgellm.errors import EngineError, UsageError
from edgellm.terminal import Progress, emit, note

if TYPE_CHECKING:
    from edgellm.profiles.fleet.run import Opener, Outcome
    from edgellm.profiles.result.result import Report
    from edgellm.profiles.study.plan import Grid
    from edgellm.profiles.study.run import ProfileRequest


@dataclass(frozen=True)
class Measured:
    """The machines' results, and where they are kept."""

    paths: Mapping[str, Path]
    results: Mapping[str, Report]
    outcomes: Sequence[Outcome]  # of those that were measured now


def measure(
    openers: Mapping[str, Opener],
    grid: Grid,
    request: ProfileRequest,
    into: Path,
    *,
    finish: bool,
    force: bool,
    quiet: bool,
) -> Measured:
    """Run the plan of `request`, made for this machine, on every node. Raises EdgellmError."""
    from edgellm.profiles.fleet import run

    paths = _paths(into, openers)
    done, begun = _earlier(paths, finish=finish, force=force)
    artifacts = list({id(spec.artifact): spec.artifact for spec in request.specs}.values())
    fleet = run.Fleet(
        replace(grid, quality=False, reference=None), artifacts, request.command, request.ceilings, begun
    )
    left = {name: opener for name, opener in openers.items() if name not in done}
    with Progress(quiet=quiet) as progress:
        told = _Told(progress, quiet)
        outcomes = run.run(left, fleet, told, lambda name, report: _save(paths[name], report)) if left else []
    now = {each.name: each.report for each in outcomes if each.report is not None}
    return Measured(paths, done | now, outcomes)


def finish(
    fleet: Measured,
    request: ProfileRequest,
    outputs: Mapping[Path, str],
    on_screen: str,
    *,
    lang: str,
    quiet: bool,
) -> None:
    """Measure quality, here and once; show what all say together, and who failed. Raises EngineError."""
    from edgellm.profiles.fleet import run

    results = dict(fleet.results)
    if meters := request.quality_meters:
        note("measuring quality, here and once: it is the models', not the machines'")
        quality = {name: meter(name) for name, meter in meters.items()}
        results = {name: run.judged(report, quality) for name, report in results.items()}
        for name, report in results.items():
            _save(fleet.paths[name], report)
    _show(results, outputs, on_screen, lang)
    _end(fleet.outcomes, fleet.paths, quiet=quiet)


def _paths(into: Path, openers: Mapping[str, Opener]) -> dict[str, Path]:
    """Each node's file. Raises UsageError."""
    if into.exists() and not into.is_dir():
        raise UsageError(f"--into {into} is no folder; each machine's result is a file in it")
    paths = {name: into / f"{re.sub('[^A-Za-z0-9_.@-]', '_', name)}.json" for name in openers}
    if len(set(paths.values())) < len(paths):
        raise UsageError("two machines' results would have the same name; name the machines otherwise")
    return paths


def _earlier(
    paths: Mapping[str, Path], *, finish: bool, force: bool
) -> tuple[dict[str, Report], dict[str, Report]]:
    """Results that are there already, complete ones and others. Raises EdgellmError."""
    from edgellm.profiles.result.result import read

    if not finish:
        for path in paths.values():
            if path.exists() and not force:
                raise UsageError(
                    f"{path} exists; give --finish to go on with what is there, or --force to begin anew"
                )
        return {}, {}
    there = {name: read(path) for name, path in paths.items() if path.exists()}
    return (
        {name: report for name, report in there.items() if report.complete},
        {name: report for name, report in there.items() if not report.complete},
    )


def _save(path: Path, report: Report) -> None:
    from edgellm.profiles.result.result import to_json

    with files.storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, to_json(report))


class _Told:
    """What all nodes are doing, on one line; elsewhere than on a terminal a line for each step of each."""

    def __init__(self, progress: Progress, quiet: bool) -> None:
        self._progress, self._quiet = progress, quiet
        self._lock = threading.Lock()
        self._doing: dict[str, str] = {}

    def __call__(self, name: str, text: str) -> None:
        with self._lock:
            self._doing[name] = text
            if self._progress.live:
                self._progress.show(" | ".join(f"{each}: {doing}" for each, doing in self._doing.items()))
            elif not self._quiet and "repetition" not in text and not text.endswith("%"):
                note(f"{name}: {text}")


def _show(results: Mapping[str, Report], outputs: Mapping[Path, str], on_screen: str, lang: str) -> None:
    """The machines side by side; one by itself has nothing beside it."""
    from edgellm.profiles import report as reports

    finished = {
        f"{name}.json": each for name, each in results.items() if any(run.launches for run in each.runs)
    }
    if finished:
        for path, form in outputs.items():
            files.write_text(path, reports.render_all(finished, form, lang))
        emit(reports.render_all(finished, on_screen, lang))


def _end(outcomes: Sequence[Outcome], paths: Mapping[str, Path], *, quiet: bool) -> None:
    """Say what was written and who failed. Raises EngineError."""
    failed = [each for each in outcomes if each.error is not None]
    for each in outcomes:
        if each.report is not None and not quiet:
            note(f"wrote {paths[each.name]}")
    for each in failed:
        note(f"{each.name}: {each.error}")
    if failed:
        names = ", ".join(each.name for each in failed)
        raise EngineError(f"{len(failed)} machines did not finish ({names}); --finish goes on with them")
