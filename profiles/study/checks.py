"""Looks at a finished run for what would make a reader wrong to trust it. Returns caveats; changes nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgellm.profiles.result.caveats import Caveat, Value
from edgellm.profiles.result.derive import watts
from edgellm.profiles.result.labels import labels
from edgellm.profiles.result.result import Launch, Machine, Measurement, Report, Run
from edgellm.profiles.study.order import WATCHED
from edgellm.stats import half_width95, launch_means, summarize

#: Share of all processors that others may use before a launch is called disturbed.
MAX_FOREIGN_SHARE = 0.02
#: The kernel counts in ticks of 10 ms: two of them may be in the wrong place.
TICKS_SECONDS = 0.02
#: A 95% interval wider than this on either side is called wide.
MAX_HALF_WIDTH = 0.05
#: Total drift over the repetitions that is worth a word, even when clearer than chance.
MIN_DRIFT = 0.02
#: Difference between launches that is worth a word.
MIN_LAUNCH_DIFFERENCE = 0.03
MAX_IDLE_DIFFERENCE = 0.05
#: Shares of a measured limit, and above which of them something is wrong. The ceiling's own passes differ a little.
LIMITED = ("decode_bandwidth_share", "prefill_arithmetic_share")
MAX_SHARE = 1.0
#: Governors that hold the clock up.
_STEADY_GOVERNORS = (None, "performance")


def check(machine: Machine, runs: Sequence[Run], planned: int, *, complete: bool) -> Iterator[Caveat]:
    """Everything there is to say about a report whose runs are to have `planned` launches."""
    if not complete:
        done = sum(len(run.launches) + len(run.failures) for run in runs)
        yield Caveat("incomplete", "", {"done": done, "planned": planned})
    if short := sum(run.ended == "budget" for run in runs):
        yield Caveat("budget-spent", "", {"count": short, "n": len(runs)})
    yield from check_machine(machine, runs)
    noted: set[object] = set()
    for run, label in zip(runs, labels(runs), strict=True):
        for failure in run.failures:
            yield Caveat("launch-failed", label, {"launch": failure.index + 1, "error": failure.error})
        for caveat in check_run(run) if run.launches else ():
            if caveat.code == "engine-note":  # the same for all settings of a model, and often for all models
                if caveat.values["note"] in noted:
                    continue
                noted.add(caveat.values["note"])
            yield replace(caveat, subject=label)


def with_energy(report: Report) -> Report:
    """The report after its energy came to it from outside: what there is to say of that, said anew."""
    kept = tuple(c for c in report.caveats if c.code not in ("idle-differs", "idle-above-decode"))
    fresh = [
        replace(caveat, subject=label)
        for run, label in zip(report.runs, labels(report.runs), strict=True)
        for caveat in (*_check_idle(run), *_check_power(run))
    ]
    return replace(report, caveats=(*kept, *fresh))


def check_machine(machine: Machine, runs: Sequence[Run]) -> Iterator[Caveat]:
    """What bears on every model: settings of the machine, and what it did besides."""
    launches = [launch for run in runs for launch in run.launches]
    yield from _check_noise(launches)
    few = {1: "one-launch", 2: "two-launches"}.get(runs[0].workload.launches) if len(runs) > 1 else None
    if few:
        yield Caveat(few, "")
    cache = machine.last_level_cache_bytes
    small = dict.fromkeys(run.model.name for run in runs if run.model.cache_resident)
    if cache and small:
        yield Caveat("small-model", "", {"names": ", ".join(small), "megabytes": cache / 1e6})
    if machine.governor not in _STEADY_GOVERNORS:
        yield Caveat("governor", "", {"governor": str(machine.governor)})
    if machine.power_source == "battery":
        yield Caveat("on-battery", "")
    threads = max((int(launch.engine.options.get("n_threads") or 0) for launch in launches), default=0)
    if machine.usable_cores and threads > machine.usable_cores:
        yield Caveat("too-many-threads", "", {"threads": threads, "cores": machine.usable_cores})


def _check_noise(launches: Sequence[Launch]) -> Iterator[Caveat]:
    for code, shares in (
        ("foreign-load", [launch.noise.foreign_share or 0.0 for launch in launches]),
        ("steal", [launch.noise.steal_share or 0.0 for launch in launches]),
    ):
        limits = [MAX_FOREIGN_SHARE + TICKS_SECONDS / launch.noise.seconds for launch in launches]
        disturbed = sum(share > limit for share, limit in zip(shares, limits, strict=True))
        if disturbed:
            yield Caveat(code, "", {"share": max(shares), "count": disturbed, "n": len(launches)})
    for code, counts in (
        ("throttled", [launch.noise.throttle_events or 0 for launch in launches]),
        ("cpu-quota", [launch.noise.quota_throttled or 0 for launch in launches]),
    ):
        if any(counts):
            yield Caveat(code, "", {"count": sum(counts)})


def check_run(run: Run) -> Iterator[Caveat]:
    """Everything suspicious in one model's run; the same remark about several figures is made once."""
    name = run.model.name
    for note in dict.fromkeys(note for launch in run.launches for note in launch.engine.notes):
        yield Caveat("engine-note", name, {"note": note})
    swapped = [
        p.swap or 0 for launch in run.launches for p in launch.memory.phases if p.phase == "repetitions"
    ]
    if any(swapped):
        yield Caveat("swapping", name, {"bytes": max(swapped), "phase": "repetitions"})
    yield from _check_idle(run)
    yield from _check_power(run)
    yield from _check_limits(run)
    yield from _check_samples(run)


