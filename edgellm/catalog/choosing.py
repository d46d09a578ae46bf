"""A type for who names none: what `edgellm recommend` would say for this machine, or for so much memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edgellm.errors import EdgellmError
from edgellm.terminal import note

if TYPE_CHECKING:
    from edgellm.fit.recommend import Choice
    from edgellm.fit.table import Table


def recommended(
    model: str, *, offline: bool = False, measure: bool = True, tell: Callable[[str], None] = lambda _: None
) -> str | None:
    """The type to take of `model`, with the reason on standard error. Raises EdgellmError where none will do.

    Without `measure` no kernel is timed: None where nothing is remembered of this machine, or of the model's kernels.
    """
    from edgellm.catalog import subjects
    from edgellm.fit import places, recommend, table
    from edgellm.fit.model import chosen

    try:
        subject = subjects.open_subject(model, chosen(None), offline=offline)
        place = places.here(list(subject.types.values()), tell, measure=measure)
        found = table.make(subject, place)
        if not measure:
            known = tuple(row for row in found.rows if row.speed)
            if len(known) < 2:
                return None
            found = replace(found, rows=known)
        choice = recommend.choose(found, recommend.Wish())
    except EdgellmError:
        if measure:
            raise
        return None
    _tell(model, choice)
    return choice.best.type


def fitting(model: str, ram: int, *, offline: bool = False) -> str:
    """The type to take of `model` where it may take `ram` bytes; no kernel is timed. Raises EdgellmError."""
    from edgellm.catalog import subjects
    from edgellm.fit import places, table
    from edgellm.fit.model import chosen

    subject = subjects.open_subject(model, chosen(None), offline=offline)
    place = places.here(list(subject.types.values()), lambda _: None, measure=False)
    choice = likely(table.make(subject, place, ram=ram))
    _tell(model, choice)
    return choice.best.type


def likely(found: Table) -> Choice:
    """The type to take where kernels may not have been timed: by speed where several are known, else by what is read.

    Raises CheckFailedError where none will do.
    """
    from edgellm.fit import recommend

    timed = tuple(row for row in found.rows if row.speed)
    alike = timed if len(timed) > 1 else tuple(replace(row, speed=None) for row in found.rows)
    return recommend.choose(replace(found, rows=alike), recommend.Wish())


def _tell(model: str, choice: Choice) -> None:
    note(f"{choice.best.type} is recommended here ({choice.reason}); edgellm recommend {model} says more")
