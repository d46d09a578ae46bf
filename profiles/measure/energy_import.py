"""A wall meter's or smart plug's log, laid over the phases of a finished profile.

The log is CSV with two columns: a time (unix seconds or milliseconds, or ISO 8601 with its zone) and watts, or the
watt-hours or kilowatt-hours counted so far. The profile keeps when each phase ran by the machine's clock; the
meter's may differ from it, by an offset that is given or found by laying busy and idle phases over the log.

Nothing is made up: a phase that a gap of the log or a counter's restart falls into has no figure and says why.
"""

from __future__ import annotations

import csv
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path

from edgellm.errors import EdgellmError
from edgellm.profiles.energy import CSV, MIN_UPDATES
from edgellm.profiles.result import derive
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow, Launch, PhaseSpan, Report, Run

#: A hole this many times the usual step is a gap.
_GAP_STEPS = 3.5
_MILLISECONDS_FROM = 1e11  # unix seconds get there in the year 5138
_UNITS = {"w": 1.0, "kw": 1e3, "mw": 1e-3, "wh": 3600.0, "kwh": 3.6e6, "j": 1.0}
_COUNTED = ("wh", "kwh", "j")
_DEFAULT_UNIT = "w"


class MeterLogError(EdgellmError):
    """A log that cannot be used; the message names the line or the times."""


@dataclass(frozen=True)
class MeterLog:
    """Readings in order. `values` are watts, or joules counted so far."""

    name: str
    seconds: tuple[float, ...]  # unix
    values: tuple[float, ...]
    counts: bool

    @cached_property
    def period(self) -> float:
        """Seconds between two readings, usually."""
        return statistics.median(b - a for a, b in pairwise(self.seconds))

    @cached_property
    def step(self) -> float:
        """The smallest rise of a counter: what it cannot resolve."""
        rises = [b - a for a, b in pairwise(self.values) if b > a]
        return min(rises, default=0.0) if self.counts else 0.0

    @cached_property
    def total(self) -> tuple[float, ...]:
        """Joules from the first reading to each: a counter's rises, or trapezoids under the power."""
        of = self._rises() if self.counts else self._trapezoids()
        return tuple(accumulate(of, initial=0.0))

    def _rises(self) -> Iterator[float]:
        return (max(0.0, b - a) for a, b in pairwise(self.values))

    def _trapezoids(self) -> Iterator[float]:
        pairs = pairwise(zip(self.seconds, self.values, strict=True))
        return ((v + w) / 2 * (b - a) for (a, v), (b, w) in pairs)

    def shifted(self, offset: float) -> MeterLog:
        """The same by a clock that is `offset` seconds ahead of this one."""
        return replace(self, seconds=tuple(second + offset for second in self.seconds))

    def between(self, begin: float, end: float) -> float:
        """Joules between two unix times, whatever lies in between. Raises MeterLogError outside the log."""
        if begin < self.seconds[0] or end > self.seconds[-1]:
            raise MeterLogError(f"{self.name} covers {self.seconds[0]:.0f} to {self.seconds[-1]:.0f} only")
        return self._total_at(end) - self._total_at(begin)

    def joules(self, begin: float, end: float) -> tuple[float, float]:
        """(energy, its standard error) between two unix times. Raises MeterLogError, with the reason."""
        joules = self.between(begin, end)
        first, last = bisect_right(self.seconds, begin) - 1, bisect_left(self.seconds, end)
        times, values = self.seconds[first : last + 1], self.values[first : last + 1]
        if holes := [b - a for a, b in pairwise(times) if b - a > _GAP_STEPS * self.period]:
            raise MeterLogError(f"{self.name} has a gap of {max(holes):.3g} s in it")
        if self.counts and any(b < a for a, b in pairwise(values)):
            raise MeterLogError(f"the counter of {self.name} began anew in it")
        edges = (
            joules / (end - begin) * self.period / math.sqrt(6)
        )  # as for a meter read here: _recorder.error
        noise = 0.0 if self.counts else statistics.stdev(values) / math.sqrt(len(values)) * (end - begin)
        return joules, math.hypot(edges, noise, self.step / math.sqrt(6))

    def _total_at(self, when: float) -> float:
        """On the straight line between the readings around `when`."""
        index = min(max(bisect_right(self.seconds, when), 1), len(self.seconds) - 1)
        a, b = self.seconds[index - 1], self.seconds[index]
        share = (when - a) / (b - a)
        return self.total[index - 1] + (self.total[index] - self.total[index - 1]) * share


def read(path: Path, unit: str | None = None) -> MeterLog:
    """The log in a CSV file. Without `unit` the header's second column tells it, and watts are assumed without one.

    Raises MeterLogError.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter=_delimiter(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise MeterLogError(f"{path} cannot be read: {error}") from error
    numbered = [(number, row) for number, row in enumerate(rows, 1) if row and not row[0].startswith("#")]
    if numbered and _time(numbered[0][1][0]) is None:
        title = numbered.pop(0)[1][-1]
        unit = unit or _unit_of(title)
    unit = (unit or _DEFAULT_UNIT).lower()
    if unit not in _UNITS:
        raise MeterLogError(f"{path}: the unit {unit!r} is not known; there are {', '.join(_UNITS)}")
    pairs = sorted(_pair(path, number, row, _UNITS[unit]) for number, row in numbered)
    pairs = list(dict(pairs).items())  # a time that comes twice counts once
    if len(pairs) < 3:
        raise MeterLogError(f"{path} has {len(pairs)} readings; it needs lines of time and {unit}")
    times, values = zip(*pairs, strict=True)
    return MeterLog(path.name, times, values, unit in _COUNTED)


def _delimiter(path: Path) -> str:
    head = path.read_text(encoding="utf-8-sig", errors="replace")[:1000]
    return max(",;\t", key=head.count)


def _unit_of(title: str) -> str | None:
    """`Power (W)` -> w, `energy_kwh` -> kwh: the last word that is a unit."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return next((word for word in reversed(words) if word in _UNITS), None)


