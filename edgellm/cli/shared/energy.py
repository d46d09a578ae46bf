"""Joules of one answer, for the chat: the best meter that works here, started and stopped around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.profiles.energy import EnergyMeter, Reading


class AnswerEnergy:
    """Implements what the chat asks of a meter (chat.repl.Energy)."""

    def __init__(self, meter: EnergyMeter) -> None:
        from edgellm.profiles.measure.energy_recorder import Recorder

        self.name = meter.name
        self._meter, self._make = meter, Recorder
        self._begin: Reading | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._recorder = self._make(self._meter)
        self._recorder.__enter__()
        self._begin = self._recorder.mark()

    def stop(self) -> float | None:
        """Joules since `start`; None when the meter was lost or the answer too short for it."""
        from edgellm.profiles.energy import min_window_seconds

        begin, end = self._begin, self._recorder.mark()
        self._recorder.__exit__(None, None, None)
        if begin is None or end is None or end.seconds - begin.seconds < min_window_seconds(self._meter):
            return None
        return sum(self._recorder.joules(begin, end).values())


def answer_energy() -> AnswerEnergy:
    """A meter for answers. Raises UsageError with every source's reason where none works."""
    from edgellm.profiles import energy

    choice = energy.choose()
    if not choice.meters:
        raise UsageError(f"energy cannot be measured: {choice.reason}")
    return AnswerEnergy(choice.meters[0])
