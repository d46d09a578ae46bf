"""How a conversion's work is cut into blocks of rows, so that its buffers fit in a given memory.

Knows sizes only; what happens to a block is stream.py's part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgellm.convert.gguf.plan import PlannedTensor
from edgellm.convert.gguf.sources import TensorSource
from edgellm.errors import UsageError

#: Weights in a block: small enough that a block stays in a core's cache, large enough that Python's part in it
#: (tens of microseconds) is lost in the fastest kernel's millisecond.
BLOCK_WEIGHTS = 1 << 19
MIN_BLOCK_WEIGHTS = 1 << 14

#: Beyond its buffers a thread costs a stack and an allocator arena, and the IQ kernels build tables of some MB.
BYTES_PER_THREAD = 1 << 20
BYTES_FIXED = 12 << 20


@dataclass(frozen=True)
class Target:
    """What one tensor becomes in one output, and the place its bytes go to."""

    plan: PlannedTensor
    fd: int  # of the output
    offset: int


@dataclass(frozen=True)
class Item:
    """One tensor to convert, into one output or several: it is read once."""

    source: TensorSource
    targets: tuple[Target, ...]

    def copies(self, target: Target) -> bool:
        """Whether the stored bytes are already the output's."""
        return self.source.storage == target.plan.type

    def buffer_bytes(self, block_weights: int) -> tuple[int, int, int]:
        """Bytes a block needs as stored, as float32 and encoded; 0 where it is not needed."""
        rows = self.rows_per_block(block_weights)
        n_weights = rows * self.source.row_size
        encoded = [target.plan.type.nbytes(n_weights) for target in self.targets if not self.copies(target)]
        widened = 4 * n_weights if encoded and self.source.storage.name != "F32" else 0
        return rows * self.source.row_bytes, widened, max(encoded, default=0)

    def rows_per_block(self, block_weights: int) -> int:
        """Rows of a block of about `block_weights`: at least one, at most all."""
        return min(max(1, block_weights // self.source.row_size), self.source.n_rows)


@dataclass(frozen=True)
class Buffers:
    """How many threads, how large their blocks, and the bytes each thread's three buffers take."""

    n_threads: int
    block_weights: int
    sizes: tuple[int, int, int]

    @property
    def total_bytes(self) -> int:
        """Memory all of it takes."""
        return BYTES_FIXED + self.n_threads * (sum(self.sizes) + BYTES_PER_THREAD)


def choose_buffers(
    items: Sequence[Item], n_threads: int, budget_bytes: int, spent_bytes: int, peak_bytes: int = 0
) -> Buffers:
    """The most threads, then the largest blocks, that fit in `budget_bytes` beside the `spent_bytes` in use.

    `peak_bytes` is what the process has already taken at its highest. Raises UsageError that says the least
    budget that would do.
    """
    least = _buffers(items, 1, MIN_BLOCK_WEIGHTS)
    for n in range(n_threads, 0, -1):
        block = BLOCK_WEIGHTS
        while block >= MIN_BLOCK_WEIGHTS:
            buffers = _buffers(items, n, block)
            if max(spent_bytes + buffers.total_bytes, peak_bytes) <= budget_bytes:
                return buffers
            block //= 2
    needed = -(-max(spent_bytes + least.total_bytes, peak_bytes) // (1 << 20)) + 1
    raise UsageError(
        f"--max-ram {budget_bytes >> 20}M is too little for this model; it needs at least {needed}M"
    )


def _buffers(items: Sequence[Item], n_threads: int, block_weights: int) -> Buffers:
    needs = [item.buffer_bytes(block_weights) for item in items]
    raw, widened, encoded = (max(need[i] for need in needs) for i in range(3))
    return Buffers(n_threads, block_weights, (raw, widened, encoded))


def cut(items: Sequence[Item], block_weights: int) -> Iterator[tuple[Item, int, int]]:
    """Blocks of whole rows in the order of the file; none crosses from one expert to the next."""
    for item in items:
        shape = item.source.info.shape
        group = shape[1] if len(shape) == 3 else item.source.n_rows
        step = min(item.rows_per_block(block_weights), group)
        for first in range(0, item.source.n_rows, group):
            for start in range(first, first + group, step):
                yield item, start, min(start + step, first + group)


def resident_bytes() -> tuple[int, int]:
    """Memory this process takes now and, where Linux tells, at its highest so far."""
    import psutil

    now = int(psutil.Process().memory_info().rss)
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:
        return now, now
    return now, int(fields["VmHWM"].split()[0]) * 1024
