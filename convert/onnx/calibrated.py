"""Writes matrices that are rounded for their inputs: the oracle runs a text, and as it comes to each, that is encoded.

So nothing of the text but the inputs at hand is kept, and the checkpoint is read once more. Knows no graph.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.convert.onnx import stream
from edgellm.convert.onnx.stream import Job, Report
from edgellm.models.base import ModelSpec, Role

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.onnx.rows import Tensors

    Float32s = npt.NDArray[np.float32]

#: Of calibration: with twice as many the divergence of a 0.5B model is no smaller than its error (docs/onnx.md).
N_TOKENS = 1024


class _Enough(Exception):
    """The last matrix was written."""


def write(
    path: Path,
    jobs: Sequence[Job],
    spec: ModelSpec,
    tensors: Tensors,
    tokens: Sequence[int],
    report: Report | None = None,
) -> None:
    """Write those of `jobs` that want inputs into the data file. Raises CheckpointError, OSError."""
    from edgellm.models import reference

    waiting = {(job.seen.role, job.seen.layer): job for job in jobs if job.seen is not None}
    started, done, total = time.monotonic(), 0, sum(job.n_weights for job in waiting.values())
    descriptor = os.open(path, os.O_WRONLY)

    def see(role: Role, layer: int | None, expert: int | None, inputs: Float32s) -> None:
        nonlocal done
        if layer is None or expert is not None or (job := waiting.pop((role.value, layer), None)) is None:
            return
        done += stream.write_whole(descriptor, tensors, job, inputs)
        if report:
            report(done, total, time.monotonic() - started)
        if not waiting:
            raise _Enough

    try:
        with contextlib.suppress(_Enough):
            reference.logits(spec, tensors, tokens, watch=see)
        for job in waiting.values():  # the oracle knows it under no such name
            stream.write_whole(descriptor, tensors, job, None)
    finally:
        os.close(descriptor)
