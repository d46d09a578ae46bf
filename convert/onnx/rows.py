"""Where the rows of an ONNX matrix come from: checkpoint tensors stacked, interleaved or padded, as float32.

Knows how targets are put together (packed QKV, an expert's gate and up rows interleaved), nothing of encodings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgellm.convert.checkpoint.finite import check_finite
from edgellm.convert.checkpoint.folder import LazyTensor
from edgellm.models.base import Stored, TensorSpec, effective

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

Tensors = Mapping[str, LazyTensor]


class RowSource(Protocol):
    """A matrix that can be read by the row."""

    @property
    def n_rows(self) -> int:
        """Rows of the matrix."""
        ...

    @property
    def row_size(self) -> int:
        """Values in a row."""
        ...

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        """Rows [start, stop) as float32 [stop - start, row_size]. Raises CheckpointError for NaN, infinity."""
        ...


@dataclass(frozen=True)
class Stacked:
    """The rows of several tensors, one below the other."""

    parts: tuple[TensorSpec, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all parts."""
        return sum(part.n_rows for part in self.parts)

    @property
    def row_size(self) -> int:
        """Values in a row, the same in all parts."""
        return self.parts[0].row_size

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        """Rows [start, stop)."""
        import numpy as np

        out = np.empty((stop - start, self.row_size), dtype=np.float32)
        first = filled = 0
        for part in self.parts:
            low, high = max(start - first, 0), min(stop - first, part.n_rows)
            if low < high:
                _read(part, tensors, low, high, out[filled : filled + high - low])
                filled += high - low
            first += part.n_rows
        return out


@dataclass(frozen=True)
class Joined:
    """One row: several vectors one after the other."""

    parts: tuple[TensorSpec, ...]
    n_rows: int = 1

    @property
    def row_size(self) -> int:
        """Values of all parts."""
        return sum(part.row_size for part in self.parts)

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        """The row [1, row_size]."""
        import numpy as np

        found = [np.empty((1, part.row_size), dtype=np.float32) for part in self.parts]
        for part, values in zip(self.parts, found, strict=True):
            _read(part, tensors, 0, 1, values)
        return np.concatenate(found, axis=1)


@dataclass(frozen=True)
class Rearranged:
    """A matrix whose rows, in blocks of `height`, stand in another order: block i is `order[i]` of the inner one."""

    inner: RowSource
    height: int
    order: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all blocks."""
        return self.inner.n_rows

    @property
    def row_size(self) -> int:
        """Values in a row."""
        return self.inner.row_size

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        """Rows [start, stop)."""
        import numpy as np

        parts = []
        while start < stop:
            block, inside = divmod(start, self.height)
            n = min(stop - start, self.height - inside)
            first = self.order[block] * self.height + inside
            parts.append(self.inner.read(tensors, first, first + n))
            start += n
        return np.concatenate(parts)


@dataclass(frozen=True)
class ExpertRows:
    """One layer's experts' rows [n_expert * n_rows_each], each expert's padded with zeros to fit blocks.

    With `up`, row 2r of an expert is its gate's row r and row 2r + 1 its up projection's: the interleaving
    that QMoE calls swiglu_fusion 1. Zero rows of gate and up against zero columns of down change nothing.
    """

    tensor: TensorSpec  # [n_expert, out, in]
    up: TensorSpec | None
    n_out: int  # rows of an expert in the target, before interleaving; at least the tensor's
    n_in: int  # values in a row of the target; at least the tensor's

    @property
    def n_rows(self) -> int:
        """Rows of all experts."""
        return self.tensor.shape[0] * self.rows_each

    @property
    def rows_each(self) -> int:
        """Rows of one expert."""
        return self.n_out * (2 if self.up else 1)

    @property
    def row_size(self) -> int:
        """Values in a row."""
        return self.n_in

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        """Rows [start, stop); they must lie in whole experts."""
        import numpy as np

        first, last = start // self.rows_each, stop // self.rows_each
        _, n_rows, n_columns = self.tensor.shape
        parts = [part for part in (self.tensor, self.up) if part is not None]
        out = np.zeros((last - first, self.n_out, len(parts), self.n_in), dtype=np.float32)
        for expert in range(first, last):
            for i, part in enumerate(parts):
                rows = np.empty((n_rows, n_columns), dtype=np.float32)
                _read(part, tensors, expert * n_rows, (expert + 1) * n_rows, rows)
                out[expert - first, :n_rows, i, :n_columns] = rows
        return out.reshape(stop - start, self.n_in)


def _read(part: TensorSpec, tensors: Tensors, start: int, stop: int, out: Float32s) -> None:
    filled = 0
    for span in part.spans(start, stop):
        n = span.stop - span.start
        rows = out[filled : filled + n]
        tensors[span.name].rows(span.start, span.stop, rows)
        check_finite(span.name, rows, span.start)
        if part.stored is not Stored.AS_IS:
            rows[...] = effective(part.stored, rows)
            check_finite(span.name, rows, span.start)
        filled += n