def _pair(path: Path, number: int, row: Sequence[str], scale: float) -> tuple[float, float]:
    try:
        when, value = _time(row[0]), float(row[-1])
    except (ValueError, IndexError):
        when, value = None, math.nan
    if when is None or len(row) < 2 or not math.isfinite(value):
        raise MeterLogError(f"{path} line {number} is no time and number: {','.join(row)[:60]!r}")
    return when, value * scale


def _time(text: str) -> float | None:
    """Unix seconds; None when the text is no time."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        except ValueError:
            return None
        return moment.timestamp()  # without a zone: this machine's
    return seconds / 1e3 if seconds > _MILLISECONDS_FROM else seconds


def align(log: MeterLog, spans: Sequence[PhaseSpan], limit: float = 120.0) -> float:
    """The offset within `limit` at which busy phases draw most more than idle ones. Raises MeterLogError.

    To be added to the log's times. Busy and idle phases must both be there, each longer than the log's period.
    """
    long = [span for span in spans if span.seconds >= 2 * log.period]
    busy, idle = ([s for s in long if (s.phase == "idle") is want] for want in (False, True))
    if not busy or not idle:
        raise MeterLogError(
            "aligning needs busy and idle phases longer than two readings; give --offset instead"
        )
    step = log.period / 4
    offsets = [index * step for index in range(-int(limit / step), int(limit / step) + 1)]
    scores = [_contrast(log, busy, idle, offset) for offset in offsets]
    best = max(scores)
    if not math.isfinite(best) or best <= 0:
        raise MeterLogError(f"{log.name} does not rise with the phases within {limit:g} s; give --offset")
    near = [offset for offset, score in zip(offsets, scores, strict=True) if score >= best - 1e-9 * abs(best)]
    return statistics.fmean(near)


def _contrast(log: MeterLog, busy: Sequence[PhaseSpan], idle: Sequence[PhaseSpan], offset: float) -> float:
    """Mean power of the busy phases less that of the idle ones; -inf where the log does not cover them."""
    means = []
    for spans in (busy, idle):
        begins = [span.begin_unix - offset for span in spans]
        try:
            energies = [log.between(a, a + span.seconds) for a, span in zip(begins, spans, strict=True)]
        except MeterLogError:
            return -math.inf
        means.append(sum(energies) / sum(span.seconds for span in spans))
    return means[0] - means[1]


def apply(report: Report, log: MeterLog) -> Report:
    """The report with the log's energy in every launch, and its figures made anew."""
    if not any(launch.spans for run in report.runs for launch in run.launches):
        raise MeterLogError("the result does not say when its phases ran; profile again with --energy csv")
    return replace(report, runs=tuple(_run(run, log) for run in report.runs))


def _run(run: Run, log: MeterLog) -> Run:
    launches = tuple(_launch(launch, record(log, launch.spans)) for launch in run.launches)
    return replace(run, launches=launches, measurements=derive.measurements(launches, run.limits))


def _launch(launch: Launch, imported: EnergyRecord) -> Launch:
    """The log is the headline where nothing was measured here, and stands beside it otherwise."""
    if launch.energy.meter is None or launch.energy.meter == CSV:
        return replace(launch, energy=imported)
    others = tuple(record for record in launch.energy_beside if record.meter != CSV)
    return replace(launch, energy_beside=(*others, imported))


def record(log: MeterLog, spans: Sequence[PhaseSpan]) -> EnergyRecord:
    """The log's energy in the phases that are long enough for it."""
    windows: list[EnergyWindow] = []
    why: dict[str, str] = {}
    least = MIN_UPDATES * log.period
    for span in spans:
        try:
            if span.seconds < least:
                raise MeterLogError(
                    f"{span.phase} took {span.seconds:.3g} s; a log of one reading in {log.period:.3g} s needs "
                    f"{least:.3g} s: profile with --energy csv --energy-seconds {least:.3g}"
                )
            joules, error = log.joules(span.begin_unix, span.begin_unix + span.seconds)
        except MeterLogError as reason:
            why.setdefault(span.phase, str(reason))
            continue
        windows.append(EnergyWindow(span.phase, span.seconds, span.tokens, {log.name: joules}, None, error))
    done = {window.phase for window in windows}
    return EnergyRecord(
        meter=CSV,
        kind="imported",
        scope=f"what {log.name} was plugged between: the whole machine, or whatever hangs on that meter",
        update_period_seconds=log.period,
        windows=tuple(windows),
        reason=None if windows else next(iter(why.values()), "no phase to measure"),
        phase_reasons={phase: text for phase, text in why.items() if phase not in done},
    )
