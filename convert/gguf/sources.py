"""Where an output's tensors come from: rows of a checkpoint's shards, of GGUF files, or computed numbers.

A `TensorSource` gives the raw bytes of any rows of one output tensor, in the output's order: experts stacked,
heads reordered and values brought to what the model computes with on the way, without ever holding a whole
tensor. Knows nothing of quantization.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.convert.checkpoint.adapter import MergedTensor
from edgellm.convert.checkpoint.safetensors_file import ScoreTensor
from edgellm.convert.gguf.plan import ModelFacts, TensorInfo, is_quantizable
from edgellm.errors import CheckpointError, UsageError
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME, GgmlType
from edgellm.models.base import Stored, effective

if TYPE_CHECKING:
    from edgellm.convert.checkpoint.folder import Checkpoint, LazyTensor
    from edgellm.formats.gguf.header import GgufFile
    from edgellm.models.base import ModelSpec, Reorder, TensorSpec

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
    """One output tensor before quantization, seen as a matrix [n_rows, row_size]; a vector is one row."""

    info: TensorInfo
    storage: GgmlType  # how its rows lie in the files
    row_size: int
    extents: tuple[Extent, ...]
    row_order: Reorder | None = None
    column_order: Reorder | None = None

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
        self._reorder_columns(view)

    def _reorder_columns(self, view: memoryview) -> None:
        """Bring the values of rows, which are no blocks, into the output's order."""
        if self.column_order:
            import numpy as np

            rows = np.frombuffer(view, dtype=f"u{self.storage.nbytes(1)}").reshape(-1, self.row_size)
            rows[:] = rows[:, self.column_order(np.arange(self.row_size))]

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

    def column(self, column: int) -> int:
        """The source's column that output column `column` comes from."""
        return self.column_order.origin(column) if self.column_order else column

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Extent, int, int]]:
        """(extent, first row in it, rows) that make up output rows [start, stop), in order."""
        for first, n in self._runs(start, stop):
            yield from self._straight(first, first + n)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(source row, rows) that follow each other in output rows [start, stop) and in the source."""
        if self.row_order is None:
            yield start, stop - start
            return
        first = last = self.row_order.origin(start)
        for row in map(self.row_order.origin, range(start + 1, stop)):
            if row != last + 1:
                yield first, last + 1 - first
                first = row
            last = row
        yield first, last + 1 - first

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

    For tensors with an adapter merged in, for experts stored in several types, and where what is stored is not
    what the model computes with.
    """

    tensor: TensorSpec | None = None
    tensors: Mapping[str, LazyTensor] = field(repr=False, default_factory=dict)

    def read(self, start: int, stop: int, view: memoryview) -> None:
        """Fill `view` with output rows [start, stop) as float32. Raises CheckpointError."""
        import numpy as np

        assert self.tensor is not None
        rows, filled = np.frombuffer(view, dtype=np.float32).reshape(-1, self.row_size), 0
        for first, n in self._runs(start, stop):
            for span in self.tensor.spans(first, first + n):
                end = filled + span.stop - span.start
                self.tensors[span.name].rows(span.start, span.stop, rows[filled:end])
                filled = end
        rows[:] = effective(self.tensor.stored, rows)
        self._reorder_columns(view)

    def will_need(self, start: int, stop: int) -> None:
        """Nothing to ask for: several files may hold parts of a row."""

    def origin(self, row: int) -> tuple[str, int]:
        """The checkpoint's tensor, and the row of it, that output row `row` comes from."""
        assert self.tensor is not None
        source, _ = next(self._runs(row, row + 1))
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


def infos_of_spec(spec: ModelSpec, dtype: str = "BF16") -> tuple[TensorInfo, ...]:
    """What `from_checkpoint` gives of a checkpoint that holds `dtype`, without one."""
    stored = GGML_TYPES_BY_NAME[dtype]
    plain = [TensorInfo(t.gguf_name, t.shape, stored if t.sources else _F32) for t in spec.tensors]
    return tuple(info if is_quantizable(info) else replace(info, type=_F32) for info in plain)


def facts_of_spec(spec: ModelSpec) -> ModelFacts:
    """What recipes look at, from a checkpoint's numbers."""
    n_expert, n_used = (spec.moe.n_expert, spec.moe.n_expert_used) if spec.moe else (0, 0)
    n_block = spec.n_layer + spec.n_layer_nextn
    return ModelFacts(spec.architecture.name, n_block, spec.n_head, spec.n_head_kv, n_expert, n_used)


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
        number("expert_used_count", 0),
    )


def _checkpoint_tensor(checkpoint: Checkpoint, spec: ModelSpec, tensor: TensorSpec) -> TensorSource:
    if not tensor.sources:
        return _computed(spec, tensor)
    storage = GGML_TYPES_BY_NAME[checkpoint.tensors[tensor.sources[0].name].dtype]
    # Vectors, norms and routers stay in full precision, as llama.cpp's converter has them.
    plain = TensorInfo(tensor.gguf_name, tensor.shape, storage)
    info = plain if is_quantizable(plain) else TensorInfo(tensor.gguf_name, tensor.shape, _F32)
    orders = (tensor.row_order, tensor.column_order)
    if len(tensor.shape) == 1:
        orders = (None, tensor.row_order)
    stored = [checkpoint.tensors[source.name] for source in tensor.sources]
    wide = tensor.stored is not Stored.AS_IS
    if wide or any(
        isinstance(lazy, (MergedTensor, ScoreTensor)) or lazy.dtype != storage.name for lazy in stored
    ):
        return WideSource(info, _F32, tensor.row_size, (), *orders, tensor, checkpoint.tensors)
    extents = []
    for source, lazy in zip(tensor.sources, stored, strict=True):
        offset = lazy.offset + storage.nbytes(source.start * tensor.row_size)
        place = (lazy.shard.path, lazy.shard.fd, offset)
        extents.append(Extent(source.name, source.start, source.stop - source.start, *place))
    return TensorSource(info, storage, tensor.row_size, tuple(extents), *orders)


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
