"""What a profile is, as data: raw records of each launch, and the measurements derived from them.

A report has many runs; a run is one model with one set of engine settings at one point of the workload, and has
several launches. Plain frozen dataclasses with SI units in their names; `to_json` and `from_json` are inverse.
Nothing here measures or renders. A value that was not measured is None, and a reason stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgellm.errors import EdgellmError
from edgellm.machine.noise import NoiseRecord
from edgellm.profiles.result.bounds import Ceiling, Limits
from edgellm.profiles.result.caveats import Caveat
from edgellm.profiles.result.codec import CodecError, beyond, from_plain, put_back, to_plain
from edgellm.profiles.result.quality_record import QualityRecord
from edgellm.profiles.result.settings import Plan, Settings, Workload
from edgellm.session import Buffers
from edgellm.stats import Summary, summarize, widen

#: Changed whenever a field changes its meaning or goes; a new optional field does not change it.
SCHEMA = "edgellm.profile/2"


@dataclass(frozen=True)
class ModelRecord:
    """Which model, exactly. Optional facts are None where the format does not tell."""

    name: str
    path: str
    format: str  # "gguf" | "onnx"
    sha256: str
    size_bytes: int  # on disk
    architecture: str | None = None
    quantization: str | None = None
    n_params: int | None = None
    tensor_bytes: int | None = None
    tensor_types: Mapping[str, int] | None = None  # type -> number of tensors
    n_layer: int | None = None
    n_ctx_train: int | None = None
    n_params_active: int | None = None  # each token is multiplied with: no embedding, no head, active experts
    n_params_head: int | None = None  # multiplied with only where logits are wanted: once in a prompt
    weight_bytes_per_token: int | None = None  # read to decode one token: no untied embedding, active experts
    tokenizer_sha256: str | None = None
    cache_resident: bool | None = None  # smaller than four last-level caches: no roofline claim is made


@dataclass(frozen=True)
class EngineRecord:
    """Which engine, with which settings, as resolved when opened."""

    backend: str
    version: str
    system: str
    n_ctx: int
    n_vocab: int
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    kv_bytes_per_token: float | None = None


@dataclass(frozen=True)
class PromptRecord:
    """The prompt, and how this model's tokenizer sees the fixed text it was cut from."""

    n_tokens: int
    n_bytes: int
    sha256: str  # of the prompt's bytes
    tokens_sha256: str  # of its ids: the same where two tokenizers cut the text alike
    bytes_per_token: float  # over the whole fixed text: what makes tokenizers comparable
    text_bytes: int  # of the fixed text
    text_sha256: str
    text_characters: int | None = None  # of the fixed text; None: written before it was counted


@dataclass(frozen=True)
class Repetition:
    """One timed pass. Times in nanoseconds of the monotonic clock."""

    tokenize_ns: int
    prefill_ns: int  # prompt ids handed over -> first token in hand
    gaps_ns: tuple[int, ...]  # between one token and the next: n_gen - 1 of them
    frequency_mhz: float | None = None  # mean over the CPUs, right after


@dataclass(frozen=True)
class MemoryPhase:
    """The process's memory in one phase: the highest it rose to, and how it stood at the end. In bytes."""

    phase: str  # "start" | "load" | "prefill" | "decode" | "repetitions"
    peak: int | None
    resident: int | None = None
    anonymous: int | None = None
    file: int | None = None
    weights_mapped: int | None = None  # the part of `file` that is the model
    swap: int | None = None
    pss: int | None = None  # shared pages divided among their users


@dataclass(frozen=True)
class MemorySplit:
    """The peak taken apart, in bytes; the parts add up to the peak."""

    weights: int  # resident pages of the model's files, and repacked copies
    kv: int
    compute: int  # touched while evaluating
    rest: int  # interpreter, libraries, tokenizer; what loading needed, where that was the peak


