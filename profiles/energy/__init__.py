"""Energy: what a meter is, which of them work here, and which ones to use.

A source is one file beside this one with a function `find(root) -> EnergyMeter`; adding the file is the
registration. Nothing here estimates: where no meter works, the answer is none, with every source's reason.
Meters of different scopes run side by side and stay apart; of those that see the same thing one is chosen.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgellm.errors import EdgellmError, UsageError

#: A window shorter than this many updates of the meter is too coarse to report.
MIN_UPDATES = 100

AUTO, NONE = "auto", "none"
#: A meter that is read elsewhere, its log imported afterwards (measure/energy_import.py): here only time is kept.
CSV = "csv"


@dataclass(frozen=True)
class Reading:
    """A meter's word at one moment of the monotonic clock, by channel.

    Joules since the meter was made for a `counter` (wraps already undone), watts for `power`.
    """

    seconds: float
    channels: Mapping[str, float]


class EnergyMeter(Protocol):
    """A real sensor. Reading it costs microseconds; it never sleeps and never guesses."""

    name: str
    kind: str  # "counter" | "power" | "imported"
    covers: str  # "processor" | "machine" | "nvidia" | ...: of meters that cover the same, one is enough
    scope: str  # what the figure covers, and what it leaves out
    parts: frozenset[
        str
    ]  # channels kept but not added: parts of another one, or hardware this run does not use
    update_period_seconds: float  # how often the hardware brings a new value
    recipe: str  # what to paste where, should `why_not` speak of permission; may be empty

    def why_not(self) -> str | None:
        """None when it works here; otherwise the fact and the remedy in one line. May take 0.2 s."""
        ...

    def read(self) -> Reading:
        """Now. Safe to call from two threads. Raises EnergyLostError."""
        ...


class EnergyLostError(EdgellmError):
    """The meter stopped being one while it was read: unplugged, plugged in, or gone."""


def min_window_seconds(meter: EnergyMeter) -> float:
    """The shortest window whose energy is worth reporting."""
    return MIN_UPDATES * meter.update_period_seconds


def sources() -> tuple[str, ...]:
    """Names of the registered sources: the modules of this package that do not begin with an underscore."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def find(name: str, root: Path = Path("/")) -> EnergyMeter:
    """The source's meter, whether it works here or not. Raises UsageError for an unknown name.

    `name:detail` is for sources that take one, and say so in `DETAIL`.
    """
    name, _, detail = name.partition(":")
    if name not in sources():
        raise UsageError(f"no energy source is called {name!r}; there are: {', '.join((*sources(), CSV))}")
    module = importlib.import_module(f"{__name__}.{name}")
    if detail and not hasattr(module, "DETAIL"):
        raise UsageError(f"the energy source {name} takes nothing after its name, got {detail!r}")
    meter: EnergyMeter = module.find(root, detail) if detail else module.find(root)
    return meter


def meters(root: Path = Path("/")) -> list[EnergyMeter]:
    """One meter per registered source, working here or not."""
    return [find(name, root) for name in sources()]


@dataclass(frozen=True)
class Choice:
    """The meters to use, the first of them for the headline; or none, and the reason."""

    meters: tuple[EnergyMeter, ...] = ()
    reason: str | None = None
    later: bool = False  # a meter's log will be imported: phases must be long enough for it


def choose(wanted: str = AUTO, root: Path = Path("/")) -> Choice:
    """The meters for `wanted`: auto, none, csv, or names separated by commas. Raises UsageError.

    Of those that work, one for each thing covered. Counters come before power gauges and fast ones before slow
    ones, so that the choice depends on what the meters are and not on their names.
    """
    if wanted == NONE:
        return Choice(reason="not asked for (--energy none)")
    names = sources() if wanted == AUTO else tuple(wanted.split(","))
    later = CSV in names
    tried = [find(name, root) for name in names if name != CSV]
    reasons = {meter.name: meter.why_not() for meter in tried}
    working = sorted(
        (meter for meter in tried if reasons[meter.name] is None),
        key=lambda m: (m.kind != "counter", m.update_period_seconds),
    )
    chosen: dict[str, EnergyMeter] = {}
    for meter in working:
        chosen.setdefault(meter.covers if wanted == AUTO else meter.name, meter)
    return Choice(tuple(chosen.values()), None if chosen else _no_meter(wanted, reasons, later), later)


def _no_meter(wanted: str, reasons: Mapping[str, str | None], later: bool) -> str:
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if later:
        told = f"a meter's log is to be imported: edgellm energy import{'; ' if told else ''}{told}"
    return f"no energy counter works here ({told})" if wanted == AUTO else told


def check(wanted: str) -> None:
    """Raises UsageError when `wanted` names a source that there is not."""
    if wanted not in (AUTO, NONE):
        for name in wanted.split(","):
            if name != CSV:
                find(name)
