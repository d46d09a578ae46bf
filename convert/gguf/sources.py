"""Where an output's tensors come from: rows of a checkpoint's shards, of GGUF files, or computed numbers.

A `TensorSource` gives the raw bytes of any rows of one output tensor, in the output's order: experts stacked
and Llama's Q and K rows interleaved on the way, without ever holding a whole tensor. Knows nothing of
quantization.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.convert.checkpoint.adapter import MergedTensor
from edgellm.convert.gguf.plan import ModelFacts, TensorInfo, is_quantizable
from edgellm.errors import CheckpointError, UsageError
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME, GgmlType

if TYPE_CHECKING:
    from edgellm.convert.checkpoint.folder import Checkpoint, LazyTensor
    from edgellm.formats.gguf.header import GgufFile
    from edgellm.models.base import ModelSpec, TensorSpec

_F32 = GGML_TYPES_BY_NAME["F32"]


@dataclass(frozen=True)
class Extent:
    """Rows that lie one after the other in one file, or in memory when `data` is given."""

    origin: str  # the tensor's own name where it comes from
    first_row: int  # of these rows in the tensor of that name
    n_rows: int
    path: Path
    fd: int
    offset: int  # bytes from the start of the file
    data: bytes | None = None

    def read(self, start: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `start` bytes into the extent on. Raises CheckpointError."""
        if self.data is not None:
            view[:] = self.data[start : start + len(view)]
            return
        position = self.offset + start
        while view:
            try:
                n = _read_into(self.fd, view, position)
            except OSError as error:
                raise CheckpointError(f"reading {self.path} failed: {error.strerror}") from error
            if n == 0:
                raise CheckpointError(f"{self.path} ended at byte {position}: another program is changing it")
            view, position = view[n:], position + n


@dataclass(frozen=True)
class TensorSource:
    """One output tensor before quantization, seen as a matrix [n_rows, row_size].

    A vector is one row; but where its heads are interleaved, each value is a row of its own.
    """

    info: TensorInfo
    storage: GgmlType  # how its rows lie in the files
    row_size: int
    extents: tuple[Extent, ...]
    head_rows: int | None = (
        None  # rows of a head, when rows r and r + head_rows/2 of each head become neighbours
    )

    @property
    def n_rows(self) -> int:
        """Rows, all axes but the last flattened."""
        return self.info.n_weights // self.row_size

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as stored."""
        return self.storage.nbytes(self.row_size)

    @cached_property
    def _starts(self) -> list[int]:
        starts, total = [], 0
        for extent in self.extents:
            starts.append(total)
            total += extent.n_rows
        return starts

    def read(self, start: int, stop: int, view: memoryview) -> None:
        """Fill `view` with the stored bytes of output rows [start, stop). Raises CheckpointError."""
        done = 0
        for extent, first, n in self._pieces(start, stop):
            n_bytes = n * self.row_bytes
            extent.read(first * self.row_bytes, view[done : done + n_bytes])
            done += n_bytes

    def will_need(self, start: int, stop: int) -> None:
        """Ask the operating system to read rows [start, stop) ahead. In-head order does not matter for that."""
        if not hasattr(os, "posix_fadvise"):
            return
        for extent, first, n in self._straight(start, stop):
            if extent.data is None:
                offset = extent.offset + first * self.row_bytes
                os.posix_fadvise(extent.fd, offset, n * self.row_bytes, os.POSIX_FADV_WILLNEED)

    def origin(self, row: int) -> tuple[str, int]:
        """The tensor in the source, and the row of it, that output row `row` comes from."""
        extent, first, _ = next(self._pieces(row, row + 1))
        return extent.origin, extent.first_row + first

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Extent, int, int]]:
        """(extent, first row in it, rows) that make up output rows [start, stop), in order."""
        if self.head_rows is None:
            yield from self._straight(start, stop)
            return
        for source in self._order(start, stop):
            yield from self._straight(source, source + 1)

    def _order(self, start: int, stop: int) -> Iterator[int]:
        """The source's row for each output row of [start, stop)."""
        if self.head_rows is None:
            yield from range(start, stop)
            return
        half = self.head_rows // 2
        for row in range(start, stop):
            head, place = divmod(row, self.head_rows)
            yield head * self.head_rows + (place % 2) * half + place // 2

    def _straight(self, start: int, stop: int) -> Iterator[tuple[Extent, int, int]]:
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            extent, first = self.extents[index], start - self._starts[index]
            n = min(stop - start, extent.n_rows - first)
            yield extent, first, n
            start, index = start + n, index + 1


@dataclass(frozen=True)
class WideSource(TensorSource):
    """A matrix whose rows no file holds as such: read as float32 through the checkpoint's tensors.

    For tensors with an adapter merged in, and for experts stored in several types.
    """

    tensor: TensorSpec | None = None
    tensors: Mapping[str, LazyTensor] = field(repr=False, default_factory=dict)

    def read(self, start: int, stop: int, view: memoryview) -> None:
        """Fill `view` with output rows [start, stop) as float32. Raises CheckpointError."""
        import numpy as np

        assert self.tensor is not None
        order = np.fromiter(self._order(start, stop), dtype=np.int64, count=stop - start)
        low, high = int(order.min()), int(order.max()) + 1  # within the heads that the rows are of
        rows, filled = np.empty((high - low, self.row_size), dtype=np.float32), 0
        for span in self.tensor.spans(low, high):
            n = span.stop - span.start
            self.tensors[span.name].rows(span.start, span.stop, rows[filled : filled + n])
            filled += n
        view[:] = rows[order - low].tobytes()

    def will_need(self, start: int, stop: int) -> None:
        """Nothing to ask for: several files may hold parts of a row."""

    def origin(self, row: int) -> tuple[str, int]:
        """The checkpoint's tensor, and the row of it, that output row `row` comes from."""
        assert self.tensor is not None
        source = next(self._order(row, row + 1))
        span = next(self.tensor.spans(source, source + 1))
        return self.tensors[span.name].name, span.start


