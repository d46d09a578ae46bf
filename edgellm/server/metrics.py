"""What was served since the start: counters and histograms, and their page in Prometheus' text form."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgellm.serving.job import Done, State

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


def page(metrics: Metrics, states: Mapping[str, State], slots: Mapping[str, int]) -> str:
    """All of it for Prometheus; `states` and `slots` are of the open engines, by their models' names."""
    lines: list[str] = []
    for name, kind, meaning, value in _samples(metrics):
        if value is not None:
            lines += [*_head(name, kind, meaning), f"edgellm:{name} {_number(value)}"]
    for name, meaning, histogram in (
        ("time_to_first_token_seconds", "From a request's coming to its first token.", metrics.ttft),
        ("time_per_output_token_seconds", "Between tokens, the mean of an answer.", metrics.tpot),
    ):
        lines += [*_head(name, "histogram", meaning), *histogram.lines(f"edgellm:{name}")]
    lines += _head("http_requests_total", "counter", "Responses by status; 499: the client went away.")
    lines += [
        f'edgellm:http_requests_total{{status="{status}"}} {n}'
        for status, n in sorted(metrics.statuses.items())
    ]
    for name, meaning, of in _STATES:
        lines += _head(name, "gauge", meaning)
        lines += [f'edgellm:{name}{{model="{_label(model)}"}} {of(state)}' for model, state in states.items()]
    lines += _head("slots", "gauge", "Answers that are decoded together at most.")
    lines += [f'edgellm:slots{{model="{_label(model)}"}} {n}' for model, n in slots.items()]
    return "\n".join(lines) + "\n"


#: Gauges of an engine; the first two are llama-server's.
_STATES: tuple[tuple[str, str, Callable[[State], float]], ...] = (
    ("requests_processing", "Answers that are prefilled or decoded now.", lambda state: state.n_running),
    ("requests_deferred", "Requests that wait for a slot.", lambda state: state.n_waiting),
    ("kv_cache_tokens", "Tokens in the cache of keys and values.", lambda state: state.kv_used),
    ("kv_cache_size_tokens", "Tokens that cache has room for.", lambda state: state.kv_size),
    ("engine_resident_bytes", "Memory of the engine's process.", lambda state: state.resident_bytes),
)


def _samples(m: Metrics) -> Iterator[tuple[str, str, str, float | None]]:
    """Name, kind, meaning, value; what llama-server has goes by its name there."""
    yield "prompt_tokens_total", "counter", "Prompt tokens evaluated.", m.n_prompt
    yield "prompt_tokens_cached_total", "counter", "Prompt tokens found in the cache.", m.n_cached
    yield "prompt_seconds_total", "counter", "Time of prefill.", m.prefill_seconds
    yield "tokens_predicted_total", "counter", "Tokens generated.", m.n_generated
    yield "tokens_predicted_seconds_total", "counter", "Time of decoding.", m.decode_seconds
    yield (
        "prompt_tokens_seconds",
        "gauge",
        "Mean rate of prefill, tokens a second.",
        _rate(m.n_prompt, m.prefill_seconds),
    )
    yield (
        "predicted_tokens_seconds",
        "gauge",
        "Mean rate of an answer, tokens a second.",
        _rate(m.n_generated, m.decode_seconds),
    )
    yield "spec_decode_num_draft_tokens_total", "counter", "Draft tokens evaluated.", m.n_drafted
    yield "spec_decode_num_accepted_tokens_total", "counter", "Draft tokens kept.", m.n_accepted
    yield "answers_total", "counter", "Answers that came to their end.", m.n_answers
    yield "answers_failed_total", "counter", "Answers that an engine gave up or refused.", m.n_failed
    yield "energy_joules_total", "counter", "Joules of answers, where a meter works.", m.joules


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP edgellm:{name} {meaning}", f"# TYPE edgellm:{name} {kind}"]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def _rate(n: int, seconds: float) -> float:
    return n / seconds if seconds > 0 else 0.0


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
