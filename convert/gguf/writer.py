"""The bytes of a GGUF file's header, and where its tensors then lie. Writes no weights.

Format: ggml/include/gguf.h of llama.cpp; shards and their keys: gguf-split and llama-model-loader.cpp there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgellm.errors import UsageError
from edgellm.formats.gguf.types import (
    ARRAY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    SCALAR_FORMATS,
    STRING,
    VALUE_TYPE_NAMES,
    GgmlType,
)

_VERSION = 3
_VALUE_TYPES = {name: id_ for id_, name in VALUE_TYPE_NAMES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor's line in the header. `shape` has rows first; GGUF stores it reversed."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """One file to be: its whole header, padding included, and each tensor's place."""

    header: bytes
    offsets: Mapping[str, int]  # tensor name -> bytes from the start of the file
    size: int  # bytes of the file, the padding of its last tensor included


def encode(value_type: str, value: Any) -> bytes:
    """A value as GGUF stores it, its type first. `value_type` is "u32", "str", "arr[i32]", ...

    The elements of an array may be any iterable with a length; text may be str or, where it is no valid
    UTF-8, str with surrogates (PEP 383) or bytes.
    """
    if value_type.startswith("arr["):
        element = value_type[4:-1]
        head = struct.pack("<IIQ", ARRAY, _VALUE_TYPES[element], len(value))
        return head + _elements(_VALUE_TYPES[element], value)
    type_id = _VALUE_TYPES[value_type]
    return struct.pack("<I", type_id) + _elements(type_id, (value,))


def layout(key_values: Mapping[str, bytes], tensors: Sequence[TensorEntry]) -> Layout:
    """Lay out a file of `key_values` (as `encode` gives them) and `tensors`, in the given order."""
    preamble = struct.pack("<4sIQQ", MAGIC, _VERSION, len(tensors), len(key_values))
    keys = b"".join(_string(key.encode()) + value for key, value in key_values.items())
    infos, relative, position = [], {}, 0
    for tensor in tensors:
        infos.append(_tensor_info(tensor, position))
        relative[tensor.name] = position
        position = _pad(position + tensor.nbytes)
    header = preamble + keys + b"".join(infos)
    header = header.ljust(_pad(len(header)), b"\0")
    offsets = {name: len(header) + offset for name, offset in relative.items()}
    return Layout(header, offsets, len(header) + position)


def split(tensors: Sequence[TensorEntry], max_bytes: int | None) -> list[list[TensorEntry]]:
    """Cut `tensors` into runs of at most `max_bytes` of data each, as llama.cpp's gguf-split does by size.

    Raises UsageError when one tensor alone is larger.
    """
    runs: list[list[TensorEntry]] = [[]]
    filled = 0
    for tensor in tensors:
        nbytes = _pad(tensor.nbytes)
        if max_bytes is not None and nbytes > max_bytes:
            raise UsageError(
                f"{tensor.name} alone takes {nbytes:,} bytes; --split-max-size must be at least that"
            )
        if runs[-1] and max_bytes is not None and filled + nbytes > max_bytes:
            runs.append([])
            filled = 0
        runs[-1].append(tensor)
        filled += nbytes
    return runs


def split_keys(number: int, count: int, n_tensors: int) -> dict[str, bytes]:
    """The keys that make a file shard `number` (from 0) of `count`, of a model of `n_tensors` in all."""
    return {
        "split.no": encode("u16", number),
        "split.count": encode("u16", count),
        "split.tensors.count": encode("i32", n_tensors),
    }


def shard_name(name: str, number: int, count: int) -> str:
    """`model.gguf` -> `model-00001-of-00002.gguf`: the only form of name llama.cpp finds shards by."""
    return f"{name.removesuffix('.gguf')}-{number + 1:05d}-of-{count:05d}.gguf"


def _elements(type_id: int, values: Iterable[Any]) -> bytes:
    if type_id == STRING:
        return b"".join(_string(_utf8(value)) for value in values)
    format_ = SCALAR_FORMATS[type_id]
    items = list(values)
    return struct.pack(f"<{len(items)}{format_[1:]}", *items)


def _utf8(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _string(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _tensor_info(tensor: TensorEntry, offset: int) -> bytes:
    shape = tuple(reversed(tensor.shape))
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _string(tensor.name.encode()) + dims + struct.pack("<IQ", tensor.type.id, offset)


def _pad(position: int) -> int:
    return -(-position // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
