"""Energy that nobody measured, for those who ask for it: idle power + (full power - idle power) x utilisation.

The two powers come from the user or from a device profile, never from here. Utilisation is this process's processor
time over the time of all processors. What is left out: the clock rate, memory, everything outside the processor.
Such a figure is constant times time in disguise, hence a field of its own (result.EnergyEstimate).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgellm import toml
from edgellm.errors import UsageError
from edgellm.profiles.measure.energy_log import Span
from edgellm.profiles.result.codec import from_plain
from edgellm.profiles.result.result import EnergyEstimate, EstimatedEnergy


@dataclass(frozen=True)
class Powers:
    """Power of the machine doing nothing and doing all it can, in watts."""

    idle_watts: float
    max_watts: float
    origin: str


@dataclass(frozen=True)
class _Device:
    """A device profile: the keys of its TOML file."""

    idle_watts: float
    max_watts: float
    name: str = ""
    source: str = ""  # who says so


def parse(text: str) -> Powers:
    """`5,28`, or the name of a device profile's TOML file, as powers. Raises UsageError."""
    return _checked(_of_device(Path(text)) if text.endswith(".toml") else _typed(text), text)


def _typed(text: str) -> Powers:
    try:
        idle, full = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--energy-estimate takes IDLE_W,MAX_W such as 5,28; got {text!r}") from None
    return Powers(idle, full, "given by the user")


def _of_device(path: Path) -> Powers:
    try:
        device = from_plain(_Device, toml.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError) as error:
        raise UsageError(f"--energy-estimate: {path} is no device profile: {error}") from error
    told = ", ".join(part for part in (device.name, device.source) if part)
    return Powers(
        device.idle_watts, device.max_watts, f"device profile {path.name}{f' ({told})' if told else ''}"
    )


def _checked(powers: Powers, text: str) -> Powers:
    if not 0 <= powers.idle_watts < powers.max_watts < float("inf"):
        raise UsageError(f"--energy-estimate needs 0 <= IDLE_W < MAX_W; got {text!r}")
    return powers


def estimate(spans: Iterable[Span], powers: Powers, processors: int | None = None) -> EnergyEstimate:
    """The energy of each phase, all of its spans together."""
    by_phase: dict[str, list[Span]] = {}
    for span in spans:
        by_phase.setdefault(span.phase, []).append(span)
    count = processors or os.cpu_count() or 1
    phases = tuple(_phase(name, group, powers, count) for name, group in by_phase.items())
    return EnergyEstimate(powers.idle_watts, powers.max_watts, powers.origin, phases)


def _phase(name: str, spans: Sequence[Span], powers: Powers, count: int) -> EstimatedEnergy:
    seconds = sum(span.seconds for span in spans)
    cpu_seconds = sum(span.end.cpu_seconds - span.begin.cpu_seconds for span in spans)
    utilisation = min(1.0, cpu_seconds / seconds / count) if seconds else 0.0
    watts = powers.idle_watts + (powers.max_watts - powers.idle_watts) * utilisation
    return EstimatedEnergy(name, seconds, sum(span.tokens for span in spans), utilisation, watts * seconds)
