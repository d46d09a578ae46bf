"""An energy meter of a machine that draws the same power whatever it does: what it must give is known."""

import itertools
import time

from edgellm.profiles.energy import EnergyLostError, Reading


class ConstantMeter:
    """A meter of a machine that draws `watts`, on the real clock."""

    recipe = ""
    parts: frozenset[str] = frozenset()
    scope = "a machine of constant power"

    def __init__(
        self,
        watts: float,
        kind: str = "counter",
        period: float = 0.0001,
        fails_after: int = 10**9,
        name: str = "constant",
        covers: str = "processor",
    ):
        self.name, self.covers = name, covers
        self.watts, self.kind, self.update_period_seconds = watts, kind, period
        self._reads = itertools.count()
        self._fails_after = fails_after

    def why_not(self) -> str | None:
        return None

    def read(self) -> Reading:
        if next(self._reads) >= self._fails_after:
            raise EnergyLostError("the cable came off")
        now = time.perf_counter()
        return Reading(now, {"all": self.watts * now if self.kind == "counter" else self.watts})
