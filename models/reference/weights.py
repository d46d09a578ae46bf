"""A model's weights as the oracle reads them: streamed in blocks of rows, through the operations that touch them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgellm.models.base import ModelSpec, Role, TensorSpec, effective
from edgellm.models.reference.numerics import rms_norm

Float32s = npt.NDArray[np.float32]

BLOCK_BYTES = 16 << 20  # of float32 weights held at a time


class Rows(Protocol):
    """A tensor seen as a matrix: all axes but the last flattened; one-dimensional is one row."""

    def rows(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop) as float32 [stop - start, row_size]."""
        ...


#: Sees every matrix product's inputs [n, in]: role and layer of the matrix, the expert in it, the inputs. It may
#: change them in place, to see what rounding them does.
Watch = Callable[[Role, "int | None", "int | None", Float32s], None]

#: Sees what a KV cache would hold of a layer: the layer, keys, rotated, and values [n_tokens, n_head_kv, head_dim].
Cached = Callable[[int, Float32s, Float32s], None]


class Weights:
    """Streams one model's weights through the few operations that touch them."""

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, Rows],
        block_bytes: int,
        watch: Watch | None,
        cached: Cached | None,
    ) -> None:
        self.spec = spec
        self.tensors = tensors
        self.block_bytes = block_bytes
        self.watch = watch
        self.cached = cached

    def need(self, role: Role, layer: int | None, suffix: str = "weight") -> TensorSpec:
        """The tensor with this role. Raises KeyError."""
        tensor = self.spec.tensor(role, layer, suffix)
        if tensor is None:
            raise KeyError(f"the model has no {role.value} {suffix}")
        return tensor

    def vector(self, role: Role, layer: int | None, suffix: str = "weight") -> Float32s:
        """A one-dimensional tensor."""
        tensor = self.need(role, layer, suffix)
        (source,) = tensor.sources
        row: Float32s = effective(tensor.stored, self.tensors[source.name].rows(0, 1)[0])
        return row

    def matrix(self, role: Role, layer: int) -> Float32s:
        """The whole of a small matrix."""
        tensor = self.need(role, layer)
        return np.concatenate([block for _, block in self._blocks(tensor, 0, tensor.n_rows)])

    def norm(self, role: Role, layer: int | None, x: Float32s) -> Float32s:
        """x [n, n] normalized and weighed by the vector of this role."""
        return rms_norm(x, self.vector(role, layer), self.spec.rms_eps)

    def rows_of(self, role: Role, indices: Sequence[int]) -> Float32s:
        """Single rows of a matrix, [len(indices), row_size]."""
        (source,) = self.need(role, None).sources
        return np.concatenate([self.tensors[source.name].rows(i, i + 1) for i in indices])

    def linear(
        self, x: Float32s, role: Role, layer: int | None = None, expert: int | None = None
    ) -> Float32s:
        """x [n, in] times the transposed weight [out, in] (of one expert), plus the bias if there is one."""
        tensor = self.need(role, layer)
        if self.watch:
            self.watch(role, layer, expert, x)
        n_out = tensor.shape[-2]
        first = 0 if expert is None else expert * n_out
        out = np.empty((len(x), n_out), dtype=np.float32)
        for at, block in self._blocks(tensor, first, first + n_out):
            np.matmul(x, block.T, out=out[:, at : at + len(block)])
        if self.spec.tensor(role, layer, "bias") is not None:
            out += self.vector(role, layer, "bias")
        return out

    def _blocks(self, tensor: TensorSpec, start: int, stop: int) -> Iterator[tuple[int, Float32s]]:
        """Rows [start, stop) in blocks, each with its distance from `start`."""
        step = max(1, self.block_bytes // (4 * tensor.row_size))
        at = 0
        for span in tensor.spans(start, stop):
            rows = self.tensors[span.name].rows
            for first in range(span.start, span.stop, step):
                last = min(first + step, span.stop)
                yield at, rows(first, last)
                at += last - first
