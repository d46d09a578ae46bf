"""AMD GPUs: the energy accumulator that `amdsmi` reads from the driver.

`amdsmi_get_energy_count` gives a count and the microjoules of one step of it (AMD SMI, Python API). The counter is
not there in virtual machines. The binding comes with ROCm or from PyPI and needs ROCm's library of its version.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgellm.machine.vendor_library import SLOW_PERIOD_SECONDS, Load, loader, pace
from edgellm.profiles.energy import EnergyLostError, Reading


class AmdSmi:
    """Every AMD GPU, a channel for each."""

    name = "amdsmi"
    kind = "counter"
    covers = "amd gpu"
    parts: frozenset[str] = frozenset()
    recipe = ""

    def __init__(
        self,
        load: Load,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load, self._clock, self._sleep = load, clock, sleep
        self._smi: Any = None
        self._gpus: dict[str, Any] = {}  # label -> handle
        self._first: dict[str, float] = {}
        self.update_period_seconds = SLOW_PERIOD_SECONDS

    @property
    def scope(self) -> str:
        """The GPUs, and what is left out."""
        labels = ", ".join(self._gpus) or "AMD GPUs"
        return f"{labels}: the whole card, all processes on it; without processor and memory of the machine"

    def why_not(self) -> str | None:
        """Look for the library, for GPUs, and for counters that move."""
        try:
            self._smi = self._load()
        except (
            ImportError,
            OSError,
            KeyError,
        ) as error:  # without ROCm's library the binding fails to import
            return f"amdsmi cannot be imported ({error}); install ROCm, or pip install amdsmi of its version"
        try:
            self._smi.amdsmi_init()
            handles = self._smi.amdsmi_get_processor_handles()
            self._gpus = {f"GPU {self._smi.amdsmi_get_gpu_device_uuid(handle)}": handle for handle in handles}
            paces = [pace(lambda h=h: self._joules(h), self._clock, self._sleep) for h in self._gpus.values()]  # type: ignore[misc]
        except self._smi.AmdSmiException as error:
            return f"amdsmi tells no energy ({' '.join(str(error).split())}); virtual machines do not get it"
        if not paces:
            return "amdsmi finds no AMD GPU"
        if None in paces:
            return "the energy counter does not move; virtual machines do not get it"
        self.update_period_seconds = max(each for each in paces if each)
        return None

    def read(self) -> Reading:
        """Joules of each GPU since the first call."""
        if self._smi is None and (why := self.why_not()):
            raise EnergyLostError(why)
        channels = {}
        for label, handle in self._gpus.items():
            try:
                now = self._joules(handle)
            except self._smi.AmdSmiException as error:
                raise EnergyLostError(f"amdsmi: {' '.join(str(error).split())}") from error
            channels[label] = now - self._first.setdefault(label, now)
            if channels[label] < 0:
                raise EnergyLostError(
                    f"the energy counter of {label} began anew: its driver was loaded again"
                )
        return Reading(self._clock(), channels)

    def _joules(self, handle: Any) -> float:
        count = self._smi.amdsmi_get_energy_count(handle)
        steps = count.get("energy_accumulator", count.get("power"))  # named `power` before ROCm 6
        return float(steps) * float(count["counter_resolution"]) * 1e-6


def find(root: Path = Path("/")) -> AmdSmi:
    """The meter of this machine; a folder tree has no GPU."""
    return AmdSmi(loader("amdsmi", root))