def _check_limits(run: Run) -> Iterator[Caveat]:
    """More than the ceiling is not speed, it is an error in the ceiling or in what is counted."""
    shares = [run.summary(name) for name in LIMITED]
    above = {
        name: 100 * s.median for name, s in zip(LIMITED, shares, strict=True) if s and s.median > MAX_SHARE
    }
    if above:
        yield Caveat("above-limit", run.model.name, {"metric": _names(above), "percent": max(above.values())})


def _check_idle(run: Run) -> Iterator[Caveat]:
    changes = []
    for record in (record for launch in run.launches for record in (launch.energy, *launch.energy_beside)):
        idle = [watts(window) for window in record.windows if window.phase == "idle"]
        if len(idle) == 2 and idle[0] > 0:
            changes.append(abs(idle[1] - idle[0]) / idle[0])
    if changes and max(changes) > MAX_IDLE_DIFFERENCE:
        yield Caveat("idle-differs", run.model.name, {"percent": 100 * max(changes)})


def _check_power(run: Run) -> Iterator[Caveat]:
    """A meter that saw more power at idle than while decoding looked elsewhere, or at another time."""
    records = [each for launch in run.launches for each in (launch.energy, *launch.energy_beside)]
    for meter in dict.fromkeys(record.meter for record in records if record.meter):
        powers: dict[str, list[float]] = {"idle": [], "decode": []}
        for record in records:
            for window in record.windows if record.meter == meter else ():
                if window.phase in powers:
                    powers[window.phase].append(watts(window))
        if all(powers.values()):
            idle, decode = (statistics.median(each) for each in powers.values())
            if idle > decode:
                values: dict[str, Value] = {"meter": meter, "idle": idle, "decode": decode}
                yield Caveat("idle-above-decode", run.model.name, values)


def _check_samples(run: Run) -> Iterator[Caveat]:
    measured = [m for m in map(run.measurement, WATCHED) if m.samples]
    outlying = {m.name: len(summarize(m.samples).outliers) for m in measured}
    if any(outlying.values()):
        values: dict[str, Value] = {
            "metric": _names(outlying),
            "count": max(outlying.values()),
            "n": len(measured[0].samples),
        }
        yield Caveat("outliers", run.model.name, values)
    for code, of in (("wide", _width), ("drift", _drift), ("launches-differ", _launch_difference)):
        percents = {m.name: 100 * of(m) for m in measured}
        if any(percents.values()):
            worst = max(percents.values(), key=abs)
            yield Caveat(code, run.model.name, {"metric": _names(percents), "percent": worst})


def _names(figures: dict[str, int] | dict[str, float]) -> str:
    """Names of the measurements concerned, joined by commas; renderers put their own words for them."""
    return ",".join(name for name, figure in figures.items() if figure)


def _width(measurement: Measurement) -> float:
    """Half-width of the interval as a fraction of the mean, where it is too wide; else 0."""
    summary = summarize(measurement.samples, measurement.launches)
    if summary.ci95_high is None or summary.ci95_low is None:
        return 0.0
    share = (summary.ci95_high - summary.ci95_low) / 2 / summary.median
    return share if share > MAX_HALF_WIDTH else 0.0


def _drift(measurement: Measurement) -> float:
    """Drift over a launch's repetitions as a fraction of the mean, where it is clear and worth a word; else 0."""
    summary = summarize(measurement.samples, measurement.launches)
    if summary.drift_per_sample is None or not summary.drift_is_clear:
        return 0.0
    repetitions = measurement.launches.count(measurement.launches[0])
    total = summary.drift_per_sample * (repetitions - 1)
    return total if abs(total) > MIN_DRIFT else 0.0


def _launch_difference(measurement: Measurement) -> float:
    """Difference between launch means as a fraction, where it is more than the spread inside them; else 0."""
    means = launch_means(measurement.samples, measurement.launches)
    if len(means) < 2 or len(measurement.samples) < 2 * len(means):
        return 0.0
    difference = (max(means) - min(means)) / min(means)
    within = max(
        (
            half_width95(
                [s for s, i in zip(measurement.samples, measurement.launches, strict=True) if i == launch]
            )
            or 0
        )
        for launch in set(measurement.launches)
    )
    return difference if difference > max(MIN_LAUNCH_DIFFERENCE, 2 * within / min(means)) else 0.0
