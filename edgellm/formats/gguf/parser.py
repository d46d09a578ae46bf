"""Reads a GGUF header in plain Python within bounds, the file taken for hostile.

Nothing a file says is believed before it is checked against the file's own size and against limits far above
any real model: the engines' own readers abort or run away on bad headers, so this one looks first.
Format: ggml/include/gguf.h of llama.cpp.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from edgellm.errors import ArtifactError
from edgellm.formats.gguf.header import GgufFile, GgufTensor, StringArray
from edgellm.formats.gguf.known import Known
from edgellm.formats.gguf.types import (
    ARRAY,
    DEFAULT_ALIGNMENT,
    GGML_TYPES,
    MAGIC,
    MAX_DIMS,
    MAX_NAME_BYTES,
    SCALAR_FORMATS,
    STRING,
    UINT32,
    VALUE_TYPE_NAMES,
    VERSIONS,
    GgmlType,
)

# The largest real headers (262k tokens, 515k merges) take about 20 MB; these limits keep reading any file
# under a second and a few hundred MB.
MAX_HEADER_BYTES = 128 << 20
MAX_STRINGS = 2_000_000  # elements of all string arrays together
MAX_KEYS = 16_384
MAX_TENSORS = 65_536
MAX_ALIGNMENT = 1 << 20
_CHUNK = 4 << 20
_TRUNCATED = "cut off inside its header; download or convert it again"


def parse(path: Path, descriptor: int, size: int, known: Known | None = None) -> GgufFile:
    """Read the header of an open file of `size` bytes; of a `known` one, all but its strings. Raises ArtifactError."""
    return _Parser(path, descriptor, size, known).parse()


class _Parser:
    """One pass over a header. `pos` is the read position; `data` grows as the file is read."""

    def __init__(self, path: Path, descriptor: int, size: int, known: Known | None) -> None:
        self.path, self.descriptor, self.size = path, descriptor, size
        self.data = known.header if known else b""
        self.known = dict(known.strings) if known else {}
        self.checked = known is not None
        self.pos = 0
        self.n_strings = 0

    def fail(self, fact: str) -> NoReturn:
        raise ArtifactError(f"{self.path}: {fact}")

    def need(self, n: int) -> None:
        """Make `n` bytes from `pos` on available."""
        end = self.pos + n
        if end <= len(self.data):
            return
        if end > self.size:
            self.fail(_TRUNCATED)
        if end > MAX_HEADER_BYTES:
            self.fail(f"its header is over {MAX_HEADER_BYTES >> 20} MB, more than any real model's; refused")
        want = min(max(end, 2 * len(self.data), _CHUNK), self.size, MAX_HEADER_BYTES)
        self.data += self._read(want - len(self.data))
        if end > len(self.data):
            self.fail(_TRUNCATED)

    def _read(self, n: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, n, len(self.data))
        os.lseek(self.descriptor, len(self.data), os.SEEK_SET)
        return os.read(self.descriptor, n)

    def scalar(self, format_: str) -> Any:
        size = struct.calcsize(format_)
        self.need(size)
        (value,) = struct.unpack_from(format_, self.data, self.pos)
        self.pos += size
        return value

    def text(self, what: str, limit: int) -> str:
        """A length-prefixed UTF-8 string of at most `limit` bytes."""
        length = self.scalar("<Q")
        if length > min(limit, self.size):
            self.fail(
                f"{what} claims {length:,} bytes, more than {min(limit, self.size):,}; the file is damaged"
            )
        self.need(length)
        raw = self.data[self.pos : self.pos + length]
        self.pos += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8; the file is damaged")

    def parse(self) -> GgufFile:
        version, n_tensors, n_keys = self._preamble()
        metadata, types, raw = self._key_values(n_keys)
        alignment = self._alignment(metadata, types)
        infos = self._tensor_infos(n_tensors)
        data_offset = -(-self.pos // alignment) * alignment
        tensors = self._place(infos, alignment, data_offset)
        return GgufFile(
            path=self.path,
            version=version,
            metadata=metadata,
            value_types=types,
            tensors=tensors,
            alignment=alignment,
            data_offset=data_offset,
            size=self.size,
            _raw=raw,
            _header=self.data[: self.pos],
            checked=self.checked,
        )

    def _preamble(self) -> tuple[int, int, int]:
        if self.size < 24:
            self.fail(f"{self.size} bytes are too few for a GGUF file; download or convert it again")
        self.need(24)
        magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", self.data)
        self.pos = 24
        if magic != MAGIC:
            self.fail(f"not a GGUF file (it begins with {magic!r}, not {MAGIC!r})")
        if version & 0xFFFF == 0:
            self.fail("a big-endian GGUF file, which is not supported; convert the model on this machine")
        if version not in VERSIONS:
            self.fail(f"GGUF version {version}; only 2 and 3 are known. Convert the model again")
        if n_tensors > MAX_TENSORS or n_keys > MAX_KEYS:
            self.fail(
                f"claims {n_tensors:,} tensors and {n_keys:,} keys, above the limits of "
                f"{MAX_TENSORS:,} and {MAX_KEYS:,}; the file is damaged"
            )
        return version, n_tensors, n_keys

    def _key_values(self, count: int) -> tuple[dict[str, Any], dict[str, str], dict[str, tuple[int, int]]]:
        metadata: dict[str, Any] = {}
        types: dict[str, str] = {}
        raw: dict[str, tuple[int, int]] = {}
        for index in range(count):
            key = self.text(f"the name of key {index}", 65_535)
            if not key or key in metadata:
                self.fail(
                    f"key {index} {f'{key!r} appears twice' if key else 'has no name'}; the file is damaged"
                )
            start = self.pos
            type_id = self.scalar("<I")
            if type_id == ARRAY:
                metadata[key], types[key] = self._array(key)
            else:
                metadata[key] = self._value(key, type_id)
                types[key] = VALUE_TYPE_NAMES[type_id]
            raw[key] = (start, self.pos)
        return metadata, types, raw

    def _value(self, key: str, type_id: int) -> Any:
        if type_id == STRING:
            return self.text(f"key {key!r}", MAX_HEADER_BYTES)
        if type_id not in SCALAR_FORMATS:
            self.fail(f"key {key!r} has value type {type_id}, which does not exist; the file is damaged")
        return self.scalar(SCALAR_FORMATS[type_id])

    def _array(self, key: str) -> tuple[Any, str]:
        type_id, count = self.scalar("<I"), self.scalar("<Q")
        if type_id == STRING:
            return self._strings(key, count), "arr[str]"
        if type_id not in SCALAR_FORMATS:
            self.fail(
                f"key {key!r} is an array of value type {type_id}, which cannot be; the file is damaged"
            )
        format_ = SCALAR_FORMATS[type_id]
        nbytes = count * struct.calcsize(format_)
        self.need(nbytes)  # refuses what is more than the file holds, before any of it is read
        value: array[Any] = array(format_[1:].replace("?", "B"))  # numpy would take 60 ms to import
        value.frombytes(memoryview(self.data)[self.pos : self.pos + nbytes])
        if sys.byteorder == "big":
            value.byteswap()
        self.pos += nbytes
        return value, f"arr[{VALUE_TYPE_NAMES[type_id]}]"

    def _strings(self, key: str, count: int) -> StringArray:
        self.n_strings += count
        if self.n_strings > MAX_STRINGS or 8 * count > self.size:
            self.fail(f"key {key!r} claims {count:,} strings, more than can be; the file is damaged")
        if (strings := self.known.get(self.pos)) is not None:
            self.pos = strings.end
            return strings
        starts = array("I")
        unpack = struct.Struct("<Q").unpack_from
        pos, end, add = self.pos, len(self.data), starts.append
        data = self.data
        for _ in range(count):
            if pos + 8 > end:
                end = self._grow(pos, 8)
                data = self.data
            pos += 8
            add(pos)
            pos += unpack(data, pos - 8)[0]
            if pos > end:
                end = self._grow(pos, 0)
                data = self.data
        self.pos = pos
        return StringArray(self.data, starts, pos)

    def _grow(self, pos: int, n: int) -> int:
        self.pos = pos
        self.need(n)
        return len(self.data)

    def _alignment(self, metadata: Mapping[str, Any], types: Mapping[str, str]) -> int:
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        given = types.get("general.alignment", VALUE_TYPE_NAMES[UINT32])
        power_of_two = isinstance(alignment, int) and alignment > 0 and alignment & (alignment - 1) == 0
        if given != VALUE_TYPE_NAMES[UINT32] or not power_of_two or alignment > MAX_ALIGNMENT:
            self.fail(
                f"general.alignment is {alignment!r} ({given}); it must be a u32 power of two up to 2^20"
            )
        return int(alignment)

    def _tensor_infos(self, count: int) -> list[tuple[str, GgmlType, tuple[int, ...], int]]:
        infos = []
        names: set[str] = set()
        for index in range(count):
            name = self.text(f"the name of tensor {index}", MAX_NAME_BYTES)
            if not name or name in names:
                self.fail(
                    f"tensor {index} {f'{name!r} appears twice' if name else 'has no name'}; it is damaged"
                )
            names.add(name)
            shape = self._shape(name)
            infos.append((name, self._tensor_type(name, shape), shape, self.scalar("<Q")))
        return infos

    def _shape(self, name: str) -> tuple[int, ...]:
        n_dims = self.scalar("<I")
        if not 1 <= n_dims <= MAX_DIMS:
            self.fail(f"tensor {name!r} has {n_dims} dimensions; 1 to {MAX_DIMS} are possible")
        self.need(8 * n_dims)
        ne = struct.unpack_from(f"<{n_dims}Q", self.data, self.pos)
        self.pos += 8 * n_dims
        total = 1
        for n in ne:
            total *= n
        if not 0 < total < 1 << 48:
            self.fail(f"tensor {name!r} has the impossible shape {tuple(reversed(ne))}; the file is damaged")
        return tuple(reversed(ne))

    def _tensor_type(self, name: str, shape: tuple[int, ...]) -> GgmlType:
        type_id = self.scalar("<I")
        if type_id not in GGML_TYPES:
            self.fail(f"tensor {name!r} has the unknown type {type_id}; a newer edgellm may know it")
        type_ = GGML_TYPES[type_id]
        if shape[-1] % type_.block_size:
            self.fail(
                f"tensor {name!r} has rows of {shape[-1]} weights, not a multiple of "
                f"{type_.name}'s block of {type_.block_size}; the file is damaged"
            )
        return type_

    def _place(
        self, infos: list[tuple[str, GgmlType, tuple[int, ...], int]], alignment: int, data_offset: int
    ) -> dict[str, GgufTensor]:
        """Check that tensors lie one behind the other as ggml demands, none beyond the end of the file."""
        tensors: dict[str, GgufTensor] = {}
        expected = 0
        for name, type_, shape, offset in infos:
            if offset != expected:
                self.fail(f"tensor {name!r} is at offset {offset:,} where {expected:,} is due; it is damaged")
            n_elements = 1
            for n in shape:
                n_elements *= n
            nbytes = type_.nbytes(n_elements)
            if data_offset + offset + nbytes > self.size:
                self.fail(
                    f"cut off: tensor {name!r} ends at byte {data_offset + offset + nbytes:,} of "
                    f"{self.size:,}; download or convert it again"
                )
            tensors[name] = GgufTensor(name, type_, shape, data_offset + offset, nbytes)
            expected = -(-(offset + nbytes) // alignment) * alignment
        return tensors