@dataclass(frozen=True)
class MemoryRecord:
    """Memory by phase; `reason` says what could not be seen and why."""

    phases: tuple[MemoryPhase, ...]
    peak_scope: str  # "phase": peaks are per phase; "process": only since the process began
    reason: str | None = None
    split: MemorySplit | None = None
    engine: Buffers | None = None
    predicted: Buffers | None = None
    split_reason: str | None = None  # why one of these three is missing
    gpu_bytes: int | None = None  # peak
    gpu_reason: str | None = None


@dataclass(frozen=True)
class EnergyWindow:
    """Energy between two readings."""

    phase: str  # "load" | "idle" | "prefill" | "decode"
    seconds: float
    tokens: int  # processed in the window; 0 where tokens mean nothing
    joules: Mapping[str, float]  # by channel; their sum is the total
    parts: Mapping[str, float] | None = (
        None  # channels inside those above, or of hardware this run does not use
    )
    error_joules: float | None = None  # standard error of the total by what the meter cannot resolve in time


@dataclass(frozen=True)
class EnergyRecord:
    """What the meter saw, or why there is none."""

    meter: str | None
    kind: str | None = None
    scope: str | None = None
    update_period_seconds: float | None = None
    windows: tuple[EnergyWindow, ...] = ()
    reason: str | None = None
    phase_reasons: Mapping[str, str] | None = None  # phase -> why it has no figure


@dataclass(frozen=True)
class PhaseSpan:
    """When a phase ran by the wall clock: what a meter that was read elsewhere is aligned with."""

    phase: str
    begin_unix: float
    seconds: float
    tokens: int


@dataclass(frozen=True)
class EstimatedEnergy:
    """Energy of a phase that nobody measured: idle power + (full power - idle power) x utilisation."""

    phase: str
    seconds: float
    tokens: int
    utilisation: float  # of all processors, by this process
    joules: float


@dataclass(frozen=True)
class EnergyEstimate:
    """A guess that was asked for, kept apart from every measurement: it enters no ranking and no average."""

    idle_watts: float
    max_watts: float
    origin: str  # where the two powers come from
    phases: tuple[EstimatedEnergy, ...] = ()


