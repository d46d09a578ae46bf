"""RAPL: the cumulative energy counters of x86 processors, through Linux's powercap tree.

`/sys/class/powercap` lists every zone flat: `intel-rapl:0` (a package), `intel-rapl:0:1` (one of its parts).
The numbers are not stable between machines or boots, so zones are known by the text in their `name` file:

    package-0, package-1, package-0-die-1   counted
    dram (inside a package)                 counted: it is not part of the package's figure
    core, uncore (inside a package)         left out: they are part of the package's figure
    psys                                    the whole platform, packages included: only where no package is

`intel-rapl-mmio:*` are the same packages through another register, and are left out. AMD uses the same tree.
Kernel: Documentation/power/powercap/powercap.rst, drivers/powercap/intel_rapl_common.c. Reading is for root
only since Linux 5.10 (CVE-2020-8694, a side channel), hence the group in the remedy and not `chmod a+r`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgellm.machine.sysfs import read_int, read_text
from edgellm.machine.vendor_library import paces
from edgellm.profiles.energy import EnergyLostError, Reading

#: Lets the group `power` read the counters.
UDEV_RULE = (
    'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", '
    'RUN+="/bin/chgrp power /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"'
)

#: How often the hardware brings a new value (Intel SDM volume 3, 16.10); some firmware and guests do so less often,
#: which is found by watching.
UPDATE_SECONDS = 0.001


@dataclass(frozen=True)
class Zone:
    """One counter of the tree."""

    path: Path
    name: str  # its `name` file: "package-0", "dram", ...
    label: str  # unique: "package-0", "package-0/dram"
    wrap_uj: int | None  # the counter starts again from 0 beyond this


class Rapl:
    """All counted zones together, as one meter with a channel for each."""

    name = "rapl"
    kind = "counter"
    covers = "processor"
    parts: frozenset[str] = frozenset()
    recipe = f"/etc/udev/rules.d/70-rapl.rules: {UDEV_RULE}"

    def __init__(
        self,
        root: Path = Path("/"),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._tree = root / "sys/class/powercap"
        self._sleep, self._clock = sleep, clock
        self.update_period_seconds = UPDATE_SECONDS
        self._zones = counted(zones(self._tree))
        self._dead: tuple[str, ...] = ()
        self._last: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def scope(self) -> str:
        """The zones counted, and what they leave out."""
        labels = [zone.label for zone in self._zones]
        if labels == ["psys"]:
            return "psys: the whole platform as the processor sees it"
        has_dram = any(zone.name == "dram" for zone in self._zones)
        missing = "memory, disk, display, GPU card" if not has_dram else "disk, display, GPU card"
        dead = f" (dead: {', '.join(self._dead)})" if self._dead else ""
        return f"{', '.join(labels)} for all processes{dead}; without {missing}"

    def why_not(self) -> str | None:
        """Look for zones, then for permission, then for life. Drops dead zones beside live ones."""
        if not self._tree.is_dir():
            return f"{self._tree} is missing (virtual machines, containers and other systems hide it)"
        if not self._zones:
            return f"{self._tree} has no package, dram or psys zone; try `modprobe intel_rapl_msr`"
        for zone in self._zones:
            try:
                _energy_uj(zone)
            except PermissionError:
                return (
                    f"{zone.path}/energy_uj is readable by root only; give it to a group with the udev rule "
                    f"that `edgellm doctor` prints"
                )
            except (OSError, ValueError) as error:
                return f"{zone.path}/energy_uj cannot be read: {error}"
        return self._watch()

    def _watch(self) -> str | None:
        """Find the counters' pace; what stands still is dead."""
        reads = {zone.label: functools.partial(_energy_uj, zone) for zone in self._zones}
        found = paces(reads, self._clock, self._sleep, UPDATE_SECONDS)
        live = [zone for zone in self._zones if found[zone.label] is not None]
        if not any(zone.name != "dram" for zone in live):
            return f"the counters in {self._tree} do not move; the hardware or hypervisor does not drive them"
        self._dead = tuple(zone.label for zone in self._zones if zone not in live)
        self._zones = live
        self.update_period_seconds = max(found[zone.label] or UPDATE_SECONDS for zone in live)
        return None

    def read(self) -> Reading:
        """Joules of each zone since the first call."""
        with self._lock:
            for zone in self._zones:
                self._advance(zone)
            joules = {label: micro / 1e6 for label, micro in self._total.items()}
            return Reading(time.perf_counter(), joules)

    def _advance(self, zone: Zone) -> None:
        try:
            now = _energy_uj(zone)
        except (OSError, ValueError) as error:
            raise EnergyLostError(f"{zone.path}/energy_uj can no longer be read: {error}") from error
        step = now - self._last.get(zone.label, now)
        if step < 0:
            if not zone.wrap_uj:
                raise EnergyLostError(f"{zone.path} went backwards and does not say where it wraps")
            step += zone.wrap_uj
        self._last[zone.label] = now
        self._total[zone.label] = self._total.get(zone.label, 0) + step


def find(root: Path = Path("/")) -> Rapl:
    """The meter of the machine whose file system is at `root`."""
    return Rapl(root)


def zones(tree: Path) -> list[Zone]:
    """Every zone of the tree but the mmio twins, parents before children, each package once."""
    found: dict[str, Zone] = {}
    for path in sorted(tree.glob("intel-rapl:*"), key=_depth_then_numbers):
        name = read_text(path / "name")
        if name is None:
            continue
        parent = found.get(path.name.rsplit(":", 1)[0])
        label = f"{parent.label}/{name}" if parent else name
        if label not in {zone.label for zone in found.values()}:
            found[path.name] = Zone(path, name, label, read_int(path / "max_energy_range_uj"))
    return list(found.values())


def _depth_then_numbers(path: Path) -> tuple[int, list[int]]:
    numbers = [int(part) for part in path.name.split(":")[1:] if part.isdigit()]
    return len(numbers), numbers


def counted(found: list[Zone]) -> list[Zone]:
    """Packages and their dram; psys only when there is no package, for it holds them all."""
    packages = [zone for zone in found if zone.name.startswith("package")]
    if packages:
        return packages + [zone for zone in found if zone.name == "dram"]
    return [zone for zone in found if zone.name == "psys"]


def _energy_uj(zone: Zone) -> int:
    return int((zone.path / "energy_uj").read_text())
