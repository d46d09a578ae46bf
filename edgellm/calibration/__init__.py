"""Importance matrices: which columns of each weight matrix see large inputs, on a calibration text.

    chunks = scoring.text_chunks(session, text, 512)
    result = calibrate(artifact, chunks)

Defined as llama.cpp's imatrix tool defines them (tools/imatrix), so that its quantizer and ours read the same
numbers: for every matrix of a block, the sum over tokens of the square of each input column, and the number of
tokens; for experts, each on its own. Stands on the llama.cpp backend; knows no file (store.py does) and no text
(text.py writes ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgellm.generation.scoring import Chunk, blocks, target_log_probs
from edgellm.session import EngineOptions

if TYPE_CHECKING:
    from edgellm.calibration.collector import Sums
    from edgellm.formats.artifact import Artifact

_DEFAULTS = EngineOptions()


@dataclass(frozen=True)
class Calibration:
    """What was collected over the first `n_chunks` chunks, and how well the model predicted them."""

    sums: Sums = field(default_factory=dict)
    n_chunks: int = 0
    n_scored: int = 0
    nll_sum: float = 0.0  # of -ln p over the scored tokens
    nll_squares: float = 0.0

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood; NaN before anything was scored."""
        return math.exp(self.nll_sum / self.n_scored) if self.n_scored else math.nan

    @property
    def perplexity_error(self) -> float:
        """Its standard error, as llama.cpp has it: perplexity * sqrt(variance / (n - 1))."""
        if self.n_scored < 2:
            return math.nan
        mean = self.nll_sum / self.n_scored
        variance = max(0.0, self.nll_squares / self.n_scored - mean * mean)
        return self.perplexity * math.sqrt(variance / (self.n_scored - 1))


def calibrate(
    artifact: Artifact,
    chunks: Sequence[Chunk],
    *,
    engine: EngineOptions = _DEFAULTS,
    process_output: bool = False,
    start: Calibration | None = None,
    after_chunk: Callable[[Calibration], None] | None = None,
) -> Calibration:
    """Run the chunks that `start` does not hold yet, and collect. `process_output` adds the output matrix.

    `after_chunk` gets the state after each chunk; continuing from any of these gives the result of a run in one
    go, bit for bit. Raises EngineError.
    """
    from edgellm.backends.llama import observe
    from edgellm.backends.llama import session as llamacpp
    from edgellm.calibration.collector import Collector

    state = start or Calibration()
    collector = Collector(state.sums, process_output=process_output)
    observer = observe.Observer(collector.wants, collector.add)
    with llamacpp.LlamaCppSession(artifact, engine, observer) as session:
        for index in range(state.n_chunks, len(chunks)):
            log_probs: list[float] = []
            for block in blocks(session, chunks[index], index):
                log_probs += target_log_probs(block).tolist()
            state = Calibration(
                dict(collector.sums),
                index + 1,
                state.n_scored + len(log_probs),
                state.nll_sum - math.fsum(log_probs),
                state.nll_squares + math.fsum(p * p for p in log_probs),
            )
            if after_chunk:
                after_chunk(state)
    return state
