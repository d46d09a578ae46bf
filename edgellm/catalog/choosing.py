"""`auto` for a type: the one that `edgellm recommend` would say for this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgellm.errors import EdgellmError
from edgellm.terminal import note


def recommended(
    model: str,
    *,
    ram: int | None = None,
    offline: bool = False,
    measure: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> str | None:
    """The type to take of `model` where it may take `ram` bytes (None: what is there), the reason on standard error.

    Raises EdgellmError where none will do.

    Without `measure` no kernel is timed: None where nothing is remembered of this machine, or of the model's kernels.
    """
    from edgellm.catalog import subjects
    from edgellm.fit import places, recommend, table
    from edgellm.fit.model import chosen

    try:
        subject = subjects.open_subject(model, chosen(None), offline=offline)
        place = places.here(list(subject.types.values()), tell, measure=measure)
        found = table.make(subject, place, ram=ram)
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
    note(f"{choice.best.type} is recommended here ({choice.reason}); edgellm recommend {model} says more")
    return choice.best.type
