"""NVIDIA GPUs: the driver's energy counter where the GPU has one (Volta and later), its power gauge elsewhere.

`nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded and moves every 20 to 100 ms;
how often is found by watching it. `nvmlDeviceGetPowerUsage` gives milliwatts, on some GPUs averaged over a second.
NVML API Reference Guide, Device Queries. GPUs are told apart by UUID (edgellm/machine/nvidia.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from edgellm.machine import nvidia
from edgellm.machine.nvidia import Gpu, Gpus, NoNvmlError
from edgellm.machine.vendor_library import SLOW_PERIOD_SECONDS, Load, loader, pace
from edgellm.profiles.energy import EnergyLostError, Reading


class Nvml:
    """Every GPU that CUDA may use, a channel for each; once this process uses some, the others are not added."""

    name = "nvml"
    covers = "nvidia"
    recipe = ""

    def __init__(
        self,
        load: Load,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load, self._clock, self._sleep = load, clock, sleep
        self._gpus: Gpus | None = None
        self._first: dict[str, int] = {}
        self.kind = "counter"
        self.update_period_seconds = SLOW_PERIOD_SECONDS

    @property
    def scope(self) -> str:
        """The GPUs, and what is left out."""
        gpus = self._gpus
        labels = ", ".join(gpu.label for gpu in gpus.found) if gpus else "GPUs"
        note = f" ({gpus.note})" if gpus and gpus.note else ""
        return f"{labels}: the whole card{note}, all processes on it; without processor and memory of the machine"

    @property
    def parts(self) -> frozenset[str]:
        """GPUs this process does not use, as soon as it uses any."""
        if self._gpus is None:
            return frozenset()
        used = self._gpus.used_by(os.getpid())
        return frozenset(gpu.label for gpu in self._gpus.found if used and gpu.uuid not in used)

    def why_not(self) -> str | None:
        """Look for the library, for GPUs, for a live counter, and for a gauge where there is none."""
        try:
            self._gpus = nvidia.gpus(self._load)
        except NoNvmlError as error:
            return str(error)
        paces = [self._pace(gpu) for gpu in self._gpus.found]
        if None not in paces:
            self.kind, self.update_period_seconds = "counter", max(each for each in paces if each)
            return None
        self.kind, self.update_period_seconds = "power", SLOW_PERIOD_SECONDS
        try:
            watts = self.read().channels
        except EnergyLostError as error:
            return f"there is neither an energy counter that moves nor a power gauge ({error})"
        return None if any(watts.values()) else "the power gauge reads 0 W; it is dead"

    def read(self) -> Reading:
        """Joules since the first call, or watts, by GPU."""
        if self._gpus is None and (why := self.why_not()):
            raise EnergyLostError(why)
        assert self._gpus
        nvml, of = self._gpus.nvml, self._joules if self.kind == "counter" else self._watts
        try:
            channels = {gpu.label: of(gpu) for gpu in self._gpus.found}
        except nvml.NVMLError as error:
            raise EnergyLostError(f"NVML: {error}") from error
        return Reading(self._clock(), channels)

    def _pace(self, gpu: Gpu) -> float | None:
        """The counter's period; None without a counter that moves."""
        assert self._gpus
        nvml = self._gpus.nvml
        try:
            return pace(
                lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle), self._clock, self._sleep
            )
        except nvml.NVMLError:
            return None

    def _joules(self, gpu: Gpu) -> float:
        assert self._gpus
        now = int(self._gpus.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle))
        first = self._first.setdefault(gpu.uuid, now)
        if now < first:
            raise EnergyLostError(
                f"the energy counter of {gpu.label} began anew: its driver was loaded again"
            )
        return (now - first) / 1e3

    def _watts(self, gpu: Gpu) -> float:
        assert self._gpus
        return float(self._gpus.nvml.nvmlDeviceGetPowerUsage(gpu.handle)) / 1e3


def find(root: Path = Path("/")) -> Nvml:
    """The meter of this machine; a folder tree has no GPU."""
    return Nvml(loader("pynvml", root))
