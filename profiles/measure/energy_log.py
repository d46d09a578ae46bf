"""The energy of a launch, phase by phase: windows long enough for each meter, or the reason there is none.

Several meters run side by side, each with windows of its own; nothing is added across them. Without a meter only
the time of each phase is kept, so that the log of a meter that was read elsewhere can be laid over it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from edgellm.profiles.energy import Choice, EnergyMeter, Reading, min_window_seconds
from edgellm.profiles.measure.energy_recorder import Recorder
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow, PhaseSpan

#: Idle power is measured over at least this long, however fast the meter: the processor settles slowly.
IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Mark:
    """One moment: the clock, this process's processor time, and what each meter said (None: it is lost)."""

    seconds: float  # of the monotonic clock
    cpu_seconds: float
    readings: tuple[Reading | None, ...]


@dataclass(frozen=True)
class Span:
    """What ran between two marks."""

    phase: str
    begin: Mark
    end: Mark
    tokens: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end.seconds - self.begin.seconds


class EnergyLog:
    """Everything about the energy of one launch. `loop_seconds` bounds each extra loop made for a short phase."""

    def __init__(self, choice: Choice, loop_seconds: float) -> None:
        self._choice, self._loop_seconds = choice, loop_seconds
        self._tracks = [_Track(meter, loop_seconds) for meter in choice.meters]
        self._spans: list[Span] = []
        self._epoch = time.time() - time.perf_counter()  # one anchor: a clock set in between moves no phase

    def __enter__(self) -> EnergyLog:
        for track in self._tracks:
            track.recorder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for track in self._tracks:
            track.recorder.__exit__(kind, error, trace)

    def mark(self) -> Mark:
        """Now, by every clock and meter."""
        readings = tuple(track.recorder.mark() for track in self._tracks)
        return Mark(time.perf_counter(), time.process_time(), readings)

    def add(self, phase: str, begin: Mark, end: Mark, tokens: int) -> None:
        """Keep what ran between two marks, for each meter it is long enough for; remember why not otherwise."""
        self._spans.append(Span(phase, begin, end, tokens))
        for track, first, last in zip(self._tracks, begin.readings, end.readings, strict=True):
            track.add(phase, first, last, tokens)

    def idle(self) -> None:
        """Watch the machine do nothing, the model loaded."""
        seconds = [track.min for track in self._tracks if track.affords("idle")]
        if self._choice.later:
            seconds.append(self._loop_seconds)
        if seconds:
            begin = self.mark()
            time.sleep(max(IDLE_SECONDS, *seconds))
            self.add("idle", begin, self.mark(), 0)

    def fill(self, phase: str, work: Callable[[], int], windows: int) -> None:
        """Repeat `work` (returns tokens processed) for windows of `phase`, unless all it had were long enough.

        Nothing is run for a meter whose shortest window is beyond the budget; the reason is kept.
        """
        seconds = [track.min for track in self._tracks if track.needs(phase) and track.affords(phase)]
        if self._choice.later:
            seconds.append(self._loop_seconds)
        if not seconds:
            return
        work()  # brings the cache into the phase's own state, outside the first window
        for _ in range(windows if windows * max(seconds) <= self._loop_seconds else 1):
            begin, tokens = self.mark(), 0
            until = time.perf_counter() + max(seconds) * 1.02
            while time.perf_counter() < until:
                tokens += work()
            self.add(phase, begin, self.mark(), tokens)

    def records(self) -> tuple[EnergyRecord, ...]:
        """What each meter saw, the headline's first; without a meter one record with the reason."""
        if not self._tracks:
            return (EnergyRecord(meter=None, reason=self._choice.reason),)
        return tuple(track.record() for track in self._tracks)

    def spans(self) -> tuple[PhaseSpan, ...]:
        """When each phase ran, by the wall clock."""
        return tuple(
            PhaseSpan(span.phase, self._epoch + span.begin.seconds, span.seconds, span.tokens)
            for span in self._spans
        )

    def kept(self) -> tuple[Span, ...]:
        """All that was added, with the marks."""
        return tuple(self._spans)


def extra_seconds(choice: Choice, loop_seconds: float) -> float:
    """At most what a launch takes longer for its meters: idle twice, and a loop of prefill and one of decode."""
    mins = [each for each in map(min_window_seconds, choice.meters) if each <= loop_seconds]
    if choice.later:
        mins.append(loop_seconds)
    return 2 * max(IDLE_SECONDS, *mins) + 2 * max(loop_seconds, *mins) if mins else 0.0


class _Track:
    """One meter's windows."""

    def __init__(self, meter: EnergyMeter, loop_seconds: float) -> None:
        self.recorder = Recorder(meter)
        self.min = min_window_seconds(meter)
        self._meter, self._loop_seconds = meter, loop_seconds
        self._windows: list[EnergyWindow] = []
        self._why: dict[str, str] = {}

    def add(self, phase: str, begin: Reading | None, end: Reading | None, tokens: int) -> None:
        """Keep a window, or remember that it was too short."""
        if begin is None or end is None:
            return
        seconds = end.seconds - begin.seconds
        if seconds < self.min:
            why = f"{phase} took {seconds:.3g} s; {self._meter.name} needs {self.min:g} s or more"
            self._why.setdefault(phase, why)
            return
        found = self.recorder.joules(begin, end)
        parts = {name: value for name, value in found.items() if name in self._meter.parts}
        joules = {name: value for name, value in found.items() if name not in parts}
        error = self.recorder.error(begin, end, sum(joules.values()))
        self._windows.append(EnergyWindow(phase, seconds, tokens, joules, parts or None, error))

    def needs(self, phase: str) -> bool:
        """Whether the phase must be run again for this meter.

        Where some windows were too short, those that were not are the slow ones and would mislead: they go.
        """
        if phase in self._why:
            self._windows = [window for window in self._windows if window.phase != phase]
            return True
        return not any(window.phase == phase for window in self._windows)

    def affords(self, phase: str) -> bool:
        """Whether the meter's shortest window is within the budget; the reason is kept where it is not."""
        if self.min <= self._loop_seconds:
            return True
        self._why[phase] = (
            f"{self._meter.name} needs windows of {self.min:g} s or more; "
            f"give --energy-seconds {self.min:g} to spend them"
        )
        return False

    def record(self) -> EnergyRecord:
        """What was seen."""
        meter, lost = self._meter, self.recorder.lost
        done = {window.phase for window in self._windows}
        return EnergyRecord(
            meter=meter.name,
            kind=meter.kind,
            scope=meter.scope,
            update_period_seconds=meter.update_period_seconds,
            windows=tuple(self._windows) if lost is None else (),
            reason=lost,
            phase_reasons={phase: why for phase, why in self._why.items() if phase not in done},
        )
