"""The safetensors format: a header read with the official library's rules, tensors read by the row.

The format (https://github.com/huggingface/safetensors): eight bytes of little-endian header length, a JSON
header naming each tensor's dtype, shape and byte range, then the data. The rules are those of
`SafeTensors::read_metadata` in the library's `tensor.rs`: whatever it rejects is rejected here, and so are
duplicate keys and headers far larger than any model's. Reads go through `pread`, not a memory map, so that
the process does not grow with the file. Knows nothing of models.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

#: The library allows 100 MB; 12 MiB is some 90,000 tensors, and keeps what parsing can cost under 500 MB.
MAX_HEADER_BYTES = 12 << 20

#: Bits per value of every dtype the library knows.
DTYPE_BITS: dict[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}

#: The dtypes weights are read from, as numpy holds them: bf16 is carried as its 16 bits.
NUMPY_DTYPES: dict[str, str] = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}

_U64_MAX = (1 << 64) - 1
_ENTRY = {"dtype", "shape", "data_offsets"}
_NESTED = (dict, str, type(None))  # what the header and its metadata may hold, entries aside
_CHUNK_BYTES = 1 << 20  # read and widened at a time: stays in the cache


@dataclass(frozen=True)
class Shard:
    """One safetensors file, open for reading at any place by any thread."""

    path: Path
    fd: int

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Open a regular file. Raises CheckpointError when it cannot be opened or is something else."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: never hang on a named pipe
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise CheckpointError(f"{path} is not a regular file: put the checkpoint's own file there")
        return cls(path, fd)

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        os.close(self.fd)

    def chunks(self, offset: int, nbytes: int) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces of up to 1 MiB and, but for the last, a multiple of 4 bytes.

        Raises CheckpointError when the file ends or fails before.
        """
        stop = offset + nbytes
        while offset < stop:
            want = min(_CHUNK_BYTES, stop - offset)
            try:
                chunk = os.pread(self.fd, want, offset)
            except OSError as error:
                raise CheckpointError(f"reading {self.path} failed: {error.strerror}") from error
            if len(chunk) < want:  # a network file system may give less than asked for
                chunk = chunk[: len(chunk) & ~3]
            if not chunk:
                raise CheckpointError(f"{self.path} ended at byte {offset}: another program is changing it")
            yield chunk
            offset += len(chunk)

    def read(self, offset: int, nbytes: int) -> bytes:
        """The bytes from `offset` on. Raises CheckpointError when the file ends or fails before."""
        return b"".join(self.chunks(offset, nbytes))


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a shard, seen as a matrix: all axes but the last flattened; one-dimensional is one row."""

    name: str
    dtype: str  # safetensors' name: BF16, F16, F32
    shape: tuple[int, ...]
    shard: Shard
    offset: int  # of its first byte in the file
    nbytes: int

    @property
    def row_size(self) -> int:
        """Values in a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def n_rows(self) -> int:
        """Rows, all axes but the last flattened."""
        return prod(self.shape[:-1])

    def rows(self, start: int, stop: int, out: Float32s | None = None) -> Float32s:
        """Rows [start, stop) as float32 [stop - start, row_size]: exact for all three dtypes.

        With `out`, a contiguous array of that shape, they are written there: a fresh array's page faults
        cost twice the reading, so whoever streams should keep one.
        """
        import numpy as np

        self._check_range(start, stop)
        shape = (stop - start, self.row_size)
        out = np.empty(shape, dtype=np.float32) if out is None else out
        if out.shape != shape or not out.flags.c_contiguous:
            raise ValueError(
                f"rows {start} to {stop} of {self.name} need a contiguous array of shape {shape}"
            )
        flat, filled = out.reshape(-1), 0
        for values in self._values(start, stop):
            _to_float32(values, flat[filled : filled + values.size])
            filled += values.size
        return out

    def raw(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows [start, stop) as stored: float32, float16, or uint16 holding the bits of bf16."""
        import numpy as np

        self._check_range(start, stop)
        out = np.empty((stop - start, self.row_size), dtype=NUMPY_DTYPES[self.dtype])
        flat, filled = out.reshape(-1), 0
        for values in self._values(start, stop):
            flat[filled : filled + values.size] = values
            filled += values.size
        return out

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.n_rows:
            raise IndexError(f"rows {start} to {stop} of {self.name}, which has {self.n_rows}")

    def _values(self, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """The values of rows [start, stop) as stored, piece by piece."""
        import numpy as np

        row_bytes = self.row_size * DTYPE_BITS[self.dtype] // 8
        for chunk in self.shard.chunks(self.offset + start * row_bytes, (stop - start) * row_bytes):
            yield np.frombuffer(chunk, dtype=NUMPY_DTYPES[self.dtype])


@dataclass(frozen=True)
class ScoreTensor(LazyTensor):
    """The one row of a head that scores, and a row of zeros below it."""

    row: LazyTensor

    @classmethod
    def of(cls, row: LazyTensor) -> ScoreTensor:
        """`row` is a matrix [1, n]; what is made of it is [2, n]."""
        return cls(row.name, row.dtype, (2, row.row_size), row.shard, row.offset, row.nbytes, row)

    def rows(self, start: int, stop: int, out: Float32s | None = None) -> Float32s:
        """Rows [start, stop) as float32."""
        import numpy as np

        out = np.empty((stop - start, self.row_size), dtype=np.float32) if out is None else out
        out[:] = 0
        if start == 0 < stop:
            self.row.rows(0, 1, out[:1])
        return out

    def raw(self, start: int, stop: int) -> npt.NDArray[Any]:
        """There are none: no file holds the second row."""
        raise TypeError(f"{self.name} is computed, not stored")


def _to_float32(values: npt.NDArray[Any], out: Float32s) -> None:
    """Widen float16, float32 or the bits of bf16 into `out`, of the same length."""
    import numpy as np

    if values.dtype == np.uint16:  # bf16 is the upper half of a float32
        wide = out.view(np.uint32)
        wide[:] = values
        wide <<= 16
    else:
        out[:] = values


def read_tensors(shard: Shard) -> dict[str, LazyTensor]:
    """The tensors of a shard by name, its header checked. Raises CheckpointError naming what is wrong."""
    size = os.fstat(shard.fd).st_size
    if size < 8:
        raise CheckpointError(f"{shard.path} has {size} bytes and is no safetensors file: download it again")
    n_header = int.from_bytes(shard.read(0, 8), "little")
    if n_header > MAX_HEADER_BYTES:
        raise _damaged(shard, f"its header would be {n_header} bytes, the limit is {MAX_HEADER_BYTES}")
    if 8 + n_header > size:
        raise _damaged(shard, f"its header of {n_header} bytes does not fit in {size} bytes")
    entries = _parse(shard, shard.read(8, n_header))
    tensors = {name: _tensor(shard, name, entry, 8 + n_header) for name, entry in entries.items()}
    _check_coverage(shard, tensors, 8 + n_header, size)
    return tensors


def _damaged(shard: Shard, why: str) -> CheckpointError:
    return CheckpointError(f"{shard.path} is damaged: {why}; download it again")


def _parse(shard: Shard, header: bytes) -> dict[str, Any]:
    """The header's entries but for `__metadata__`. Stricter than json: as serde_json, and no duplicates."""

    def natural(text: str) -> int:
        if text.startswith("-"):
            raise ValueError(f"negative number {text}")
        return int(text)

    def refuse(text: str) -> Any:
        raise ValueError(f"number {text} is not whole")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} occurs twice")
        if found.keys() != _ENTRY and not all(isinstance(value, _NESTED) for value in found.values()):
            raise ValueError(f"{pairs[0][0]!r} stands where only tensors and metadata may")
        return found

    try:
        found = json.loads(
            header.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=natural,
            parse_float=refuse,
            parse_constant=refuse,
        )
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
        metadata = found.pop("__metadata__", None)
        metadata = {} if metadata is None else metadata
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("__metadata__ does not map text to text")
        "".join([*found, *metadata, *metadata.values()]).encode("utf-8")  # json lets half a surrogate through
    except (ValueError, RecursionError) as error:
        raise _damaged(shard, f"its header cannot be read ({error})") from error
    return found


