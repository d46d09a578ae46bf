"""Attention heads as ONNX Runtime takes them: padded with zeros to a multiple of 16 values where a model's are not.

Zeros in Q and K add nothing to a score, zeros in V meet columns of zeros in the output projection, so the padded
model computes the same. Rotary embedding turns the first `n_rotary` values of a head and pairs value i of them with
value i + n_rotary / 2, so each of the two halves gets its own padding, and what is not turned a third.
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

#: GroupQueryAttention with rotary embedding: heads, and what is turned of them (group_query_attention_helper.h).
MULTIPLE = 16


@dataclass(frozen=True)
class HeadLayout:
    """Where the values of a head lie in the engine's, wider one."""

    head_dim: int
    n_rotary: int  # leading values that are turned; all of them in most families

    @property
    def turned(self) -> int:
        """Values that the engine turns."""
        return _padded(self.n_rotary)

    @property
    def width(self) -> int:
        """Values of a head in the engine."""
        return _padded(self.turned + self.head_dim - self.n_rotary)

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

        heads = values.reshape(*values.shape[:-1], -1, self.head_dim)
        out = np.zeros((*heads.shape[:-1], self.width), dtype=np.float32)
        half, turned = self.n_rotary // 2, self.turned
        out[..., :half] = heads[..., :half]
        out[..., turned // 2 : turned // 2 + half] = heads[..., half : self.n_rotary]
        out[..., turned : turned + self.head_dim - self.n_rotary] = heads[..., self.n_rotary :]
        return out.reshape(*values.shape[:-1], -1)


def _padded(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE


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
