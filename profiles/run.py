"""What to run, in which order, and what it adds up to: launches in fresh processes, models interleaved.

Knows no engine: a launch is a child process (launch.py). After each launch the report so far is handed to the
caller, so that a crash, a kill or an impatient user loses nothing that was measured.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import IO

from edgellm import __version__, hardware
from edgellm.artifact import Artifact
from edgellm.errors import EngineCrashError, EngineError, UsageError
from edgellm.profiles import checks, derive, energy, machine, roofline
from edgellm.profiles.caveats import Caveat, Value
from edgellm.profiles.codec import from_plain, to_plain
from edgellm.profiles.energy import _estimate
from edgellm.profiles.launch import LaunchRequest
from edgellm.profiles.model_files import display_name, model_record
from edgellm.profiles.result import SCHEMA, Launch, Machine, ModelRecord, Report, Run, Workload
from edgellm.profiles.settings import Settings
from edgellm.session import EngineOptions

#: Receives a line about what is going on.
Progress = Callable[[str], None]
#: Receives the report so far, after each launch.
Save = Callable[[Report], None]

LAUNCH_COMMAND = (sys.executable, "-m", "edgellm.profiles.launch")


@dataclass(frozen=True)
class ProfileRequest:
    """What to profile and how."""

    artifacts: tuple[Artifact, ...]
    workload: Workload
    options: EngineOptions
    command: str = "edgellm profile"  # as typed, for the record
    opener: str = "edgellm.backends:open_session"


def profile(request: ProfileRequest, progress: Progress, save: Save) -> Report:
    """Run every launch and return the report. Raises EngineError when a model had no successful launch."""
    _check(request)
    options = _with_context(request.options, request.workload)
    here = machine.describe()
    models = [
        replace(model, cache_resident=roofline.cache_resident(model, here.last_level_cache_bytes))
        for model in _model_records(request.artifacts, progress)
    ]
    launches: list[list[Launch]] = [[] for _ in models]
    failures: list[Caveat] = []
    order = schedule(len(models), request.workload.launches)
    for position, (index, number) in enumerate(order):
        title = f"[{position + 1}/{len(order)}] {models[number].name}"
        child = LaunchRequest(models[number].path, request.workload, options, index, position, request.opener)
        try:
            launches[number].append(launch(child, lambda text, title=title: progress(f"{title}: {text}")))  # type: ignore[misc]
        except EngineError as error:
            values: dict[str, Value] = {"launch": index + 1, "error": str(error)}
            failures.append(Caveat("launch-failed", models[number].name, values))
        report = _report(request, here, models, launches, failures, done=position + 1, planned=len(order))
        save(report)
    _raise_if_nothing(report)
    return report


def schedule(n_models: int, n_launches: int) -> list[tuple[int, int]]:
    """(launch, model) pairs, models interleaved and turned around every other time: A B, B A, A B, ...

    So a machine that gets hotter or busier over the run does so for all models alike.
    """
    return [
        (index, model)
        for index in range(n_launches)
        for model in (range(n_models) if index % 2 == 0 else reversed(range(n_models)))
    ]


def launch(request: LaunchRequest, progress: Progress) -> Launch:
    """One launch in a fresh process. Raises EngineError: what the child said, or how it died."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            LAUNCH_COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        try:
            assert child.stdin and child.stdout
            with (
                contextlib.suppress(BrokenPipeError),
                child.stdin,
            ):  # a child that died at once is told of below
                json.dump(to_plain(request), child.stdin)
            result = _listen(child.stdout, progress)
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        if result is None:
            raise EngineCrashError(f"the launch {_ending(code)}{_last_line(errors)}; see: edgellm doctor")
    return result


def _listen(lines: IO[str], progress: Progress) -> Launch | None:
    for line in lines:
        if not line.startswith("{"):
            continue  # printed by something that was imported before standard output was ours
        (kind, value), *_ = json.loads(line).items()
        if kind == "progress":
            progress(value)
        elif kind == "error":
            raise EngineError(value)
        else:
            return from_plain(Launch, value)
    return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""


def _check(request: ProfileRequest) -> None:
    workload = request.workload
    for name, value, least in (
        ("-p", workload.n_prompt, 1),
        ("-n", workload.n_gen, 0),
        ("-r", workload.repetitions, 1),
        ("--launches", workload.launches, 1),
    ):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, got {value}")
    energy.check(workload.energy)
    if workload.energy_estimate is not None:
        _estimate.parse(workload.energy_estimate)
    if not request.artifacts:
        raise UsageError("there is no model to profile; name one")


def _with_context(options: EngineOptions, workload: Workload) -> EngineOptions:
    """Just enough context for prompt and answer, unless the user asked for more."""
    need = workload.n_prompt + workload.n_gen + 1
    if options.n_ctx is None:
        return replace(options, n_ctx=need)
    if options.n_ctx < need:
        raise UsageError(f"-p and -n need {need} tokens of context, -c gives {options.n_ctx}")
    return options


def _model_records(artifacts: Sequence[Artifact], progress: Progress) -> list[ModelRecord]:
    """Hash and describe each model. Reading all of it also brings it into the page cache, for all alike."""
    names = unique_names([display_name(artifact) for artifact in artifacts])
    records = []
    for artifact, name in zip(artifacts, names, strict=True):
        progress(f"{name}: reading {artifact.size_bytes / 1e6:,.0f} MB for its hash")
        records.append(model_record(artifact, name))
    return records


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, told apart by a number where two are the same (an A/A run)."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _report(
    request: ProfileRequest,
    here: Machine,
    models: Sequence[ModelRecord],
    launches: Sequence[Sequence[Launch]],
    failures: Sequence[Caveat],
    *,
    done: int,
    planned: int,
) -> Report:
    runs = tuple(_run(request, model, own, here) for model, own in zip(models, launches, strict=True))
    caveats = [*checks.check_machine(here, runs), *failures]
    for run in runs:
        caveats += checks.check_run(run)
    if done < planned:
        caveats.insert(0, Caveat("incomplete", "", {"done": done, "planned": planned}))
    return Report(
        schema=SCHEMA,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edgellm_version=__version__,
        command=request.command,
        machine=here,
        runs=runs,
        caveats=tuple(caveats),
        complete=done == planned,
    )


def _run(request: ProfileRequest, model: ModelRecord, launches: Sequence[Launch], here: Machine) -> Run:
    settings = settings_of(request.options, model.format)
    kv = launches[0].engine.kv_bytes_per_token if launches else None
    found = roofline.limits(model, request.workload, here.ceiling(settings.n_threads), kv)
    measured = derive.measurements(launches, found)
    return Run(model, request.workload, tuple(launches), measured, settings, limits=found)


def settings_of(options: EngineOptions, format_: str) -> Settings:
    """The part of the engine's options that tells runs apart."""
    return Settings(
        backend="llamacpp" if format_ == "gguf" else "onnxruntime",
        n_threads=options.n_threads or hardware.default_threads(),
        n_gpu_layers=options.n_gpu_layers or 0,
        flash_attn=options.flash_attn,
        type_k=options.type_k or "f16",
        type_v=options.type_v or "f16",
        use_mmap=options.use_mmap is not False,
        repack=options.repack,
    )


def _raise_if_nothing(report: Report) -> None:
    for run in report.runs:
        if not run.launches:
            failed = next(
                c for c in report.caveats if c.code == "launch-failed" and c.subject == run.model.name
            )
            raise EngineError(f"{run.model.name}: no launch succeeded: {failed.values['error']}")
