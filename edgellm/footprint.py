"""What an engine sets aside in memory for a model. Knows headers and formulas; opens no engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Buffers:
    """What an engine sets aside, in bytes: by its own log or accounting, or as predicted before."""

    weights: int  # as mapped from the file or read from it
    repacked: int  # the copy of weights its kernels want in another order
    kv: int
    compute: int  # the graph's scratch memory and the logits; pages it never touches are not resident
    source: str  # "engine log" | "own accounting" | "prediction"
