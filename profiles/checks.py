"""Looks at a finished run for what would make a reader wrong to trust it. Returns caveats; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgellm.profiles.caveats import Caveat, Value
from edgellm.profiles.derive import watts
from edgellm.profiles.result import Launch, Machine, Measurement, Run
from edgellm.profiles.stats import half_width95, launch_means, summarize

#: Share of all processors that others may use before a launch is called disturbed.
MAX_FOREIGN_SHARE = 0.02
#: A 95% interval wider than this on either side is called wide.
MAX_HALF_WIDTH = 0.05
#: With two samples every interval is wide: more launches are a matter of patience, not of noise.
MIN_SAMPLES_FOR_WIDTH = 3
#: Total drift over the repetitions that is worth a word, even when clearer than chance.
MIN_DRIFT = 0.02
#: Difference between launches that is worth a word.
MIN_LAUNCH_DIFFERENCE = 0.03
MAX_IDLE_DIFFERENCE = 0.05
#: A model smaller than this many last-level caches may be served from them.
CACHE_MULTIPLE = 4

#: The figures a reader decides by.
WATCHED = ("decode_tokens_per_second", "prefill_tokens_per_second", "load_seconds")

#: Governors that hold the clock up.
_STEADY_GOVERNORS = (None, "performance")


def check_machine(machine: Machine, runs: Sequence[Run]) -> Iterator[Caveat]:
    """Settings of the machine that bear on every model."""
    if machine.governor not in _STEADY_GOVERNORS:
        yield Caveat("governor", "", {"governor": str(machine.governor)})
    if machine.power_source == "battery":
        yield Caveat("on-battery", "")
    threads = {int(launch.engine.options.get("n_threads") or 0) for run in runs for launch in run.launches}
    cores = machine.usable_cores
    if threads and cores and max(threads) > cores:
        yield Caveat("too-many-threads", "", {"threads": max(threads), "cores": cores})


def check_run(run: Run, machine: Machine) -> Iterator[Caveat]:
    """Everything suspicious in one model's run."""
    name = run.model.name
    cache = machine.last_level_cache_bytes
    size = run.model.tensor_bytes
    if cache and size and size * CACHE_MULTIPLE < cache:
        yield Caveat("small-model", name, {"model_bytes": size})
    for launch in run.launches:
        yield from _check_launch(name, launch)
    for note in dict.fromkeys(note for launch in run.launches for note in launch.engine.notes):
        yield Caveat("engine-note", name, {"note": note})
    for metric in WATCHED:
        yield from _check_samples(name, run.measurement(metric))


def _check_launch(name: str, launch: Launch) -> Iterator[Caveat]:
    noise, number = launch.noise, launch.index + 1
    if noise.foreign_share is not None and noise.foreign_share > MAX_FOREIGN_SHARE:
        yield Caveat("foreign-load", name, {"share": noise.foreign_share, "launch": number})
    if noise.steal_share is not None and noise.steal_share > MAX_FOREIGN_SHARE:
        yield Caveat("steal", name, {"share": noise.steal_share, "launch": number})
    if noise.throttle_events:
        yield Caveat("throttled", name, {"count": noise.throttle_events, "launch": number})
    if noise.quota_throttled:
        yield Caveat("cpu-quota", name, {"count": noise.quota_throttled, "launch": number})
    for phase in launch.memory.phases:
        if phase.swap and phase.phase == "repetitions":
            yield Caveat("swapping", name, {"bytes": phase.swap, "phase": phase.phase})
    idle = [watts(window) for window in launch.energy.windows if window.phase == "idle"]
    if len(idle) == 2 and abs(idle[1] - idle[0]) > MAX_IDLE_DIFFERENCE * idle[0]:
        percent = 100 * (idle[1] - idle[0]) / idle[0]
        yield Caveat("idle-differs", name, {"percent": abs(percent), "launch": number})


def _check_samples(name: str, measurement: Measurement) -> Iterator[Caveat]:
    if not measurement.samples:
        return
    summary = summarize(measurement.samples, measurement.launches)
    metric = measurement.name
    if summary.outliers:
        values: dict[str, Value] = {"metric": metric, "count": len(summary.outliers), "n": summary.n}
        yield Caveat("outliers", name, values)
    enough = summary.n >= MIN_SAMPLES_FOR_WIDTH
    if (
        enough
        and summary.ci95_high is not None
        and summary.ci95_high - summary.mean > MAX_HALF_WIDTH * summary.mean
    ):
        percent = 100 * (summary.ci95_high - summary.mean) / summary.mean
        yield Caveat("wide", name, {"metric": metric, "percent": percent})
    yield from _check_drift(name, measurement)
    yield from _check_launches(name, measurement)


def _check_drift(name: str, measurement: Measurement) -> Iterator[Caveat]:
    """Drift inside a launch: over the launches together it would be mixed up with their differences."""
    for index in sorted(set(measurement.launches)):
        own = [
            s for s, launch in zip(measurement.samples, measurement.launches, strict=True) if launch == index
        ]
        summary = summarize(own)
        if summary.drift_per_sample is None or not summary.drift_is_clear:
            continue
        total = summary.drift_per_sample * (len(own) - 1)
        if abs(total) > MIN_DRIFT:
            yield Caveat("drift", name, {"metric": measurement.name, "percent": 100 * total})
            return


def _check_launches(name: str, measurement: Measurement) -> Iterator[Caveat]:
    means = launch_means(measurement.samples, measurement.launches)
    if len(means) < 2 or len(measurement.samples) < 2 * len(means):
        return
    difference = (max(means) - min(means)) / min(means)
    first = [
        s
        for s, i in zip(measurement.samples, measurement.launches, strict=True)
        if i == measurement.launches[0]
    ]
    within = (half_width95(first) or 0.0) / means[0]
    if difference > max(MIN_LAUNCH_DIFFERENCE, 2 * within):
        yield Caveat("launches-differ", name, {"metric": measurement.name, "percent": 100 * difference})
