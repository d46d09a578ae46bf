"""The energy of answers, by the first meter that works here; what is not measured has a reason and no figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgellm.profiles import energy
from edgellm.profiles.energy import Choice
from edgellm.profiles.measure.energy_recorder import Recorder
from edgellm.profiles.result.axes_record import AnswerEnergy

T = TypeVar("T")


def measured(
    work: Callable[[], T], right: Callable[[T], int], choice: Choice | None = None
) -> tuple[T, AnswerEnergy | str]:
    """What `work` gives, and its energy or why there is none; `right` counts right answers in it."""
    choice = choice or energy.choose()
    if not choice.meters:
        return work(), choice.reason or "no energy counter works here"
    meter = choice.meters[0]
    with Recorder(meter) as recorder:
        begin = recorder.mark()
        done = work()
        end = recorder.mark()
    if begin is None or end is None:
        return done, recorder.lost or f"{meter.name} was lost"
    seconds, least = end.seconds - begin.seconds, energy.min_window_seconds(meter)
    if seconds < least:
        return done, f"the answers took {seconds:.3g} s; {meter.name} needs {least:g} s or more"
    joules = sum(value for name, value in recorder.joules(begin, end).items() if name not in meter.parts)
    return done, AnswerEnergy(meter.name, joules, recorder.error(begin, end, joules), seconds, right(done))
