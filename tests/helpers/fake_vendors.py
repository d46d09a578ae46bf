"""Stand-ins for vendors' libraries: the functions' real names and shapes, on a clock that tests turn by hand."""

from collections.abc import Callable
from types import SimpleNamespace


class FakeClock:
    """Time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class NVMLError(Exception):
    """As pynvml's."""


class FakeGpu:
    """A GPU that draws `watts` and counts them every `period` seconds."""

    def __init__(self, clock: FakeClock, uuid: str, name: str = "NVIDIA H100", watts: float = 300.0):
        self.clock, self.uuid, self.name, self.watts = clock, uuid, name, watts
        self.period: float | None = 0.02  # None: no energy counter, as before Volta
        self.gauge = True
        self.alive = True
        self.processes: dict[int, int | None] = {}
        self.used = 1 << 30
        self.loaded_at = 0.0

    def millijoules(self) -> int:
        if self.period is None:
            raise NVMLError("Not Supported")
        if not self.alive:
            return 0
        now = self.clock() - self.loaded_at
        return int(now // self.period * self.period * self.watts * 1e3)


class FakeNvml:
    """pynvml's functions, as far as they are used."""

    NVMLError = NVMLError

    def __init__(self, gpus: list[FakeGpu], starts: bool = True) -> None:
        self._gpus, self._starts = gpus, starts

    def nvmlInit(self) -> None:
        if not self._starts:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._gpus[index]

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        return handle.millijoules()

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        if not handle.gauge:
            raise NVMLError("Not Supported")
        return int(handle.watts * 1e3) if handle.alive else 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in handle.processes.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: FakeGpu) -> list[SimpleNamespace]:
        raise NVMLError("Not Supported")

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(total=80 << 30, free=(80 << 30) - handle.used, used=handle.used)


class AmdSmiException(Exception):
    """As amdsmi's."""


class FakeAmdSmi:
    """amdsmi's functions, as far as they are used; its handles are here the GPUs' watts."""

    AmdSmiException = AmdSmiException

    def __init__(
        self, clock: FakeClock, watts: list[float], *, counts: bool = True, old: bool = False
    ) -> None:
        self._clock, self._watts, self._counts = clock, watts, counts
        self._key = "power" if old else "energy_accumulator"
        self.reset_at = 0.0

    def amdsmi_init(self) -> None:
        pass

    def amdsmi_get_processor_handles(self) -> list[float]:
        return self._watts

    def amdsmi_get_gpu_device_uuid(self, handle: float) -> str:
        return f"{self._watts.index(handle)}aff74a0-0000-1000-80ff-ffffffffffff"

    def amdsmi_get_energy_count(self, handle: float) -> dict[str, float]:
        if not self._counts:
            raise AmdSmiException("Error code:\n\t2 | AMDSMI_STATUS_NOT_SUPPORTED")
        resolution = 15.259  # microjoules
        steps = int((self._clock() - self.reset_at) * handle * 1e6 / resolution)
        return {self._key: steps, "counter_resolution": resolution, "timestamp": int(self._clock() * 1e9)}


class FakeZeus:
    """zeus_apple_silicon: a chip without a DRAM counter."""

    def __init__(self, clock: FakeClock, watts: dict[str, float | None], fails: bool = False) -> None:
        self._clock, self.watts, self.fails = clock, watts, fails

    def AppleEnergyMonitor(self) -> "FakeZeus":
        if self.fails:
            raise RuntimeError("Failed to subscribe to IOReport")
        return self

    def get_cumulative_energy(self) -> SimpleNamespace:
        now = self._clock()
        return SimpleNamespace(
            **{name: None if watts is None else int(watts * now * 1e3) for name, watts in self.watts.items()}
        )


def missing(name: str) -> Callable[[], object]:
    """A library that is not installed."""

    def load() -> object:
        raise ImportError(f"No module named {name!r}")

    return load