def from_checkpoint(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[TensorSource, ...]:
    """The tensors of a Hugging Face checkpoint as a GGUF file of `spec`'s family has them."""
    return tuple(_checkpoint_tensor(checkpoint, spec, tensor) for tensor in spec.tensors)


def from_gguf(
    parts: Sequence[GgufFile], fds: Sequence[int], *, allow_requantize: bool
) -> tuple[TensorSource, ...]:
    """The tensors of a GGUF model of one or more files, open for reading as `fds`.

    Raises UsageError for a quantized tensor unless `allow_requantize`.
    """
    found: dict[str, TensorSource] = {}
    for part, fd in zip(parts, fds, strict=True):
        for tensor in part.tensors.values():
            if tensor.type.block_size > 1 and not allow_requantize:
                raise UsageError(
                    f"{part.path} is already quantized ({tensor.name} is {tensor.type.name}), and quantizing "
                    "again loses more; start from the original, or add --allow-requantize"
                )
            if tensor.name in found:
                raise CheckpointError(f"{part.path} has tensor {tensor.name} again; fetch its parts anew")
            info = TensorInfo(tensor.name, tensor.shape, tensor.type)
            n_rows = info.n_weights // tensor.shape[-1]
            extent = Extent(tensor.name, 0, n_rows, part.path, fd, tensor.offset)
            found[tensor.name] = TensorSource(info, tensor.type, tensor.shape[-1], (extent,))
    return tuple(found.values())


def facts_of_spec(spec: ModelSpec) -> ModelFacts:
    """What recipes look at, from a checkpoint's numbers."""
    n_expert = spec.moe.n_expert if spec.moe else 0
    return ModelFacts(spec.architecture.name, spec.n_layer, spec.n_head, spec.n_head_kv, n_expert)


def facts_of_metadata(metadata: Mapping[str, object], path: Path) -> ModelFacts:
    """What recipes look at, from a GGUF file's keys. Raises UsageError for a family edgellm does not know."""
    from edgellm.models.registry import architectures

    name = str(metadata.get("general.architecture", ""))
    known = [family.name for family in architectures()]
    if name not in known:
        raise UsageError(f"{path} is a {name or 'nameless'} model; only {', '.join(known)} can be quantized")

    def number(key: str, default: int | None = None) -> int:
        value = metadata.get(f"{name}.{key}", default)
        if not isinstance(value, int) or value < 0:
            raise UsageError(
                f"{path}: {name}.{key} is {value!r}, not a whole number; convert the model again"
            )
        return value

    n_head = number("attention.head_count")
    return ModelFacts(
        name,
        number("block_count"),
        n_head,
        number("attention.head_count_kv", n_head),
        number("expert_count", 0),
    )


def _checkpoint_tensor(checkpoint: Checkpoint, spec: ModelSpec, tensor: TensorSpec) -> TensorSource:
    if not tensor.sources:
        return _computed(spec, tensor)
    storage = GGML_TYPES_BY_NAME[checkpoint.tensors[tensor.sources[0].name].dtype]
    # Vectors, norms and routers stay in full precision, as llama.cpp's converter has them.
    plain = TensorInfo(tensor.gguf_name, tensor.shape, storage)
    info = plain if is_quantizable(plain) else TensorInfo(tensor.gguf_name, tensor.shape, _F32)
    is_vector = len(tensor.shape) == 1
    interleaved = tensor.permute_heads is not None
    row_size = 1 if is_vector and interleaved else tensor.row_size
    heads = tensor.permute_heads
    head_rows = info.n_weights // row_size // heads if heads else None
    stored = [checkpoint.tensors[source.name] for source in tensor.sources]
    if any(isinstance(lazy, MergedTensor) or lazy.dtype != storage.name for lazy in stored):
        return WideSource(info, _F32, row_size, (), head_rows, tensor, checkpoint.tensors)
    extents = []
    for source, lazy in zip(tensor.sources, stored, strict=True):
        n_rows = (source.stop - source.start) * (tensor.row_size // row_size)
        offset = lazy.offset + storage.nbytes(source.start * tensor.row_size)
        extents.append(Extent(source.name, source.start, n_rows, lazy.shard.path, lazy.shard.fd, offset))
    return TensorSource(info, storage, row_size, tuple(extents), head_rows)


def _computed(spec: ModelSpec, tensor: TensorSpec) -> TensorSource:
    """The one tensor no checkpoint has: by how much llama3 scaling divides each rotary frequency."""
    from edgellm.models.rope import llama3_divisors

    data = llama3_divisors(spec).astype("<f4").tobytes()
    info = TensorInfo(tensor.gguf_name, tensor.shape, _F32)
    extent = Extent(tensor.gguf_name, 0, 1, Path(), -1, 0, data)
    return TensorSource(info, _F32, tensor.shape[-1], (extent,))


def _read_into(fd: int, view: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], position)
    data = os.pread(fd, len(view), position)
    view[: len(data)] = data
    return len(data)
