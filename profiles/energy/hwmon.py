"""Power monitors on the board: INA3221 and its relatives, as Jetsons and some other boards have them on each rail.

Current kernels give each chip a folder with a `name` file and, for rail N, `inN_label`, `inN_input` (mV) and
`currN_input` (mA), or `powerN_input` (uW). Jetsons up to JetPack 4 have `rail_name_N` and `in_powerN_input` (mW)
instead. Kernel: Documentation/hwmon/ina3221.rst, ina2xx.rst, sysfs-interface.rst. Every rail keeps its own name.

Rails feed one another, so their sum may count power twice. The total is the input rail's where there is one;
of the boards without, `_DISJOINT` has the rails that hold all others. Of a board that neither rule knows there is
no total, until the user names the rails that make it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgellm.machine.sysfs import read_int, read_text
from edgellm.profiles.energy import EnergyLostError, Reading

#: What may follow the source's name and a colon.
DETAIL = "the rails that make the total, joined by +"

CHIPS = (
    "ina209",
    "ina219",
    "ina220",
    "ina226",
    "ina230",
    "ina231",
    "ina238",
    "ina260",
    "ina3221",
    "ina3221x",
)
#: The rail everything else hangs on.
_INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
#: Boards without one: rails that hold all others (AGX Orin, AGX Xavier; NVIDIA Jetson Linux Developer Guide).
_DISJOINT = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
_UNCONNECTED = ("", "NC")


@dataclass(frozen=True)
class Rail:
    """One rail: its name and how to get its watts (None: it does not tell)."""

    name: str
    watts: Callable[[], float | None]


class Hwmon:
    """All rails of all chips, a channel for each; those inside another rail are not added."""

    name = "hwmon"
    kind = "power"
    covers = "board"
    recipe = ""

    def __init__(self, root: Path = Path("/"), wanted: str = "") -> None:
        self._root = root
        folders = list(_folders(root))
        self._rails = list(_rails(folders))
        self._wanted = tuple(name for name in wanted.split("+") if name)
        self._counted = counted([rail.name for rail in self._rails], self._wanted)
        intervals = [read_int(folder / "update_interval") or 0 for folder in folders]  # ms
        self.update_period_seconds = max(0.1, max(intervals, default=0) / 1e3)

    @property
    def parts(self) -> frozenset[str]:
        """Rails that are not in the total."""
        return frozenset(rail.name for rail in self._rails) - frozenset(self._counted)

    @property
    def scope(self) -> str:
        """The rails that make the total."""
        inside = f"; {', '.join(sorted(self.parts))} apart" if self.parts else ""
        return f"the board's rails {' + '.join(self._counted) or '(none)'}{inside}; without the power supply's loss"

    def why_not(self) -> str | None:
        """Refuse without rails, without a rule for their total, and when nothing flows."""
        if not self._rails:
            return f"no INA3221 or similar power monitor in {self._root / 'sys/class/hwmon'}"
        names = [rail.name for rail in self._rails]
        if missing := [name for name in self._wanted if name not in names]:
            return f"there is no rail {missing[0]!r}; there are: {', '.join(names)}"
        if not self._counted:
            return (
                f"which of the rails {', '.join(names)} hold the others is not known; "
                f"name those that make the total: --energy hwmon:{names[0]}+..."
            )
        watts = {rail.name: rail.watts() for rail in self._rails if rail.name in self._counted}
        if silent := [name for name, value in watts.items() if value is None]:
            return f"rail {silent[0]} cannot be read (permission, or the driver is gone)"
        if not any(watts.values()):
            return f"{', '.join(watts)} read 0 W; the sensor is dead"
        return None

    def read(self) -> Reading:
        """Watts of each rail."""
        seconds, watts = time.perf_counter(), {}
        for rail in self._rails:
            value = rail.watts()
            if value is not None:
                watts[rail.name] = value
            elif rail.name in self._counted:
                raise EnergyLostError(f"rail {rail.name} can no longer be read")
        return Reading(seconds, watts)


def find(root: Path = Path("/"), detail: str = "") -> Hwmon:
    """The meter of the machine whose file system is at `root`; `detail` names the rails of the total."""
    return Hwmon(root, detail)


def counted(names: list[str], wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Of the rails there are, those whose sum is the total; none when that is not known."""
    if wanted:
        return tuple(name for name in names if name in wanted)
    if inputs := tuple(name for name in names if name in _INPUT_RAILS):
        return inputs
    for group in _DISJOINT:
        if set(group) <= set(names):
            return group
    return tuple(names) if len(names) == 1 else ()


def _folders(root: Path) -> Iterator[Path]:
    """Folders of the monitors' chips, each once."""
    places = [*(root / "sys/class/hwmon").glob("hwmon*")]
    for drivers in (root / "sys/bus/i2c/drivers").glob("ina*"):
        places += [*drivers.glob("*/hwmon*"), *drivers.glob("*/hwmon/hwmon*"), *drivers.glob("*/iio:device*")]
    seen = set()
    for path in sorted(places):
        real = path.resolve()
        if real not in seen and (read_text(path / "name") or "") in CHIPS:
            seen.add(real)
            yield path


def _rails(folders: list[Path]) -> Iterator[Rail]:
    names: set[str] = set()
    for folder in folders:
        for rail in (*_by_voltage(folder), *_by_power(folder), *_jetpack4(folder)):
            name = rail.name if rail.name not in names else f"{folder.name}/{rail.name}"
            names.add(name)
            yield Rail(name, rail.watts)


def _by_voltage(folder: Path) -> Iterator[Rail]:
    """inN (mV) times currN (mA). INA3221 has a label for each rail; its seventh input is a sum of shunts."""
    for current in sorted(folder.glob("curr[0-9]_input")):
        voltage = folder / f"in{current.name[4]}_input"
        label = read_text(folder / f"in{current.name[4]}_label")
        if label is not None and label not in _UNCONNECTED and voltage.exists():
            yield Rail(label, lambda v=voltage, c=current: _product(v, c))  # type: ignore[misc]


def _by_power(folder: Path) -> Iterator[Rail]:
    for power in sorted(folder.glob("power[0-9]_input")):
        label = read_text(folder / f"power{power.name[5]}_label") or read_text(folder / "of_node/label")
        name = label or f"{folder.name}-{power.name[5]}"
        yield Rail(name, lambda p=power: _scaled(p, 1e-6))  # type: ignore[misc]


def _jetpack4(folder: Path) -> Iterator[Rail]:
    for label in sorted(folder.glob("rail_name_[0-9]")):
        name = read_text(label) or ""
        power = folder / f"in_power{label.name[-1]}_input"
        if name not in _UNCONNECTED and power.exists():
            yield Rail(name, lambda p=power: _scaled(p, 1e-3))  # type: ignore[misc]


def _product(millivolts: Path, milliamperes: Path) -> float | None:
    voltage, current = read_int(millivolts), read_int(milliamperes)
    return None if voltage is None or current is None else voltage * current * 1e-6


def _scaled(path: Path, factor: float) -> float | None:
    value = read_int(path)
    return None if value is None else value * factor
