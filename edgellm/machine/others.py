"""How busy other programs keep this machine: settings found beside them suit a busy machine, not a quiet one."""

from __future__ import annotations

import time

from edgellm.machine.noise import MIN_SECONDS, NoiseWatch

BUSY = 0.15  # of all processors: above it, what is found may not hold when they are gone


def busy_share() -> float | None:
    """The share of all processors that other programs use now, a moment's look; None where the system hides it."""
    watch = NoiseWatch()
    time.sleep(MIN_SECONDS)
    return watch.record().foreign_share
