"""From the raw records of launches to named measurements. Pure arithmetic; the definitions are the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from edgellm.profiles.result.bounds import Limits
from edgellm.profiles.result.result import (
    EnergyRecord,
    EnergyWindow,
    Launch,
    Measurement,
    MemoryPhase,
    PromptRecord,
    Repetition,
)
from edgellm.stats import quantile

NS = 1e-9
#: With fewer gaps the 99th percentile is one unlucky gap.
MIN_GAPS_FOR_P99 = 1000

#: A figure of one repetition; None where the workload does not have it.
PerRepetition = Callable[[Launch, Repetition], "float | None"]
PerLaunch = Callable[[Launch], "float | None"]

_UNKNOWN = Limits(reason="the machine's ceilings were not measured")


@dataclass(frozen=True)
class Metric:
    """A quantity, its unit, and which way is better."""

    name: str
    unit: str
    better: str  # "higher" | "lower"


def _decode_rate(launch: Launch, r: Repetition) -> float | None:
    return len(r.gaps_ns) / (sum(r.gaps_ns) * NS) if r.gaps_ns else None


def _decode_bytes(launch: Launch, r: Repetition) -> float | None:
    rate = _decode_rate(launch, r)
    return None if rate is None else rate * launch.prompt.bytes_per_token


def _gap(q: float) -> PerRepetition:
    return lambda launch, r: quantile(r.gaps_ns, q) * NS if r.gaps_ns else None


REPETITION: tuple[tuple[Metric, PerRepetition], ...] = (
    (
        Metric("ttft_seconds", "s", "lower"),
        lambda launch, r: (r.tokenize_ns + r.prefill_ns) * NS,
    ),
    (
        Metric("prefill_tokens_per_second", "tok/s", "higher"),
        lambda launch, r: launch.prompt.n_tokens / (r.prefill_ns * NS),
    ),
    (
        Metric("prefill_bytes_per_second", "B/s", "higher"),
        lambda launch, r: launch.prompt.n_tokens * launch.prompt.bytes_per_token / (r.prefill_ns * NS),
    ),
    (Metric("decode_tokens_per_second", "tok/s", "higher"), _decode_rate),
    (Metric("decode_bytes_per_second", "B/s", "higher"), _decode_bytes),
    (
        Metric("tpot_seconds", "s", "lower"),
        lambda launch, r: statistics.fmean(r.gaps_ns) * NS if r.gaps_ns else None,
    ),
    (Metric("gap_p50_seconds", "s", "lower"), _gap(0.5)),
    (Metric("gap_p95_seconds", "s", "lower"), _gap(0.95)),
    (
        Metric("answer_seconds", "s", "lower"),
        lambda launch, r: (r.tokenize_ns + r.prefill_ns + sum(r.gaps_ns)) * NS,
    ),
)


def phase(launch: Launch, name: str) -> MemoryPhase | None:
    """The launch's memory record of a phase."""
    return next((p for p in launch.memory.phases if p.phase == name), None)


def _gap_p99(launch: Launch) -> float | None:
    gaps = [gap for r in launch.repetitions for gap in r.gaps_ns]
    return quantile(gaps, 0.99) * NS if len(gaps) >= MIN_GAPS_FOR_P99 else None


def _part(name: str) -> PerLaunch:
    def of(launch: Launch) -> float | None:
        value: int | None = getattr(launch.memory.split, name) if launch.memory.split else None
        return value

    return of


def _peak(*names: str) -> PerLaunch:
    def of(launch: Launch) -> float | None:
        peaks = [p.peak for p in launch.memory.phases if p.phase in names and p.peak is not None]
        return max(peaks, default=None)

    return of


def _last(field: str, name: str = "repetitions") -> PerLaunch:
    def of(launch: Launch) -> float | None:
        found = phase(launch, name)
        value: int | None = getattr(found, field) if found else None
        return value

    return of


def _needed(launch: Launch) -> float | None:
    """Anonymous memory plus the weights touched: what must be there for the model to run at speed."""
    found = phase(launch, "repetitions")
    if found is None or found.anonymous is None:
        return None
    return found.anonymous + (found.weights_mapped or 0)


