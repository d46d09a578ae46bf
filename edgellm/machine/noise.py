"""What else the machine did while we measured: other programs, the hypervisor, throttling.

Counters are read before and after and subtracted; nothing runs in between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgellm.machine.sysfs import read_int, read_text

#: Kernel tick of /proc/stat is 10 ms: a shorter window cannot tell a few percent from nothing.
MIN_SECONDS = 0.2


@dataclass(frozen=True)
class NoiseRecord:
    """What else the machine did while the repetitions ran. None: this system does not tell."""

    seconds: float
    foreign_share: float | None  # of all processors, used by other processes
    steal_share: float | None  # taken by the hypervisor
    throttle_events: int | None
    quota_throttled: int | None  # periods in which a cgroup quota held us back


@dataclass(frozen=True)
class _Counters:
    seconds: float
    busy: float  # seconds, all processors
    total: float
    steal: float
    own: float  # seconds, this process with its threads
    throttle: int | None
    quota: int | None


class NoiseWatch:
    """Made when the timed part begins; `record()` when it ends."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._begin = _read(root)

    def record(self) -> NoiseRecord:
        """What happened since this watch was made."""
        a, b = self._begin, _read(self._root)
        total = b.total - a.total
        long_enough = b.seconds - a.seconds >= MIN_SECONDS and total > 0
        foreign = (b.busy - a.busy) - (b.own - a.own)
        return NoiseRecord(
            seconds=b.seconds - a.seconds,
            foreign_share=max(0.0, foreign / total) if long_enough else None,
            steal_share=(b.steal - a.steal) / total if long_enough else None,
            throttle_events=_difference(a.throttle, b.throttle),
            quota_throttled=_difference(a.quota, b.quota),
        )


def _difference(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else b - a


def _read(root: Path) -> _Counters:
    import psutil

    times = psutil.cpu_times()
    own = psutil.Process().cpu_times()
    steal = getattr(times, "steal", 0.0)
    # guest time is already inside user time, and iowait is idle with a reason
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - guests
    return _Counters(
        seconds=time.perf_counter(),
        busy=total - idle - steal,
        total=total,
        steal=steal,
        own=own.user + own.system,
        throttle=_throttle_events(root),
        quota=_quota_throttled(root),
    )


def _throttle_events(root: Path) -> int | None:
    """Thermal throttling events so far: each core's, and the first core's count of the package."""
    cpus = root / "sys/devices/system/cpu"
    counts = [
        count
        for path in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        if (count := read_int(path)) is not None
    ]
    package = read_int(cpus / "cpu0/thermal_throttle/package_throttle_count")
    return sum(counts) + (package or 0) if counts or package is not None else None


def _quota_throttled(root: Path) -> int | None:
    """cgroup v2: periods in which the CPU quota held this group back."""
    for line in (read_text(root / "sys/fs/cgroup/cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "nr_throttled":
            return int(value)
    return None
