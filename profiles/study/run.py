"""A report from a request: launches in fresh processes, interleaved, until there are enough or the time is spent.

Knows no engine: a launch is a child process (child.py). After each launch the report so far is handed to the
caller, so that a crash, a kill or an impatient user loses nothing that was measured; a report that was saved can
be handed in again to go on with.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from edgellm.errors import EngineError, UsageError
from edgellm.profiles import energy
from edgellm.profiles.measure import buffers, ceilings, child, energy_estimate, energy_log, machine
from edgellm.profiles.measure.child import Progress
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result import derive, model_files, roofline
from edgellm.profiles.result.labels import labels
from edgellm.profiles.result.result import SCHEMA, LaunchFailure, Machine, ModelRecord, Report, Run
from edgellm.profiles.result.settings import Plan, Settings, Workload, engine_options
from edgellm.profiles.study import checks, order
from edgellm.units import count, format_seconds
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.profiles.result.quality_record import QualityRecord

#: Receives the report so far, after each launch.
Save = Callable[[Report], None]
#: Measures how good a model is, by its name in the report.
QualityMeter = Callable[[str], "QualityRecord"]


@dataclass(frozen=True)
class RunSpec:
    """One run to be made."""

    artifact: Artifact
    settings: Settings
    workload: Workload


@dataclass(frozen=True)
class ProfileRequest:
    """What to profile and how. `begun`: the unfinished report of the very same runs, to go on with."""

    specs: tuple[RunSpec, ...]
    plan: Plan = field(default_factory=Plan)
    command: str = "edgellm profile"  # as typed, for the record
    opener: str = "edgellm.backends:open_here"
    ceilings: bool = True  # measure what the machine can do
    quality_meters: Mapping[str, QualityMeter] | None = (
        None  # by the model's name; None: quality is not asked for
    )
    begun: Report | None = None


def profile(request: ProfileRequest, progress: Progress, save: Save) -> Report:
    """Make every launch and return the report. Raises EngineError when no launch of any run succeeded."""
    _check(request)
    report = _Profile(request, progress, save).report()
    if not any(run.launches for run in report.runs):
        raise EngineError(f"{report.runs[0].model.name}: no launch succeeded: {_first_error(report.runs)}")
    return report


class _Profile:
    """The work in hand."""

    def __init__(self, request: ProfileRequest, progress: Progress, save: Save) -> None:
        self._request, self._progress, self._save = request, progress, save
        self._plan, begun = request.plan, request.begun
        self._begin = time.monotonic()
        self._machine = begun.machine if begun else machine.describe()
        self._quality = dict(begun.quality or {}) if begun else {}
        self._meters_take: dict[tuple[str, float], float] = {}
        self._seconds: dict[int, list[float]] = {}  # of the launches made now, by run
        self._runs = list(begun.runs) if begun else self._new_runs()
        self._runs = [self._judged(replace(run, ended=None)) for run in self._runs]
        self._position = sum(len(run.launches) + len(run.failures) for run in self._runs)

    def report(self) -> Report:
        """Do what is left and return all of it."""
        if self._request.ceilings and not self._machine.ceilings:
            self._measure_ceilings()
        for index in itertools.count():
            if all(run.ended for run in self._runs):
                break
            self._block(index)
        if self._request.ceilings:  # once more: machines change
            self._measure_ceilings()
        self._measure_quality()
        report = self._state()
        self._save(report)
        return report

    def _block(self, index: int) -> None:
        """The launches of one block that are not there yet."""
        for number in order.block(len(self._runs), index, self._plan.seed):
            run = self._runs[number]
            done = {launch.index for launch in run.launches} | {failure.index for failure in run.failures}
            if run.ended or index in done:
                continue
            if self._is_spent(number):
                self._runs = [each if each.ended else replace(each, ended="budget") for each in self._runs]
                return
            self._launch(index, number)
            self._save(self._state())

    def _launch(self, index: int, number: int) -> None:
        run = self._runs[number]
        title = f"[{self._position + 1}/{self._planned()}] {labels(self._runs)[number]}"
        options = engine_options(run.settings, run.workload)
        path = str(self._request.specs[number].artifact.path)
        request = LaunchRequest(path, run.workload, options, index, self._position, self._request.opener)
        begin = time.monotonic()
        try:
            left = self._left()
            done = child.launch(request, lambda text: self._progress(f"{title}: {text}{left}"))
            done = buffers.foretell(self._request.specs[number].artifact, options, done)
            run = replace(run, launches=(*run.launches, done))
        except EngineError as error:
            run = replace(run, failures=(*run.failures, LaunchFailure(index, self._position, str(error))))
        self._seconds.setdefault(number, []).append(time.monotonic() - begin)
        self._position += 1
        self._runs[number] = self._judged(run)

    def _judged(self, run: Run) -> Run:
        """The run with its limits, its measurements, and whether it has come to its end."""
        ceiling = self._machine.ceiling(run.settings.n_threads)
        kv = run.launches[0].engine.kv_bytes_per_token if run.launches else None
        limits = roofline.limits(run.model, run.workload, ceiling, kv)
        run = replace(run, limits=limits, measurements=derive.measurements(run.launches, limits))
        return replace(run, ended=order.ending(run, self._plan))

    # --- time ---

    def _spent(self) -> float:
        return self._plan.spent_seconds + time.monotonic() - self._begin

    def _is_spent(self, number: int) -> bool:
        """Whether another launch of the run would go beyond the budget."""
        budget = self._plan.budget_seconds
        return budget is not None and self._spent() + self._expected(number) > budget

    def _expected(self, number: int) -> float:
        """Seconds a launch of the run will take: as its last one, or as others' at the mean; at least its meters'."""
        own = self._seconds.get(number)
        every = [seconds for some in self._seconds.values() for seconds in some]
        seen = own[-1] if own else statistics.fmean(every) if every else 0.0
        return max(seen, self._metering(number))

    def _metering(self, number: int) -> float:
        """Seconds that the meters make a launch of the run longer by."""
        workload = self._runs[number].workload
        key = (workload.energy, workload.energy_seconds)
        if key not in self._meters_take:
            self._meters_take[key] = energy_log.extra_seconds(
                energy.choose(workload.energy), workload.energy_seconds
            )
        return self._meters_take[key]

    def _left(self) -> str:
        """Words on the time left, once there is something to tell by."""
        wanted = order.launches_left(self._runs, self._plan)
        seconds = sum(n * self._expected(number) for number, n in enumerate(wanted))
        if not seconds:
            return ""
        if self._plan.budget_seconds is not None:
            seconds = min(seconds, max(0.0, self._plan.budget_seconds - self._spent()))
        return f" (about {format_seconds(round(seconds))} left)"

    def _planned(self) -> int:
        return self._position + sum(order.launches_left(self._runs, self._plan))

    # --- the machine and the models ---

    def _new_runs(self) -> list[Run]:
        """All runs, without a launch yet; each model is read once for its hash."""
        specs = self._request.specs
        artifacts = [spec.artifact for spec in specs]
        names = names_of(artifacts)
        records: dict[str, ModelRecord] = {}
        for artifact, name in zip(artifacts, names, strict=True):
            if name not in records:
                self._progress(f"{name}: reading {artifact.size_bytes / 1e6:,.0f} MB for its hash")
                records[name] = _record(artifact, name, self._machine)
        return [
            Run(records[name], spec.workload, (), (), spec.settings)
            for name, spec in zip(names, specs, strict=True)
        ]

    def _measure_ceilings(self) -> None:
        """For each number of threads; what was measured before counts too, for a ceiling is the best seen."""
        found = []
        for n_threads in sorted({run.settings.n_threads for run in self._runs}):
            self._progress(f"measuring what the machine can do with {count(n_threads, 'thread')}")
            fresh = ceilings.measure(n_threads, self._machine.last_level_cache_bytes)
            found.append(ceilings.best(self._machine.ceiling(n_threads), fresh))
        self._machine = replace(self._machine, ceilings=tuple(found))
        self._runs = [replace(self._judged(run), ended=run.ended) for run in self._runs]

    def _measure_quality(self) -> None:
        quality_meters = self._request.quality_meters or {}
        for number, (name, meter) in enumerate(quality_meters.items(), 1):
            if name in self._quality:
                continue
            self._progress(f"[{number}/{len(quality_meters)}] {name}: measuring its quality")
            self._quality[name] = meter(name)
            self._save(self._state())

    def _state(self) -> Report:
        """The report as it stands."""
        complete = all(run.ended for run in self._runs)
        if self._request.quality_meters is not None:
            complete = complete and set(self._request.quality_meters) <= set(self._quality)
        return Report(
            schema=SCHEMA,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            edgellm_version=__version__,
            command=self._request.command,
            machine=self._machine,
            runs=tuple(self._runs),
            caveats=tuple(checks.check(self._machine, self._runs, self._planned(), complete=complete)),
            complete=complete,
            plan=replace(self._plan, spent_seconds=self._spent()),
            quality=None if self._request.quality_meters is None else dict(self._quality),
        )


def _record(artifact: Artifact, name: str, here: Machine) -> ModelRecord:
    record = model_files.model_record(artifact, name)
    return replace(record, cache_resident=roofline.cache_resident(record, here.last_level_cache_bytes))


def names_of(artifacts: Sequence[Artifact]) -> list[str]:
    """What the report calls each; two models of one name are told apart by a number (an A/A run)."""
    kinds: dict[str, list[int]] = {}
    names = []
    for artifact in artifacts:
        name = model_files.display_name(artifact)
        # The very same object is the same model again with other settings; another one is another model.
        same = kinds.setdefault(name, [])
        if id(artifact) not in same:
            same.append(id(artifact))
        place = same.index(id(artifact)) + 1
        names.append(name if place == 1 else f"{name} ({place})")
    return names


def _check(request: ProfileRequest) -> None:
    if not request.specs:
        raise UsageError("there is no model to profile; name one")
    for spec in request.specs:
        workload = spec.workload
        for name, value, least in (
            ("-p", workload.n_prompt, 1),
            ("-n", workload.n_gen, 0),
            ("-d", workload.n_depth, 0),
            ("-r", workload.repetitions, 1),
            ("--launches", workload.launches, 1),
        ):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        energy.check(workload.energy)
        if workload.energy_estimate is not None:
            energy_estimate.parse(workload.energy_estimate)
        engine_options(spec.settings, workload)


def _first_error(runs: Sequence[Run]) -> str:
    return next(
        (failure.error for run in runs for failure in run.failures), "the time was spent before one ended"
    )
