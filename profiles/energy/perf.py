"""RAPL once more, through Linux's perf events: for machines that lend those to users and keep powercap for root.

`/sys/bus/event_source/devices/power` names the events (`energy-pkg`, `energy-ram`, `energy-psys`), joules per count,
and one CPU of each package to count on (`cpumask`); the kernel keeps 64-bit counts, so nothing wraps. Needs
`perf_event_paranoid` of 0 or less, or CAP_PERFMON. Kernel: arch/x86/events/rapl.c; perf_event_open(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgellm.machine.sysfs import read_text
from edgellm.machine.vendor_library import paces
from edgellm.profiles.energy import EnergyLostError, Reading

#: perf_event_open(2) has no libc function: its number by machine.
_SYSCALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_ATTR_BYTES = 128
#: Events counted, and the channel of each; psys only where there is no package, for it holds the packages.
_EVENTS = {"energy-pkg": "package-{}", "energy-ram": "package-{}/dram"}
#: The processor's own pace (Intel SDM volume 3, 16.10); a slower one is found by watching.
_UPDATE_SECONDS = 0.001

#: The count that a file descriptor gives. Raises OSError, struct.error.
Read = Callable[[int], int]
#: (event type, config, CPU) to a file descriptor to read 8-byte counts from. Raises OSError.
Open = Callable[[int, int, int], int]


@dataclass(frozen=True)
class _Counter:
    """One open event."""

    label: str
    fd: int
    joules_per_count: float
    count: Read

    def joules(self) -> float:
        """Since it was opened."""
        return float(self.count(self.fd)) * self.joules_per_count


class Perf:
    """Packages and their memory, a channel for each."""

    name = "perf"
    kind = "counter"
    covers = "processor"
    parts: frozenset[str] = frozenset()
    recipe = ""

    def __init__(
        self,
        root: Path,
        open_event: Open,
        count: Read,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._root, self._open, self._count, self._sleep, self._clock = root, open_event, count, sleep, clock
        self.update_period_seconds = _UPDATE_SECONDS
        self._tree = root / "sys/bus/event_source/devices/power"
        self._counters: list[_Counter] = []

    def __del__(self) -> None:
        self._close()

    @property
    def scope(self) -> str:
        """What is counted, and what is left out."""
        labels = [counter.label for counter in self._counters]
        missing = "" if any("dram" in label for label in labels) else "memory, "
        return (
            f"{', '.join(labels) or 'packages'} for all processes; without {missing}disk, display, GPU card"
        )

    def why_not(self) -> str | None:
        """Look for the events, open them, and see whether they move."""
        if not self._tree.is_dir():
            return f"{self._tree} is missing (virtual machines and processors without RAPL)"
        self._close()
        try:
            self._counters = list(self._opened())
        except PermissionError:
            level = read_text(self._root / "proc/sys/kernel/perf_event_paranoid")
            return (
                f"kernel.perf_event_paranoid is {level}; sysctl kernel.perf_event_paranoid=0, or CAP_PERFMON"
            )
        except (OSError, ValueError) as error:
            return f"perf cannot count energy: {error}"
        if not self._counters:
            return f"{self._tree}/events has neither energy-pkg nor energy-psys"
        try:
            found = paces(
                {counter.label: counter.joules for counter in self._counters},
                self._clock,
                self._sleep,
                _UPDATE_SECONDS,
            )
        except (OSError, struct.error) as error:
            return f"perf's energy events cannot be read: {error}"
        if not any(found.values()):
            return "perf's energy events do not move; the hardware or hypervisor does not drive them"
        self.update_period_seconds = max(each or _UPDATE_SECONDS for each in found.values())
        return None

    def read(self) -> Reading:
        """Joules of each channel since the events were opened."""
        if not self._counters and (why := self.why_not()):
            raise EnergyLostError(why)
        try:
            return Reading(time.perf_counter(), {each.label: each.joules() for each in self._counters})
        except (OSError, struct.error) as error:
            raise EnergyLostError(f"perf's energy events can no longer be read: {error}") from error

    def _opened(self) -> list[_Counter]:
        kind = int(read_text(self._tree / "type") or "")
        cpus = parse_cpus(read_text(self._tree / "cpumask") or "0")
        events = {name: label for name, label in _EVENTS.items() if (self._tree / "events" / name).exists()}
        if "energy-pkg" not in events:
            events = {"energy-psys": "psys"} if (self._tree / "events/energy-psys").exists() else {}
        found = []
        for name, label in events.items():
            config, scale = self._event(name)
            for package, cpu in enumerate(cpus[:1] if label == "psys" else cpus):
                found.append(
                    _Counter(label.format(package), self._open(kind, config, cpu), scale, self._count)
                )
        return found

    def _event(self, name: str) -> tuple[int, float]:
        """(config, joules per count), from a file that says `event=0x02` and one that says 2.3e-10."""
        config = int((read_text(self._tree / "events" / name) or "").removeprefix("event="), 16)
        return config, float(read_text(self._tree / "events" / f"{name}.scale") or "")

    def _close(self) -> None:
        while self._counters:
            os.close(self._counters.pop().fd)


def find(root: Path = Path("/")) -> Perf:
    """The meter of the machine whose file system is at `root`."""
    return Perf(root, open_event, read_count)


def read_count(fd: int) -> int:
    """The count of an open event. Raises OSError, struct.error."""
    (count,) = struct.unpack("<Q", os.read(fd, 8))
    return int(count)


def parse_cpus(text: str) -> list[int]:
    """`0,32` or `0-1` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def open_event(kind: int, config: int, cpu: int) -> int:
    """Count an event of all processes on one CPU. Raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None or os.name != "posix":
        raise OSError(f"perf events are not known on {platform.machine()}")
    attr = ctypes.create_string_buffer(struct.pack("<IIQ", kind, _ATTR_BYTES, config), _ATTR_BYTES)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    close_on_exec = 8
    fd = syscall(ctypes.c_long(number), attr, -1, cpu, -1, ctypes.c_ulong(close_on_exec))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(fd)
