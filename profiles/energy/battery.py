"""The battery's own gauge: power drawn by the whole machine while it runs on battery.

`/sys/class/power_supply/BAT*` gives `power_now` (uW), or `current_now` (uA) and `voltage_now` (uV); some
drivers count discharge as negative. On mains the gauge shows charging, which says nothing about the work,
so it is refused. Kernel: Documentation/ABI/testing/sysfs-class-power.

Gauges bring a new value every second to half a minute, so that only long windows mean anything.
"""

from __future__ import annotations

import time
from pathlib import Path

from edgellm.machine.sysfs import read_int, read_text
from edgellm.profiles.energy import EnergyLostError, Reading


class Battery:
    """All discharging system batteries together, a channel for each."""

    name = "battery"
    kind = "power"
    covers = "machine"
    parts: frozenset[str] = frozenset()
    scope = "the whole machine, screen included, as the battery's gauge sees it"
    update_period_seconds = 3.0
    recipe = ""

    def __init__(self, root: Path = Path("/")) -> None:
        self._tree = root / "sys/class/power_supply"

    def why_not(self) -> str | None:
        """Refuse without a battery, on mains, and without a power reading."""
        found = _batteries(self._tree)
        if not found:
            return f"no battery in {self._tree}"
        if mains := _mains_online(self._tree):
            return f"on mains power ({mains}); unplug it to measure with the battery's gauge"
        if not (discharging := [path for path in found if read_text(path / "status") == "Discharging"]):
            states = ", ".join(f"{path.name}: {read_text(path / 'status')}" for path in found)
            return f"no battery is discharging ({states}); unplug the machine"
        watts = {path.name: _watts(path) for path in discharging}
        if missing := [name for name, value in watts.items() if value is None]:
            return f"{missing[0]} tells neither power_now nor current_now and voltage_now"
        if not any(watts.values()):
            return f"the gauge of {', '.join(watts)} reads 0 W while discharging; it is dead"
        return None

    def read(self) -> Reading:
        """Watts now, of every battery that discharges."""
        if mains := _mains_online(self._tree):
            raise EnergyLostError(f"mains power ({mains}) was plugged in during the run")
        watts = {
            path.name: _watts(path)
            for path in _batteries(self._tree)
            if read_text(path / "status") == "Discharging"
        }
        known = {name: value for name, value in watts.items() if value is not None}
        if not known or len(known) != len(watts):
            raise EnergyLostError("the battery's gauge stopped telling its power during the run")
        return Reading(time.perf_counter(), known)


def find(root: Path = Path("/")) -> Battery:
    """The meter of the machine whose file system is at `root`."""
    return Battery(root)


def _batteries(tree: Path) -> list[Path]:
    """System batteries; those of mice and keyboards say `scope` Device."""
    return [
        path
        for path in sorted(tree.glob("*"))
        if read_text(path / "type") == "Battery"
        and read_text(path / "scope") != "Device"
        and read_text(path / "present") != "0"
    ]


def _mains_online(tree: Path) -> str | None:
    """Name of a power supply that is plugged in, if any."""
    for path in sorted(tree.glob("*")):
        kind = read_text(path / "type")
        if (
            kind in ("Mains", "USB")
            and read_text(path / "scope") != "Device"
            and read_int(path / "online") == 1
        ):
            return path.name
    return None


def _watts(path: Path) -> float | None:
    """Discharge power as a positive number, whatever sign the driver gives it."""
    power = read_int(path / "power_now")
    if power is not None:
        return abs(power) / 1e6
    current, voltage = read_int(path / "current_now"), read_int(path / "voltage_now")
    if current is None or voltage is None:
        return None
    return abs(current) * voltage / 1e12
