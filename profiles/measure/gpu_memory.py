"""GPU memory of this process, by NVML: the most it held, looked at when phases end and in between.

NVML keeps no peak for a process (its accounting mode must be switched on by root). So it is asked ten times a second
while the watch is entered - at load, where buffers come and go - and once more for the record: what engines take
later, at the first long batch, they keep, and nothing looks on while something is timed. In containers NVML may not
know this process: then what the GPUs hold beyond the start is told, and that it is so.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edgellm.machine import nvidia
from edgellm.machine.nvidia import Gpus, NoNvmlError
from edgellm.machine.vendor_library import Load, loader

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class GpuMemory:
    """Peak bytes over all GPUs, or None; the reason says why there are none, or what they are of."""

    peak: int | None
    reason: str | None = None


class GpuMemoryWatch:
    """Watches while it is entered, once. Without NVML it costs nothing and has a reason."""

    def __init__(self, load: Load | None = None, poll_seconds: float = _POLL_SECONDS) -> None:
        self._gpus: Gpus | None = None
        self._reason: str | None = None
        self._own = self._rise = 0  # peaks: of this process; of the GPUs beyond the start
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="edgellm-gpu-memory", daemon=True)
        try:
            self._gpus = nvidia.gpus(load or loader("pynvml", Path("/")))
            self._start = self._used()
        except NoNvmlError as error:
            self._reason = str(error)

    def __enter__(self) -> GpuMemoryWatch:
        if self._gpus:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._gpus:
            self._thread.join()

    def look(self) -> None:
        """Now. Costs about a millisecond: never inside a timed part."""
        if self._gpus is None or self._reason:
            return
        try:
            own = self._gpus.used_by(os.getpid())
            self._own = max(self._own, sum(used or 0 for used in own.values()))
            self._rise = max(self._rise, self._used() - self._start)
        except self._gpus.nvml.NVMLError as error:
            self._reason = f"NVML stopped answering: {error}"

    def record(self) -> GpuMemory:
        """The peak so far."""
        self.look()
        if self._reason:
            return GpuMemory(None, self._reason)
        if self._own:
            return GpuMemory(self._own)
        if self._rise:
            return GpuMemory(
                self._rise, "rise of all use of the GPUs: NVML does not know this process by its number"
            )
        return GpuMemory(0, "this process used no NVIDIA GPU")

    def _used(self) -> int:
        assert self._gpus
        nvml = self._gpus.nvml
        try:
            return sum(int(nvml.nvmlDeviceGetMemoryInfo(gpu.handle).used) for gpu in self._gpus.found)
        except nvml.NVMLError:  # integrated GPUs share the machine's memory and may not tell
            return 0

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self.look()
