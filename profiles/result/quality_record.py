"""What a model is worth, as data: the part of a profile's result that `edgellm eval` measures.

Filled by quality_run.py. Values are means with their standard errors; a share carries its counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgellm.profiles.result.axes_record import Axes
from edgellm.profiles.result.quality_stats import Estimate, Share


@dataclass(frozen=True)
class QualityRecord:
    """One model on a fixed text and on the task suite. A part is None where it was not measured."""

    text: str | None = None  # the name of the text
    n_tokens: int | None = None  # scored
    perplexity: Estimate | None = None
    bits_per_byte: Estimate | None = None  # comparable where tokenizers differ
    dialogue_bits: tuple[float, ...] | None = None  # of each dialogue: two models are compared in pairs
    dialogue_bytes: tuple[int, ...] | None = None  # of the text that these bits stand for
    reference: str | None = None  # the name of the model that the divergence is from
    kld_mean: Estimate | None = None  # nats
    kld_max: float | None = None
    same_top: Estimate | None = None  # share of positions
    tasks: Mapping[str, Share] | None = None  # exact answers by task
    total: Share | None = None  # of all closed tasks
    right: str | None = None  # of each closed task in order: 1 where the answer was right, else 0
    axes: Axes | None = None  # further ones, where asked for
    reason: str | None = None  # why something is missing
    seconds: float | None = None  # what measuring it took