LAUNCH: tuple[tuple[Metric, PerLaunch], ...] = (
    (Metric("load_seconds", "s", "lower"), lambda launch: launch.load_ns * NS),
    (Metric("library_seconds", "s", "lower"), lambda launch: launch.prepare_ns * NS),
    (Metric("peak_bytes", "B", "lower"), _peak("load", "prefill", "decode", "repetitions")),
    (Metric("peak_load_bytes", "B", "lower"), _peak("load")),
    (Metric("peak_prefill_bytes", "B", "lower"), _peak("prefill")),
    (Metric("peak_decode_bytes", "B", "lower"), _peak("decode")),
    (Metric("anonymous_bytes", "B", "lower"), _last("anonymous")),
    (Metric("file_bytes", "B", "lower"), _last("file")),
    (Metric("weights_mapped_bytes", "B", "lower"), _last("weights_mapped")),
    (Metric("swap_bytes", "B", "lower"), _last("swap")),
    (Metric("pss_bytes", "B", "lower"), _last("pss")),
    (Metric("needed_bytes", "B", "lower"), _needed),
    (Metric("baseline_bytes", "B", "lower"), _last("resident", "start")),
    (Metric("peak_weights_bytes", "B", "lower"), _part("weights")),
    (Metric("peak_kv_bytes", "B", "lower"), _part("kv")),
    (Metric("peak_compute_bytes", "B", "lower"), _part("compute")),
    (Metric("peak_rest_bytes", "B", "lower"), _part("rest")),
    (Metric("gpu_bytes", "B", "lower"), lambda launch: launch.memory.gpu_bytes),
    (Metric("gap_p99_seconds", "s", "lower"), _gap_p99),
)

#: Rates against the machine's ceilings: name -> (metric, the rate it comes from, the limit's field).
_ROOFLINE = {
    metric.name: (metric, rate, field)
    for metric, rate, field in (
        (
            Metric("decode_read_bytes_per_second", "B/s", "higher"),
            "decode_tokens_per_second",
            "bytes_per_token",
        ),
        (
            Metric("decode_bandwidth_share", "", "higher"),  # MBU
            "decode_tokens_per_second",
            "decode_tokens_per_second",
        ),
        (
            Metric("prefill_operations_per_second", "op/s", "higher"),
            "prefill_tokens_per_second",
            "operations_per_token",
        ),
        (
            Metric("prefill_arithmetic_share", "", "higher"),
            "prefill_tokens_per_second",
            "prefill_tokens_per_second",
        ),
    )
}

_ENERGY = {
    "load_joules": Metric("load_joules", "J", "lower"),
    "idle_watts": Metric("idle_watts", "W", "lower"),
    "prefill_watts": Metric("prefill_watts", "W", "lower"),
    "prefill_joules_per_token": Metric("prefill_joules_per_token", "J/tok", "lower"),
    "prefill_joules_per_token_net": Metric("prefill_joules_per_token_net", "J/tok", "lower"),
    "prefill_joules_per_byte": Metric("prefill_joules_per_byte", "J/B", "lower"),
    "decode_watts": Metric("decode_watts", "W", "lower"),
    "decode_joules_per_token": Metric("decode_joules_per_token", "J/tok", "lower"),
    "decode_joules_per_token_net": Metric("decode_joules_per_token_net", "J/tok", "lower"),
    "decode_joules_per_byte": Metric("decode_joules_per_byte", "J/B", "lower"),
}

METRICS: dict[str, Metric] = (
    {metric.name: metric for metric, _ in (*REPETITION, *LAUNCH)}
    | {name: metric for name, (metric, _, _) in _ROOFLINE.items()}
    | _ENERGY
)


def measurements(launches: Sequence[Launch], limits: Limits = _UNKNOWN) -> tuple[Measurement, ...]:
    """Every metric over the launches, each with its samples or the reason for having none."""
    if not launches:
        return tuple(Measurement(m.name, m.unit, (), (), "no launch succeeded") for m in METRICS.values())
    speeds = tuple(_per_repetition(metric, of, launches) for metric, of in REPETITION)
    sizes = tuple(_per_launch(metric, of, launches) for metric, of in LAUNCH)
    rates = {measurement.name: measurement for measurement in speeds}
    roofline = tuple(
        _against(metric, rates[rate], getattr(limits, field), limits.reason, share=field.endswith("second"))
        for metric, rate, field in _ROOFLINE.values()
    )
    return speeds + sizes + roofline + _energies(launches)


def _against(
    metric: Metric, rate: Measurement, by: float | None, reason: str | None, *, share: bool
) -> Measurement:
    """A rate as a share of its limit, or times what each token costs."""
    if by is None or not rate.samples:
        why = rate.reason or reason or "the header does not tell what a token costs"
        return Measurement(metric.name, metric.unit, (), (), why)
    samples = tuple(value / by if share else value * by for value in rate.samples)
    return Measurement(metric.name, metric.unit, samples, rate.launches)


