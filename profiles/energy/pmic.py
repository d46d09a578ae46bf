"""The power chip of a Raspberry Pi 5, which measures voltage and current of each of its rails.

`vcgencmd pmic_read_adc` prints lines such as `VDD_CORE_A current(7)=1.23400000A` and `VDD_CORE_V
volt(15)=0.87500000V`; a rail's power is their product (Raspberry Pi documentation, vcgencmd). EXT5V and BATT have
a voltage only. About 21 readings a second at best, each of them a process, so it is asked ten times a second.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from edgellm.profiles.energy import EnergyLostError, Reading

_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)\2\s*$", re.MULTILINE)
_TIMEOUT_SECONDS = 2.0


class Pmic:
    """The sum of the rails, a channel for each."""

    name = "pmic"
    kind = "power"
    covers = "board"
    parts: frozenset[str] = frozenset()
    update_period_seconds = 0.1
    recipe = ""
    scope = "the rails of the board's power chip; without USB, fan, HATs and the chip's own loss, so below the plug's"

    def __init__(self, root: Path = Path("/")) -> None:
        places = os.environ.get("PATH", os.defpath).split(os.pathsep)
        under = os.pathsep.join(str(root / place.lstrip("/")) for place in places if place)
        self._command = shutil.which("vcgencmd", path=under)

    def why_not(self) -> str | None:
        """Refuse without the command, without rails in its answer, and when nothing flows."""
        if self._command is None:
            return "vcgencmd is not on the PATH (only Raspberry Pi 5 and its compute modules have this meter)"
        try:
            watts = rails(self._ask())
        except EnergyLostError as error:
            return str(error)
        if not watts:
            return "vcgencmd pmic_read_adc names no rail with voltage and current (Raspberry Pi 4 and older have none)"
        return None if any(watts.values()) else "every rail of the power chip reads 0 W; the sensor is dead"

    def read(self) -> Reading:
        """Watts of each rail. Takes some milliseconds: it runs a process."""
        begin = time.perf_counter()
        watts = rails(self._ask())
        if not watts:
            raise EnergyLostError("vcgencmd pmic_read_adc stopped naming rails during the run")
        return Reading((begin + time.perf_counter()) / 2, watts)

    def _ask(self) -> str:
        command = [self._command or "vcgencmd", "pmic_read_adc"]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnergyLostError(f"vcgencmd pmic_read_adc cannot be run: {error}") from error
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            said = (text + done.stderr.decode("utf-8", "replace")).strip().splitlines()
            told = f": {said[0][:120]}" if said else ""
            raise EnergyLostError(
                f"vcgencmd pmic_read_adc failed with code {done.returncode}{told}; "
                f"reading /dev/vcio may need the group `video`"
            )
        return text


def find(root: Path = Path("/")) -> Pmic:
    """The meter of the machine whose file system is at `root`."""
    return Pmic(root)


def rails(text: str) -> dict[str, float]:
    """Watts by rail, of those with both voltage and current."""
    found: dict[str, dict[str, float]] = {}
    for name, unit, value in _LINE.findall(text):
        found.setdefault(name, {})[unit] = float(value)
    return {name: each["A"] * each["V"] for name, each in found.items() if len(each) == 2}
