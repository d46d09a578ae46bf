"""How far a batch is: rows, tokens, time and joules, as people are told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgellm.terminal import bar
from edgellm.units import count, format_seconds

if TYPE_CHECKING:
    from edgellm.batch.answer import Answer
    from edgellm.serving.job import State


@dataclass
class Tally:
    """Of one run. Seconds, tokens, joules."""

    n_rows: int  # of the input
    n_before: int = 0  # of these, an earlier run asked
    n_errors_before: int = 0  # of these, error rows
    n_answered: int = 0
    n_errors: int = 0
    first_error: str = ""
    n_read: int = 0  # tokens of prompts
    n_written: int = 0  # ... and of answers
    energy: str = ""  # what the joules cover, or why there are none
    _joules: dict[str, float] = field(
        default_factory=dict
    )  # of each engine since its start, at the last look
    _joules_before: float = 0.0  # of engines that ended
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the first row was asked."""
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def joules(self) -> float | None:
        """Of all answers, None where not measured."""
        return sum(self._joules.values()) + self._joules_before if self._joules else None

    def took(self, answer: Answer) -> None:
        """A row has its answer."""
        if answer.is_answered:
            self.n_answered += 1
        else:
            self.n_errors += 1
            self.first_error = self.first_error or f"{answer.custom_id[:80]!r}: {answer.problem}"
        read, written = answer.tokens()
        self.n_read += read
        self.n_written += written

    def saw(self, engine: str, state: State) -> None:
        """What an engine said of itself."""
        self.energy = state.energy
        if state.joules is None:
            return
        if state.joules < (before := self._joules.get(engine, 0.0)):  # it was started anew
            self._joules_before += before
        self._joules[engine] = state.joules

    def line(self) -> str:
        """How far it is."""
        n_now = self.n_answered + self.n_errors
        n_done, seconds = self.n_before + n_now, self.seconds
        parts = [f"answering {bar(n_done / self.n_rows)} {n_done:,}/{self.n_rows:,}"]
        parts += [f"{self.n_written / seconds:.1f} tok/s", f"{self.n_read / seconds:.0f} read"]
        parts += [f"{format_seconds(seconds / n_now * (self.n_rows - n_done))} left"] if n_now else []
        parts += [] if self.joules is None else [f"{self.joules:.0f} J"]
        return "  ".join(parts + ([f"{self.n_errors:,} errors"] if self.n_errors else []))

    def summary(self) -> str:
        """What came of it, in one line."""
        seconds = self.seconds
        before = f" beside {self.n_before:,} that were there" if self.n_before else ""
        energy = self.energy if self.joules is None else f"{self.joules:.1f} J ({self.energy})"
        return (
            f"{count(self.n_answered, 'row')} answered{before}, {count(self.n_errors, 'error')}; "
            f"{self.n_read:,} tokens read and {self.n_written:,} written in {format_seconds(seconds)}, "
            f"{self.n_written / seconds:.1f} tok/s; "
            f"energy {energy or 'not measured'}"
        )
