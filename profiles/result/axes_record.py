"""What models are compared on besides speed, memory and likelihood, as data: each part only where it was asked for.

Filled by profiles/quality (languages.py, robustness.py, response.py, answer_energy.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgellm.profiles.result.quality_stats import Estimate, Share


@dataclass(frozen=True)
class LanguageRecord:
    """A model in one language."""

    bits_per_byte: Estimate | None = None  # of the dialogues in it; a Chinese character has three bytes
    right: Share | None = None  # closed tasks in it


@dataclass(frozen=True)
class RobustnessRecord:
    """The closed tasks once more, their questions written otherwise; those it could change."""

    right: Share  # with the change
    kept: Share  # of those answered rightly as they stand
    seed: int


@dataclass(frozen=True)
class ResponseRecord:
    """How soon and how evenly text comes from the HTTP server, from the client's side."""

    n_prompt: int  # tokens of each prompt, no two of which begin alike
    n_answer: int  # tokens of an answer at most
    n_clients: int  # at once, where the server is under load
    ttft_seconds: float  # median, one client
    gap_p95_seconds: float | None  # between two pieces of text, one client
    loaded_ttft_seconds: float  # median under load
    loaded_ttft_p95_seconds: float
    loaded_gap_p95_seconds: float | None


@dataclass(frozen=True)
class AnswerEnergy:
    """What all answers to the tasks took, right and wrong ones; by a real meter."""

    meter: str
    joules: float
    error_joules: float  # by what the meter cannot resolve in time
    seconds: float
    right: int

    @property
    def joules_per_right(self) -> float | None:
        """None where no answer was right."""
        return self.joules / self.right if self.right else None


@dataclass(frozen=True)
class Axes:
    """The parts that were asked for; None where not, or where `reasons` says why it could not be measured."""

    language: Mapping[str, LanguageRecord] | None = None  # "en", "zh"
    robustness: Mapping[str, RobustnessRecord] | None = None  # by kind of change
    response: ResponseRecord | None = None
    energy: AnswerEnergy | None = None
    reasons: Mapping[str, str] | None = None  # axis -> why it is missing
