"""Attention heads as ONNX Runtime takes them: padded with zeros to a multiple of 16 values where a model's are not.

Zeros in Q and K add nothing to a score, zeros in V meet columns of zeros in the output projection, so the padded
model computes the same. Rotary embedding pairs value i with value i + half, so each half gets its own padding.
Knows rows and columns, nothing of graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.convert.onnx.rows import RowSource, Tensors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

MULTIPLE = 16  # GroupQueryAttention with rotary embedding, group_query_attention_helper.h


@dataclass(frozen=True)
class HeadLayout:
    """Where the values of a head lie in the engine's, wider one."""

    head_dim: int

    @property
    def width(self) -> int:
        """Values of a head in the engine."""
        return -(-self.head_dim // MULTIPLE) * MULTIPLE

    @property
    def is_padded(self) -> bool:
        """Whether the engine's heads are wider."""
        return self.width != self.head_dim

    def rows(self, source: RowSource) -> RowSource:
        """Q, K or V with rows of zeros between the heads."""
        return _PaddedRows(source, self) if self.is_padded else source

    def columns(self, source: RowSource, factor: float = 1.0) -> RowSource:
        """An output projection, a bias or a norm with columns of zeros; what is not zero times `factor`."""
        return _PaddedColumns(source, self, factor) if self.is_padded else source

    def spread(self, values: Float32s) -> Float32s:
        """[.., n_heads * head_dim] to [.., n_heads * width]."""
        import numpy as np

        halves = values.reshape(*values.shape[:-1], -1, 2, self.head_dim // 2)
        out = np.zeros((*halves.shape[:-1], self.width // 2), dtype=np.float32)
        out[..., : self.head_dim // 2] = halves
        return out.reshape(*values.shape[:-1], -1)


@dataclass(frozen=True)
class _PaddedRows:
    inner: RowSource
    layout: HeadLayout

    @property
    def n_rows(self) -> int:
        return self.inner.n_rows // self.layout.head_dim * self.layout.width

    @property
    def row_size(self) -> int:
        return self.inner.row_size

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        import numpy as np

        width, head_dim = self.layout.width, self.layout.head_dim
        first, last = start // width, -(-stop // width)  # whole heads
        rows = self.inner.read(tensors, first * head_dim, last * head_dim)
        wide = self.layout.spread(rows.T).T
        return np.ascontiguousarray(wide[start - first * width : stop - first * width])


@dataclass(frozen=True)
class _PaddedColumns:
    inner: RowSource
    layout: HeadLayout
    factor: float

    @property
    def n_rows(self) -> int:
        return self.inner.n_rows

    @property
    def row_size(self) -> int:
        return self.inner.row_size // self.layout.head_dim * self.layout.width

    def read(self, tensors: Tensors, start: int, stop: int) -> Float32s:
        import numpy as np

        return self.layout.spread(self.inner.read(tensors, start, stop) * np.float32(self.factor))
