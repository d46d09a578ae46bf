"""The machine and its software, as far as they bear on a measurement. Reads; never changes a setting.

Every fact is optional: a system that does not tell gives None, and nothing is guessed in its place.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Collection
from pathlib import Path

from edgellm.machine import hardware
from edgellm.machine.sysfs import read_int, read_text
from edgellm.profiles.result.result import Machine

LIBRARIES = ("llama-cpp-python", "onnxruntime", "numpy", "tokenizers")


def describe(root: Path = Path("/")) -> Machine:
    """This machine, or the one whose /proc and /sys are under `root` (for what comes from there)."""
    import psutil

    cpu = hardware.cpu()
    cpus = root / "sys/devices/system/cpu"
    smt = read_int(cpus / "smt/active")
    return Machine(
        cpu_model=cpu.name or None,
        cpu_flags=tuple(sorted(cpu.flags)),
        microcode=read_text(cpus / "cpu0/microcode/version"),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        usable_cores=cpu.n_logical,
        smt=None if smt is None else bool(smt),
        last_level_cache_bytes=last_level_cache(cpus),
        governor=read_text(cpus / "cpu0/cpufreq/scaling_governor"),
        frequency_mhz=frequency_mhz(root),
        frequency_max_mhz=_khz_to_mhz(read_int(cpus / "cpu0/cpufreq/cpuinfo_max_freq")),
        memory_bytes=int(psutil.virtual_memory().total),
        memory_limit_bytes=read_int(root / "sys/fs/cgroup/memory.max"),
        hypervisor=hypervisor(cpu.flags, root),
        power_source=power_source(),
        os=os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=library_versions(),
        affinity=affinity(),
    )


def affinity() -> tuple[int, ...] | None:
    """The processors this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def last_level_cache(cpus: Path) -> int | None:
    """Bytes of cpu0's highest-level cache."""
    found: list[tuple[int, int]] = []
    for index in sorted(cpus.glob("cpu0/cache/index*")):
        level, size = read_int(index / "level"), read_text(index / "size")
        if level is not None and size and size.endswith("K"):
            found.append((level, int(size[:-1]) * 1024))
    return max(found)[1] if found else None


def frequency_mhz(root: Path = Path("/")) -> float | None:
    """Mean of the CPUs' current frequencies, as cpufreq tells them."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    values = [khz for path in files if (khz := read_int(path)) is not None]
    return sum(values) / len(values) / 1000 if values else None


def _khz_to_mhz(khz: int | None) -> float | None:
    return None if khz is None else khz / 1000


def hypervisor(flags: Collection[str], root: Path) -> str | None:
    """Whose guest the machine is, "unknown kind" when only a CPU flag tells; None on bare metal."""
    if kind := read_text(root / "sys/hypervisor/type"):
        return kind
    vendor = read_text(root / "sys/class/dmi/id/sys_vendor") or ""
    product = read_text(root / "sys/class/dmi/id/product_name") or ""
    if "hypervisor" in flags:
        return f"{vendor} {product}".strip() or "unknown kind"
    return None


def power_source() -> str | None:
    """ "mains" or "battery"; None for a machine without a battery or one that does not tell."""
    import psutil

    try:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    except OSError:  # containers without /sys/class/power_supply
        return None
    if battery is None or battery.power_plugged is None:
        return None
    return "mains" if battery.power_plugged else "battery"


def os_name(root: Path = Path("/")) -> str:
    """The distribution's own name, or the system's."""
    for line in (read_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform(terse=True)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that do the work."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
