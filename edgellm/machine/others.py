"""How busy other programs keep this machine: settings found beside them suit a busy machine, not a quiet one."""

from __future__ import annotations

import os
import time

from edgellm.machine.noise import MIN_SECONDS, NoiseWatch

BUSY = 0.15  # of all processors: above it, what is found may not hold when they are gone


def load() -> float:
    """Processes that ran or waited in the last minute, over the processors: the load average. 0 where there is none."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def busy_share() -> float | None:
    """The share of all processors that other programs use now, a moment's look; None where the system hides it."""
    watch = NoiseWatch()
    time.sleep(MIN_SECONDS)
    return watch.record().foreign_share
