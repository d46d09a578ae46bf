"""The machine's measured ceilings and the limits they set a run, as data. ceilings.py measures, roofline.py divides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ceiling:
    """The most this machine was seen to do with so many threads, in the process and affinity a launch has."""

    n_threads: int
    read_bytes_per_second: float | None  # the best of `read_samples`
    read_samples: tuple[float, ...] = ()
    read_method: str = ""
    array_bytes: int | None = None  # read each time: four last-level caches or more
    operations_per_second: Mapping[str, float] | None = None  # "f32" and "int8", a product counted as two
    operations_method: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Limits:
    """What the measured ceilings allow this run (roofline); `reason` says why a limit is not claimed."""

    decode_tokens_per_second: float | None = None  # bandwidth over the bytes read for each token
    prefill_tokens_per_second: float | None = None  # operations per second over 2 x active parameters
    bytes_per_token: float | None = None  # read to decode: weights, and the KV cache in mid-answer
    operations_per_token: float | None = None  # to read a prompt
    reason: str | None = None
