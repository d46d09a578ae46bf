"""What was served since the start: counters and histograms, and their page in Prometheus' text form."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgellm.serving.job import Done

_TTFT = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TPOT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass
class Histogram:
    """Counts of seconds by upper bound."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def lines(self, name: str) -> Iterator[str]:
        """Its samples, counts cumulated."""
        n = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            n += count
            yield f'{name}_bucket{{le="{bound}"}} {n}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {n}"


@dataclass
class Metrics:
    """Of all models together. Used from the event loop alone."""

    n_answers: int = 0
    n_failed: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    joules: float | None = None
    statuses: dict[int, int] = field(default_factory=dict)
    ttft: Histogram = field(default_factory=lambda: Histogram(_TTFT))
    tpot: Histogram = field(default_factory=lambda: Histogram(_TPOT))

    def answered(self, done: Done) -> None:
        """An answer has ended."""
        self.n_answers += 1
        self.n_prompt += done.n_prompt - done.n_cached
        self.n_cached += done.n_cached
        self.n_generated += done.n_generated
        self.n_drafted += done.n_drafted
        self.n_accepted += done.n_accepted
        self.prefill_seconds += done.prefill_seconds
        self.decode_seconds += done.decode_seconds
        if done.joules is not None:
            self.joules = (self.joules or 0.0) + done.joules
        if done.n_generated:
            self.ttft.observe(done.queue_seconds + done.prefill_seconds)
        if done.n_generated > 1:
            self.tpot.observe(done.decode_seconds / (done.n_generated - 1))