def _tensor(shard: Shard, name: str, entry: Any, data_start: int) -> LazyTensor:
    if not isinstance(entry, dict) or entry.keys() != _ENTRY:
        raise _damaged(shard, f"tensor {name!r} lacks dtype, shape or data_offsets, or has more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _damaged(shard, f"tensor {name!r} has dtype {dtype!r}")
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise _damaged(shard, f"tensor {name!r} has shape {shape!r} at {offsets!r}")
    bits = 1
    for factor in (*shape, DTYPE_BITS[dtype]):  # in the library's order, and with its 64-bit limit
        bits *= factor
        if bits > _U64_MAX:
            raise _damaged(shard, f"tensor {name!r} has shape {shape!r}, more than 64 bits can count")
    begin, end = offsets
    if end < begin or bits % 8 or end - begin != bits // 8:
        raise _damaged(shard, f"tensor {name!r} of {bits // 8} bytes is given bytes {begin} to {end}")
    return LazyTensor(name, dtype, tuple(shape), shard, data_start + begin, end - begin)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value <= _U64_MAX for value in values
    )


def _check_coverage(shard: Shard, tensors: dict[str, LazyTensor], data_start: int, size: int) -> None:
    """The tensors must lie one after the other, without gap or overlap, up to the end of the file."""
    position = data_start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != position:
            what = "overlaps another" if tensor.offset < position else "leaves a gap before it"
            raise _damaged(shard, f"tensor {tensor.name!r} {what} at byte {tensor.offset}")
        position += tensor.nbytes
    if position > size:
        raise CheckpointError(f"{shard.path} is truncated: {size} of {position} bytes; download it again")
    if position < size:
        raise _damaged(shard, f"{size - position} bytes follow its last tensor")