@dataclass(frozen=True)
class Launch:
    """One fresh process: opened the model, warmed up, measured, closed."""

    index: int  # the block of interleaved launches it belongs to, from 0: what pairs the runs' launches
    position: int  # place in the order of all launches of the report
    started: str  # ISO 8601, UTC
    prepare_ns: int  # loading the engine's library, once per process
    load_ns: (
        int  # opening the model with the library loaded; its file was read before, so it is in the page cache
    )
    engine: EngineRecord
    prompt: PromptRecord
    repetitions: tuple[Repetition, ...]
    memory: MemoryRecord
    energy: EnergyRecord
    noise: NoiseRecord
    energy_beside: tuple[EnergyRecord, ...] = ()  # other meters, each of a scope of its own: never added
    energy_estimate: EnergyEstimate | None = None
    spans: tuple[PhaseSpan, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """A named quantity with all its samples in the order taken, or none and the reason why."""

    name: str
    unit: str
    samples: tuple[float, ...]
    launches: tuple[int, ...]  # which launch each sample came from
    reason: str | None = None
    resolution: float | None = None  # standard error of a sample that the meter's pace alone makes

    def summary(self) -> Summary | None:
        """Statistics of the samples; None when nothing was measured."""
        if not self.samples:
            return None
        found = summarize(self.samples, self.launches)
        return found if self.resolution is None else widen(found, self.resolution)


@dataclass(frozen=True)
class LaunchFailure:
    """A launch that gave no figures."""

    index: int  # its block
    position: int
    error: str


@dataclass(frozen=True)
class Run:
    """One model with one set of settings at one point of the workload."""

    model: ModelRecord
    workload: Workload
    launches: tuple[Launch, ...]
    measurements: tuple[Measurement, ...]
    settings: Settings
    failures: tuple[LaunchFailure, ...] = ()
    limits: Limits = field(default_factory=Limits)
    ended: str | None = None  # "launches" | "interval" | "budget" | "failed": why no more; None: going on

    def measurement(self, name: str) -> Measurement:
        """The measurement called `name`. Raises KeyError."""
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(name)

    def summary(self, name: str) -> Summary | None:
        """Statistics of the measurement called `name`; None when it is absent or has no samples."""
        found = [m for m in self.measurements if m.name == name]
        return found[0].summary() if found else None


@dataclass(frozen=True)
class Machine:
    """The machine and its software, as far as they bear on the figures. None: this system does not tell."""

    cpu_model: str | None
    cpu_flags: tuple[str, ...]
    microcode: str | None
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int | None  # by affinity
    smt: bool | None
    last_level_cache_bytes: int | None
    governor: str | None
    frequency_mhz: float | None
    frequency_max_mhz: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None  # of the container
    hypervisor: str | None
    power_source: str | None  # "mains" | "battery"
    os: str
    kernel: str
    python: str
    libraries: Mapping[str, str]
    affinity: tuple[int, ...] | None = None  # processors this process may use
    ceilings: tuple[Ceiling, ...] = ()

    def ceiling(self, n_threads: int) -> Ceiling | None:
        """What was measured with `n_threads`."""
        return next((c for c in self.ceilings if c.n_threads == n_threads), None)


@dataclass(frozen=True)
class Report:
    """The result of one `edgellm profile`."""

    schema: str
    created: str  # ISO 8601, UTC
    edgellm_version: str
    command: str
    machine: Machine
    runs: tuple[Run, ...]
    caveats: tuple[Caveat, ...]
    complete: bool
    plan: Plan = field(default_factory=Plan)
    quality: Mapping[str, QualityRecord] | None = None  # by the model's name; None: not asked for
    unknown: Any = (
        None  # fields of a newer edgellm's that this one does not know: written again in their places
    )


class ResultError(EdgellmError):
    """A result file is not what it says."""


def to_json(report: Report) -> str:
    """The report as indented JSON; each measurement and caveat also carries what can be derived from it."""
    plain = to_plain(replace(report, unknown=None))
    del plain["unknown"]
    for run, plain_run in zip(report.runs, plain["runs"], strict=True):
        for measurement, plain_one in zip(run.measurements, plain_run["measurements"], strict=True):
            plain_one["summary"] = to_plain(measurement.summary())
    for caveat, plain_caveat in zip(report.caveats, plain["caveats"], strict=True):
        plain_caveat |= {"fact": caveat.fact, "advice": caveat.advice}
    put_back(plain, report.unknown)
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, name: str = "report") -> Report:
    """Read what `to_json` wrote; derived values are derived anew. Raises ResultError.

    Fields that a newer edgellm added under the same schema are kept aside, and written again by `to_json`.
    """
    try:
        plain = json.loads(text)
        schema = plain["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultError(f"{name} is not an edgellm result: no readable `schema` field") from error
    if schema != SCHEMA:
        raise ResultError(f"{name} has schema {schema!r}; this edgellm reads {SCHEMA!r}")
    try:
        plain.pop("unknown", None)
        for run in plain["runs"]:
            for measurement in run["measurements"]:
                measurement.pop("summary", None)
        for caveat in plain["caveats"]:
            caveat.pop("fact", None)
            caveat.pop("advice", None)
        report = from_plain(Report, plain, lenient=True)
        _check_samples(report)
        return replace(report, unknown=beyond(plain, to_plain(report)) or None)
    except (CodecError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"{name} is damaged or was edited: {error}") from error


def _check_samples(report: Report) -> None:
    """Each sample belongs to a launch that is there, with repetitions. Raises CodecError."""
    for number, run in enumerate(report.runs):
        if not all(launch.repetitions for launch in run.launches):
            raise CodecError(f"Report.runs[{number}]: a launch has no repetitions")
        for measurement in run.measurements:
            known = {launch.index for launch in run.launches}
            if len(measurement.launches) != len(measurement.samples) or not known.issuperset(
                measurement.launches
            ):
                raise CodecError(f"Report.runs[{number}]: {measurement.name} has samples of no launch")


def read(path: Path) -> Report:
    """The result in a file. Raises ResultError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from error
    return from_json(text, str(path))
