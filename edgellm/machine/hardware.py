"""What this machine offers a process: cores it may use, CPU features, memory that is really free.

Looks at affinity and cgroup limits, for a container sees the whole host otherwise. Knows no engine.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgellm.machine import cgroup

_CGROUP, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

#: PCI vendor ids, as sysfs spells them.
_PCI_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True)
class Cpu:
    """The processor as the operating system names it."""

    name: str
    flags: frozenset[str]  # lower case, as Linux prints them; empty where unknown
    n_logical: int  # usable by this process (affinity)
    n_physical: int  # cores among them

    def has(self, *flags: str) -> bool:
        """Whether all of `flags` are present."""
        return self.flags.issuperset(flags)


@cache
def cpu() -> Cpu:
    """The CPU this process runs on."""
    name, flags = _cpuinfo()
    usable = _affinity()
    return Cpu(name, flags, len(usable), _physical(usable))


def default_threads() -> int:
    """Threads for a compute-bound engine: cores of the fastest kind, less what affinity and cgroup quota withhold.

    Slow cores are left out, for all threads wait for the slowest at every matrix.
    """
    quota = cgroup.cpus(_CGROUP, _read_text(_MEMBERSHIP))
    cores = fast_cores() or cpu().n_physical
    return max(1, min(cores, int(quota)) if quota else cores)


def threads(asked: int | None) -> int:
    """Threads to run with: `asked`, else the default; at most one for each processor this process may use.

    More only wait for each other, and llama.cpp aborts above 512 (GGML_MAX_N_THREADS).
    """
    return min(asked or default_threads(), cpu().n_logical, 512)


def fast_cores() -> int | None:
    """Usable cores of the fastest kind where the processor has several (P and E, big and LITTLE); None where not."""
    return _fast(_affinity(), Path("/sys/devices"))


def available_bytes() -> int:
    """Memory a new allocation can take without swapping: MemAvailable, or the cgroup's rest if smaller."""
    free = _free_bytes()
    left = cgroup.memory_left(_CGROUP, _read_text(_MEMBERSHIP))
    return free if left is None else min(free, left)


def _free_bytes() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read_text(Path("/proc/meminfo")), re.MULTILINE)
    if found:  # as psutil has it on Linux, which takes 15 ms to import
        return int(found[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().available)


def gpu_vendors(root: Path = Path("/")) -> tuple[str, ...]:
    """Vendors of the GPUs the operating system shows, each once; a virtual display is none."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("Apple",)
    cards = sorted((root / "sys/class/drm").glob("card[0-9]*/device/vendor"))
    found = [_PCI_VENDORS.get(_read_text(path)) for path in cards]
    if (root / "proc/driver/nvidia/version").exists():
        found.insert(0, "NVIDIA")
    return tuple(dict.fromkeys(vendor for vendor in found if vendor))


def _cpuinfo() -> tuple[str, frozenset[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip().lower()] = value.strip()
    name = fields.get("model name") or fields.get("cpu model") or platform.machine()
    return name, frozenset((fields.get("flags") or fields.get("features") or "").split())


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical(usable: frozenset[int]) -> int:
    cores = set()
    for index in usable:
        topology = Path(f"/sys/devices/system/cpu/cpu{index}/topology")
        try:
            package = (topology / "physical_package_id").read_text().strip()
            cores.add((package, (topology / "core_id").read_text().strip()))
        except OSError:
            import psutil

            return min(len(usable), psutil.cpu_count(logical=False) or len(usable))
    return len(cores) or 1


def _fast(usable: frozenset[int], devices: Path) -> int | None:
    """By Intel's two core PMUs, else by the capacity ARM boards give each CPU."""
    fast = _cpu_list(_read_text(devices / "cpu_core/cpus")) if (devices / "cpu_atom").is_dir() else set()
    if not fast:
        capacity = {i: _read_int(devices / f"system/cpu/cpu{i}/cpu_capacity") or 0 for i in usable}
        fast = {i for i in usable if capacity[i] == max(capacity.values())}
    fast &= usable
    return _physical(frozenset(fast)) if fast and fast != usable else None


def _cpu_list(text: str) -> set[int]:
    """CPU numbers of the kernel's list format: `0-7,12`."""
    spans = [part.split("-") for part in text.split(",") if part]
    return {cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)}


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
