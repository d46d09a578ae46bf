"""The conversion loop: rows are read, quantized and written in blocks by a few threads with buffers of their own.

Every block's place in the output is known beforehand, so no thread waits for another, nothing is queued, and
memory is the buffers and no more. The kernels and the reads and writes release the GIL. Knows where tensors
come from (sources.py), what they become (plan.py) and where they go; nothing of headers or models.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.convert.checkpoint import finite
from edgellm.convert.gguf import ggml
from edgellm.convert.gguf.blocks import Buffers, Item, cut
from edgellm.convert.gguf.plan import PlannedTensor
from edgellm.convert.gguf.sources import TensorSource
from edgellm.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.gguf.imatrix import Imatrix

    Bytes = npt.NDArray[np.uint8]

_FLUSH_BYTES = 64 << 20  # start writing back after so much: the final fsync then has little left to do
_LOOK_AHEAD = 16  # blocks the operating system is told of before they are read
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    phase: str  # "quantize" | "flush" | "hash" | "verify"
    weights_done: int
    weights_total: int
    seconds: float

    @property
    def weights_per_second(self) -> float:
        """Throughput so far."""
        return self.weights_done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the phase at the present pace, None before there is one."""
        pace = self.weights_per_second
        return (self.weights_total - self.weights_done) / pace if pace else None


def run(
    items: Sequence[Item],
    buffers: Buffers,
    imatrix: Imatrix | None,
    report: Callable[[Progress], None] | None = None,
) -> None:
    """Convert every item into its place. Raises CheckpointError for NaN or infinity, OSError from writing."""
    state = _State(items, buffers.block_weights)
    total, started = sum(item.source.info.n_weights for item in items), time.monotonic()

    def tell() -> None:
        if report:
            report(Progress("quantize", state.weights, total, time.monotonic() - started))

    fds = sorted({target.fd for item in items for target in item.targets})
    with ThreadPoolExecutor(buffers.n_threads + 1) as pool, state.stopping():
        flusher = pool.submit(state.flush, fds)
        workers = [pool.submit(_Worker(state, buffers, imatrix).run) for _ in range(buffers.n_threads)]
        pending = {*workers}
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            tell()
        state.stop.set()
        flusher.result()


class _State:
    """What the threads share: the blocks still to do, and counters."""

    def __init__(self, items: Sequence[Item], block_weights: int) -> None:
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.weights = 0
        self.bytes = 0
        self._blocks = cut(items, block_weights)
        self._ahead: deque[tuple[Item, int, int]] = deque()

    def next(self) -> tuple[Item, int, int] | None:
        """The next block (item, first row, row after the last); None when there is none or all must stop."""
        with self.lock:
            while len(self._ahead) <= _LOOK_AHEAD and (block := next(self._blocks, None)):
                item, start, stop = block
                item.source.will_need(start, stop)
                self._ahead.append(block)
            return self._ahead.popleft() if self._ahead and not self.stop.is_set() else None

    def count(self, n_weights: int, n_bytes: int) -> None:
        with self.lock:
            self.weights += n_weights
            self.bytes += n_bytes

    def flush(self, fds: Sequence[int]) -> None:
        """Write back as we go: left to itself, the system would start when the conversion is over."""
        flushed = 0
        while not self.stop.wait(_POLL_SECONDS):
            if self.bytes - flushed >= _FLUSH_BYTES:
                flushed = self.bytes
                for fd in fds:
                    os.fsync(fd)

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """On an error or an interrupt, let the threads end after the block they are at."""
        try:
            yield
        finally:
            self.stop.set()


class _Worker:
    """One thread's buffers and its loop."""

    def __init__(self, state: _State, buffers: Buffers, imatrix: Imatrix | None) -> None:
        import numpy as np

        self.state, self.imatrix = state, imatrix
        self.raw, self.wide, self.encoded = (np.empty(size, dtype=np.uint8) for size in buffers.sizes)
        self.raw_at, self.wide_at, self.encoded_at = (
            array.ctypes.data for array in (self.raw, self.wide, self.encoded)
        )
        self._weights_of: tuple[str, int] | None = None
        self._weights: Any = None

    def run(self) -> None:
        while (block := self.state.next()) is not None:
            self.convert(*block)

    def convert(self, item: Item, start: int, stop: int) -> None:
        """Read and check rows [start, stop); encode and write them for each output."""
        source = item.source
        n_rows, n_weights = stop - start, (stop - start) * source.row_size
        raw = self.raw[: n_rows * source.row_bytes]
        source.read(start, stop, raw.data)
        check_finite(source, start, raw)
        floats = self.raw_at
        if source.storage.name != "F32" and not all(map(item.copies, item.targets)):
            floats = self.wide_at
            ggml.dequantizer(source.storage)(self.raw_at, floats, n_weights)
        n_bytes = 0
        for target in item.targets:
            out = raw if item.copies(target) else self.encode(source, target.plan, floats, start, n_rows)
            _write(target.fd, out.data, target.offset + target.plan.type.nbytes(start * source.row_size))
            n_bytes += out.nbytes
        self.state.count(n_weights, n_bytes)

    def encode(
        self, source: TensorSource, plan: PlannedTensor, floats: int, start: int, n_rows: int
    ) -> Bytes:
        """Rows that lie at `floats` as `plan` has them."""
        weights = self.columns(source, start).ctypes.data if plan.uses_imatrix else None
        ggml.quantize(plan.type, floats, self.encoded_at, n_rows, source.row_size, weights)
        out = self.encoded[: plan.type.nbytes(n_rows * source.row_size)]
        self.check_encoded(plan, out)
        return out

    def columns(self, source: TensorSource, start: int) -> Any:
        """The importance of each column, for the expert that row `start` belongs to."""
        assert self.imatrix is not None
        name, shape = source.info.name, source.info.shape
        expert = start // shape[1] if len(shape) == 3 else 0
        if self._weights_of != (name, expert):
            n = shape[-1]
            self._weights = self.imatrix.weights(name, expert * n, n)
            self._weights_of = (name, expert)
        return self._weights

    def check_encoded(self, plan: PlannedTensor, out: Bytes) -> None:
        """Refuse what finite weights can still become: beyond the range of the type or of its scales."""
        type_ = plan.type
        overflows = (
            finite.first_not_finite(out.view(finite.DTYPES[type_.name])[None]) is not None
            if type_.block_size == 1
            else not ggml.is_valid(type_, self.encoded_at, out.nbytes)
        )
        if overflows:
            raise CheckpointError(
                f"tensor {plan.name} has values too large for {type_.name}: choose BF16 or F32 for it"
            )


def check_finite(source: TensorSource, start: int, raw: Bytes) -> None:
    """Raise CheckpointError naming the tensor when stored rows, from `start` on, hold a NaN or an infinity."""
    if source.storage.block_size > 1:
        if not ggml.is_valid(source.storage, raw.ctypes.data, raw.nbytes):
            raise CheckpointError(f"tensor {source.info.name} holds NaN or infinity: the file is damaged")
    elif source.storage.name in finite.DTYPES:
        rows = raw.view(finite.DTYPES[source.storage.name]).reshape(-1, source.row_size)
        if (place := finite.first_not_finite(rows)) is not None:
            name, row = source.origin(start + place[0])
            raise finite.damaged(name, row, source.column(place[1]))


def _write(fd: int, view: memoryview, offset: int) -> None:
    while view:
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n
