"""From readings to joules: marks at phase boundaries, a slow background thread between them.

The thread is there for two reasons only: a counter must be seen at least once per wrap, and a power gauge
must be sampled to be integrated. It wakes rarely, so that it does not disturb what is measured.
"""

from __future__ import annotations

import math
import statistics
import threading
from bisect import bisect_left, bisect_right
from itertools import pairwise
from types import TracebackType

from edgellm.profiles.energy import EnergyLostError, EnergyMeter, Reading

#: A counter wraps after minutes at the earliest (65.5 kJ at 400 W: 164 s); a quarter of that is 41 s.
COUNTER_POLL_SECONDS = 20.0
#: Gauges are sampled at their own pace, but never faster than this.
POWER_POLL_SECONDS = 0.1
#: No channel draws more for long: a counter that says so was reset, and its new beginning taken for a wrap.
MAX_WATTS = 3000.0


class Recorder:
    """Collects readings of one meter while it is entered. Joules are asked for between two marks."""

    def __init__(self, meter: EnergyMeter) -> None:
        self.meter = meter
        self.lost: str | None = None  # why the meter stopped, if it did
        self._readings: list[Reading] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="edgellm-energy", daemon=True)

    def __enter__(self) -> Recorder:
        self.mark()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def mark(self) -> Reading | None:
        """Read now; None once the meter is lost."""
        if self.lost is not None:
            return None
        try:
            with self._lock:
                reading = self.meter.read()
                if self.meter.kind == "counter" and self._readings:
                    check_step(self._readings[-1], reading, self.meter.update_period_seconds)
                self._readings.append(reading)
                return reading
        except EnergyLostError as error:
            self.lost = str(error)
            return None

    def joules(self, begin: Reading, end: Reading) -> dict[str, float]:
        """Energy by channel between two marks: a difference for counters, an integral for power."""
        if self.meter.kind == "counter":
            return {name: end.channels[name] - begin.channels[name] for name in end.channels}
        return integrate(self._between(begin, end))

    def error(self, begin: Reading, end: Reading, joules: float) -> float:
        """Standard error of `joules` between two marks by what the meter does not see.

        Each mark may be older than the hardware's last update by anything up to the period T, which makes
        P T / sqrt(12) at either end. A gauge's samples are besides a sample of the power: their spread over
        the square root of their number, no more of them counted than the gauge brought.
        """
        seconds, period = end.seconds - begin.seconds, self.meter.update_period_seconds
        edges = joules / seconds * period / math.sqrt(6) if seconds > 0 else 0.0
        if self.meter.kind == "counter":
            return abs(edges)
        watts = [self._total(reading) for reading in self._between(begin, end)]
        if len(watts) < 2:
            return abs(edges)
        count = max(1.0, min(len(watts), seconds / period))
        return math.hypot(edges, statistics.stdev(watts) / math.sqrt(count) * seconds)

    def _total(self, reading: Reading) -> float:
        return sum(value for name, value in reading.channels.items() if name not in self.meter.parts)

    def _between(self, begin: Reading, end: Reading) -> list[Reading]:
        with self._lock:
            times = [reading.seconds for reading in self._readings]
            return self._readings[bisect_left(times, begin.seconds) : bisect_right(times, end.seconds)]

    def _poll(self) -> None:
        period = COUNTER_POLL_SECONDS
        if self.meter.kind != "counter":
            period = max(POWER_POLL_SECONDS, self.meter.update_period_seconds / 2)
        while not self._stop.wait(period):
            self.mark()


def check_step(before: Reading, now: Reading, period: float) -> None:
    """Raises EnergyLostError where a counter went back, or by more than `MAX_WATTS` could since its last update."""
    most = MAX_WATTS * (now.seconds - before.seconds + period)
    for name, joules in now.channels.items():
        step = joules - before.channels.get(name, joules)
        if not 0 <= step <= most:
            raise EnergyLostError(
                f"the counter of {name} moved by {step:.6g} J in {now.seconds - before.seconds:.3g} s, which nothing "
                f"draws: it began anew, or is no counter of energy"
            )


def integrate(readings: list[Reading]) -> dict[str, float]:
    """Trapezoidal integral of watts over seconds, by channel. A channel missing at one end counts as 0 W there."""
    names = sorted({name for reading in readings for name in reading.channels})
    total = dict.fromkeys(names, 0.0)
    for a, b in pairwise(readings):
        for name in names:
            watts = (a.channels.get(name, 0.0) + b.channels.get(name, 0.0)) / 2
            total[name] += watts * (b.seconds - a.seconds)
    return total