def _per_repetition(metric: Metric, of: PerRepetition, launches: Sequence[Launch]) -> Measurement:
    pairs = [(launch.index, of(launch, r)) for launch in launches for r in launch.repetitions]
    return _measurement(metric, pairs, "the workload decodes fewer than two tokens (-n)")


def _per_launch(metric: Metric, of: PerLaunch, launches: Sequence[Launch]) -> Measurement:
    pairs = [(launch.index, of(launch)) for launch in launches]
    memory = launches[0].memory
    reasons = {
        "gpu_bytes": memory.gpu_reason,
        "gap_p99_seconds": f"a launch needs {MIN_GAPS_FOR_P99} gaps or more for it (-n, -r)",
    }
    split = memory.split_reason if metric.name.startswith("peak_") else None
    reason = reasons.get(metric.name) or split or memory.reason
    return _measurement(metric, pairs, reason or "this system does not tell")


def _measurement(metric: Metric, pairs: Sequence[tuple[int, float | None]], reason: str) -> Measurement:
    known = [(index, float(value)) for index, value in pairs if value is not None]
    return Measurement(
        name=metric.name,
        unit=metric.unit,
        samples=tuple(value for _, value in known),
        launches=tuple(index for index, _ in known),
        reason=None if known else reason,
    )


def idle_watts(record: EnergyRecord) -> float | None:
    """Mean power of the idle windows before and after, the model loaded."""
    idle = [watts(window) for window in record.windows if window.phase == "idle"]
    return statistics.fmean(idle) if idle else None


def _idle_watts_error(record: EnergyRecord) -> float:
    """Standard error of `idle_watts` by the meter's pace."""
    idle = [window for window in record.windows if window.phase == "idle"]
    return math.hypot(*((w.error_joules or 0.0) / w.seconds for w in idle)) / len(idle)


def watts(window: EnergyWindow) -> float:
    """Mean power of a window."""
    return sum(window.joules.values()) / window.seconds


def _energies(launches: Sequence[Launch]) -> tuple[Measurement, ...]:
    """The headline meter's figures, then each other meter's under `NAME@METER`: scopes are never added."""
    others = dict.fromkeys(record.meter for launch in launches for record in launch.energy_beside)
    found = [_energy(metric, launches, lambda launch: launch.energy) for metric in _ENERGY.values()]
    for meter in filter(None, others):
        for metric in _ENERGY.values():
            named = replace(metric, name=f"{metric.name}@{meter}")
            found.append(_energy(named, launches, partial(_beside, meter)))
    return tuple(found)


def _beside(meter: str, launch: Launch) -> EnergyRecord:
    for record in launch.energy_beside:
        if record.meter == meter:
            return record
    return EnergyRecord(meter=None, reason=f"{meter} was not there in this launch")


def _energy(metric: Metric, launches: Sequence[Launch], of: Callable[[Launch], EnergyRecord]) -> Measurement:
    phase_name, _, quantity = metric.name.partition("@")[0].partition("_")
    pairs, errors = [], []
    for launch in launches:
        for window in of(launch).windows:
            if window.phase == phase_name:
                value, error = _energy_value(quantity, launch.prompt, of(launch), window)
                pairs.append((launch.index, value))
                errors += [] if error is None else [error]
    found = _measurement(metric, pairs, _energy_reason(of(launches[0]), phase_name))
    return replace(found, resolution=statistics.fmean(errors)) if errors else found


def _energy_value(
    quantity: str, prompt: PromptRecord, record: EnergyRecord, window: EnergyWindow
) -> tuple[float | None, float | None]:
    """A window's figure, and its standard error by the meter's pace; (None, None) where it has none."""
    scale = _per_joule(quantity, prompt, window)
    if scale is None:
        return None, None
    joules, error = sum(window.joules.values()), window.error_joules
    if quantity.endswith("_net"):
        idle = idle_watts(record)
        if idle is None:
            return None, None
        joules -= idle * window.seconds
        error = None if error is None else math.hypot(error, _idle_watts_error(record) * window.seconds)
    return joules * scale, None if error is None else error * scale


def _per_joule(quantity: str, prompt: PromptRecord, window: EnergyWindow) -> float | None:
    """What one joule in the window counts for in the figure's unit."""
    if quantity == "joules":
        return 1.0
    if quantity == "watts":
        return 1 / window.seconds
    if not window.tokens:
        return None
    return 1 / window.tokens / (prompt.bytes_per_token if quantity == "joules_per_byte" else 1)


def _energy_reason(record: EnergyRecord, phase_name: str) -> str:
    by_phase = (record.phase_reasons or {}).get(phase_name)
    return record.reason or by_phase or "the meter gave no window for this phase"
