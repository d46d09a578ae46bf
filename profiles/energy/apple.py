"""Apple silicon: the counters of IOReport, through `zeus-apple-silicon`.

`AppleEnergyMonitor().get_cumulative_energy()` gives millijoules since some moment in the past, None for what this
chip does not count. IOReport is a private interface of macOS and may change with any release: what fails is told
as a reason. Written after the package's documentation and never run on a Mac of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgellm.machine.vendor_library import SLOW_PERIOD_SECONDS, Load, loader, pace
from edgellm.profiles.energy import EnergyLostError, Reading

#: Fields of the package's AppleEnergyMetrics that hold no other: cores and clusters are parts of cpu_total.
CHANNELS = {
    "cpu_total_mj": "cpu",
    "gpu_mj": "gpu",
    "gpu_sram_mj": "gpu-sram",
    "dram_mj": "dram",
    "ane_mj": "ane",
}


class Apple:
    """The chip's parts, a channel for each."""

    name = "apple"
    kind = "counter"
    covers = "processor"
    parts: frozenset[str] = frozenset()
    recipe = ""
    scope = "the chip's CPU, GPU, memory and neural engine as far as it counts them; without disk and display"

    def __init__(
        self,
        load: Load,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load, self._clock, self._sleep = load, clock, sleep
        self._monitor: Any = None
        self._first: dict[str, float] = {}
        self.update_period_seconds = SLOW_PERIOD_SECONDS

    def why_not(self) -> str | None:
        """Look for the package, for counts, and for life."""
        try:
            self._monitor = self._load().AppleEnergyMonitor()
        except ImportError as error:
            return f"not Apple silicon, or a package is missing ({error}); on a Mac: pip install 'edgellm[apple]'"
        except Exception as error:  # a private interface: it may raise anything
            return f"IOReport does not answer ({error}); newer macOS may need a newer zeus-apple-silicon"
        try:
            found = pace(lambda: sum(self._counts().values()), self._clock, self._sleep)
        except EnergyLostError as error:
            return str(error)
        if found is None:
            return "the counters of IOReport do not move; virtual machines have none"
        self.update_period_seconds = found
        return None

    def read(self) -> Reading:
        """Joules of each part since the first call."""
        if self._monitor is None and (why := self.why_not()):
            raise EnergyLostError(why)
        now = self._counts()
        for name, value in now.items():
            if value < self._first.setdefault(name, value):
                raise EnergyLostError(f"IOReport's counter of {name} went backwards")
        return Reading(self._clock(), {name: value - self._first[name] for name, value in now.items()})

    def _counts(self) -> dict[str, float]:
        """Joules by part."""
        try:
            metrics = self._monitor.get_cumulative_energy()
            found = {name: getattr(metrics, field, None) for field, name in CHANNELS.items()}
        except Exception as error:  # a private interface: it may raise anything
            raise EnergyLostError(f"IOReport stopped answering ({error})") from error
        known = {name: float(value) / 1e3 for name, value in found.items() if value is not None}
        if not known:
            raise EnergyLostError("IOReport counts neither CPU nor GPU nor memory on this chip")
        return known


def find(root: Path = Path("/")) -> Apple:
    """The meter of this machine; a folder tree has no chip."""
    return Apple(loader("zeus_apple_silicon", root))
