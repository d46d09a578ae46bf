"""Writes the external data: rows are read, encoded and written in blocks by a few threads, in any order.

Memory is a few blocks per thread, whatever the model. Knows jobs and regions; nothing of graphs.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.convert.onnx.graph import Region
from edgellm.convert.onnx.rows import RowSource, Tensors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]
    Array = npt.NDArray[Any]

    #: Turns rows into one array for each of a job's regions, its rows being theirs.
    Encoder = Callable[[Float32s], Sequence[Array]]

BLOCK_WEIGHTS = 1 << 18  # float32 that stay in a core's cache together with what is made of them

Report = Callable[[int, int, float], None]  # weights done, of all, seconds


@dataclass(frozen=True)
class Job:
    """One matrix, or a stack of them, to encode into its regions."""

    source: RowSource
    encode: Encoder
    regions: tuple[Region, ...]
    rows_together: int = 1  # rows that must be encoded at once: an expert's, or all of a transposed matrix

    @property
    def n_weights(self) -> int:
        """Values to read."""
        return self.source.n_rows * self.source.row_size

    @property
    def nbytes(self) -> int:
        """Bytes it will write."""
        return sum(region.nbytes for region in self.regions)


def write(
    path: Path,
    nbytes: int,
    jobs: Sequence[Job],
    tensors: Tensors,
    n_threads: int,
    report: Report | None = None,
) -> None:
    """Write a data file of `nbytes`. Raises CheckpointError for weights that cannot be read, OSError."""
    started, done, total = time.monotonic(), 0, sum(job.n_weights for job in jobs)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.truncate(descriptor, nbytes)
        with ThreadPoolExecutor(n_threads) as pool:
            pending: deque[Future[int]] = deque()
            try:
                for block in _blocks(jobs):
                    pending.append(pool.submit(_convert, descriptor, tensors, *block))
                    if len(pending) > 2 * n_threads:  # bounds memory
                        done += pending.popleft().result()
                        if report:
                            report(done, total, time.monotonic() - started)
                while pending:
                    done += pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
        if report:
            report(done, total, time.monotonic() - started)
    finally:
        os.close(descriptor)


def write_array(path: Path, region: Region, value: Array) -> None:
    """Write one tensor that was computed, not read."""
    assert value.nbytes == region.nbytes, region
    descriptor = os.open(path, os.O_WRONLY)
    try:
        _write_at(descriptor, value, region.offset)
    finally:
        os.close(descriptor)


def _blocks(jobs: Sequence[Job]) -> Iterator[tuple[Job, int, int]]:
    for job in jobs:
        together = job.rows_together
        step = max(BLOCK_WEIGHTS // job.source.row_size // together, 1) * together
        for start in range(0, job.source.n_rows, step):
            yield job, start, min(start + step, job.source.n_rows)


def _convert(descriptor: int, tensors: Tensors, job: Job, start: int, stop: int) -> int:
    rows = job.source.read(tensors, start, stop)
    for region, array in zip(job.regions, job.encode(rows), strict=True):
        row_bytes = region.nbytes // job.source.n_rows
        assert array.nbytes == row_bytes * (stop - start), region
        _write_at(descriptor, array, region.offset + start * row_bytes)
    return rows.size


def _write_at(descriptor: int, value: Array, offset: int) -> None:
    import numpy as np

    view = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    while view:
        n = os.pwrite(descriptor, view, offset)
        view, offset = view[n:], offset + n
