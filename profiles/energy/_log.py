"""The energy of a launch, phase by phase: windows long enough for the meter, or the reason there is none.

Without a meter every method does nothing and costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from edgellm.profiles.energy import EnergyMeter, Reading, min_window_seconds
from edgellm.profiles.energy._recorder import Recorder
from edgellm.profiles.result import EnergyRecord, EnergyWindow

#: Idle power is measured over at least this long, however fast the meter: the processor settles slowly.
IDLE_SECONDS = 1.0


class EnergyLog:
    """Windows of one launch. `loop_seconds` bounds each extra loop made for a phase that is too short."""

    def __init__(self, meter: EnergyMeter | None, reason: str | None, loop_seconds: float) -> None:
        self._meter, self._reason, self._loop_seconds = meter, reason, loop_seconds
        self._recorder = Recorder(meter) if meter else None
        self._windows: list[EnergyWindow] = []
        self._why: dict[str, str] = {}
        self._min = min_window_seconds(meter) if meter else 0.0

    def __enter__(self) -> EnergyLog:
        if self._recorder:
            self._recorder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder:
            self._recorder.__exit__(kind, error, trace)

    def mark(self) -> Reading | None:
        """Read the meter, if there is one."""
        return self._recorder.mark() if self._recorder else None

    def add(self, phase: str, begin: Reading | None, end: Reading | None, tokens: int) -> None:
        """Keep the window between two marks when it is long enough; remember why not otherwise."""
        if self._recorder is None or begin is None or end is None:
            return
        seconds = end.seconds - begin.seconds
        if seconds < self._min:
            self._why.setdefault(phase, self._too_short(phase, seconds))
            return
        self._windows.append(EnergyWindow(phase, seconds, tokens, self._recorder.joules(begin, end)))

    def idle(self) -> None:
        """Watch the machine do nothing, the model loaded."""
        if self._recorder and self._affordable("idle"):
            begin = self.mark()
            time.sleep(max(IDLE_SECONDS, self._min))
            self.add("idle", begin, self.mark(), 0)

    def fill(self, phase: str, work: Callable[[], int], windows: int) -> None:
        """Repeat `work` (returns tokens processed) for windows of `phase`, unless all it had were long enough.

        Nothing is run, and the reason kept, where the meter's shortest window is beyond the budget.
        """
        if self._recorder is None:
            return
        if (
            phase in self._why
        ):  # some were too short: those that were not are the slow ones, and would mislead
            self._windows = [window for window in self._windows if window.phase != phase]
        elif any(window.phase == phase for window in self._windows):
            return
        if not self._affordable(phase):
            return
        if windows * self._min > self._loop_seconds:
            windows = 1
        work()  # brings the cache into the phase's own state, outside the first window
        for _ in range(windows):
            begin, tokens = self.mark(), 0
            until = time.perf_counter() + self._min * 1.02
            while time.perf_counter() < until:
                tokens += work()
            self.add(phase, begin, self.mark(), tokens)

    def record(self) -> EnergyRecord:
        """What was seen."""
        meter, recorder = self._meter, self._recorder
        if meter is None or recorder is None:
            return EnergyRecord(meter=None, reason=self._reason)
        done = {window.phase for window in self._windows}
        return EnergyRecord(
            meter=meter.name,
            kind=meter.kind,
            scope=meter.scope,
            update_period_seconds=meter.update_period_seconds,
            windows=tuple(self._windows) if recorder.lost is None else (),
            reason=recorder.lost,
            phase_reasons={phase: why for phase, why in self._why.items() if phase not in done},
        )

    def _affordable(self, phase: str) -> bool:
        if self._min <= self._loop_seconds:
            return True
        name = self._meter.name if self._meter else ""
        self._why[phase] = (
            f"{name} needs windows of {self._min:g} s or more; give --energy-seconds {self._min:g} to spend them"
        )
        return False

    def _too_short(self, phase: str, seconds: float) -> str:
        name = self._meter.name if self._meter else ""
        return f"{phase} took {seconds:.3g} s; {name} needs {self._min:g} s or more"
