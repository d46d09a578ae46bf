"""What each answer cost in energy: its share of what a counter counts while several are written at once.

The joules of an evaluation are divided by the tokens that each answer had in it. What is counted is the meter's scope
(a processor's package, a whole machine), other programs' work included; idling between answers is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from edgellm.profiles import energy
from edgellm.profiles.energy import EnergyLostError, EnergyMeter, Reading


class Sharer(Protocol):
    """An answer that gets its share."""

    joules: float  # so far

    def newly_evaluated(self) -> int:
        """Tokens evaluated for it since this was last asked."""
        ...


class Shares:
    """Reads one counter between evaluations."""

    def __init__(self, wanted: str) -> None:
        """`wanted`: sources of energy readings as `energy.choose` takes them. Raises UsageError."""
        choice = energy.choose(wanted)
        counters = [meter for meter in choice.meters if meter.kind == "counter"]
        self._meter: EnergyMeter | None = counters[0] if counters else None
        asked = wanted != energy.NONE
        self.why_not = "no energy counter works here, see: edgellm doctor" if asked else choice.reason
        self._last: Reading | None = None
        self.total: float | None = 0.0 if self._meter else None  # joules of all answers

    @property
    def said(self) -> str:
        """What `total` covers, or why there is none."""
        return f"not measured: {self.why_not}" if self._meter is None else self._meter.scope

    def mark(self) -> None:
        """What was counted until now is nobody's."""
        self._read()

    def stepped(self, answers: Iterable[Sharer]) -> None:
        """An evaluation is over: divide what it took."""
        before = self._last
        now = self._read()
        if before is None or now is None or self._meter is None or self.total is None:
            return
        joules = sum(
            now.channels[name] - before.channels[name]
            for name in now.channels
            if name not in self._meter.parts
        )
        shares = [(answer, answer.newly_evaluated()) for answer in answers]
        whole = sum(n for _, n in shares)
        self.total += joules if whole else 0.0
        for answer, n in shares:
            if n:
                answer.joules += joules * n / whole

    def of(self, joules: float, seconds: float) -> tuple[float | None, str]:
        """An answer's share, as it may be told, and what it covers; or None and why."""
        if self._meter is None:
            return None, self.said
        shortest = energy.min_window_seconds(self._meter)
        if seconds < shortest:
            return None, f"not measured: an answer under {shortest:g} s is too short for this counter"
        return joules, self.said

    def _read(self) -> Reading | None:
        if self._meter is None:
            return None
        try:
            self._last = self._meter.read()
        except EnergyLostError as error:
            self._meter, self._last, self.total, self.why_not = None, None, None, str(error)
        return self._last
