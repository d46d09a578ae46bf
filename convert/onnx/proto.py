"""ONNX's protobuf messages as bytes: just what a decoder graph needs, so that the base install needs no `onnx`.

Knows the wire format and field numbers; knows nothing of models. Messages of a gigabyte of weights stay small,
for tensors are references into a file of external data. Field numbers are those of onnx/onnx.proto (IR 10).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

IR_VERSION = 10
OPSETS = {"": 22, "com.microsoft": 1}

_VARINT, _BYTES, _FLOAT = 0, 2, 5  # wire types


class DataType(IntEnum):
    """TensorProto.DataType."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    INT32 = 6
    INT64 = 7
    FLOAT16 = 10


class _AttributeType(IntEnum):
    FLOAT = 1
    INT = 2
    STRING = 3
    INTS = 7


Attribute = int | float | str | Sequence[int]
Dim = int | str  # a number, or the name of a dimension known at run time


def node(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
    domain: str,
    attributes: Mapping[str, Attribute],
) -> bytes:
    """A NodeProto. An empty input name is an optional input left out."""
    message = [*(_text(1, i) for i in inputs), *(_text(2, o) for o in outputs), _text(3, name), _text(4, op)]
    message += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
    if domain:
        message.append(_text(7, domain))
    return b"".join(message)


def value_info(name: str, type_: DataType, shape: Sequence[Dim]) -> bytes:
    """A ValueInfoProto: what a graph takes or gives."""
    dims = b"".join(_bytes(1, _text(2, d) if isinstance(d, str) else _int(1, d)) for d in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, type_) + _bytes(2, dims)))


def tensor(name: str, type_: DataType, shape: Sequence[int], data: bytes) -> bytes:
    """A small TensorProto that carries its bytes (little endian)."""
    return _tensor_head(name, type_, shape) + _bytes(9, data)


def external_tensor(
    name: str, type_: DataType, shape: Sequence[int], location: str, offset: int, length: int
) -> bytes:
    """A TensorProto whose bytes lie in the file `location` beside the model."""
    where = {"location": location, "offset": str(offset), "length": str(length)}
    return _tensor_head(name, type_, shape) + _entries(13, where) + _int(14, 1)


def model(
    name: str,
    nodes: Iterable[bytes],
    initializers: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    metadata: Mapping[str, str],
    producer: tuple[str, str],
) -> bytes:
    """A ModelProto around one graph. `producer` is (name, version)."""
    parts = [*(_bytes(1, n) for n in nodes), _text(2, name), *(_bytes(5, i) for i in initializers)]
    parts += [*(_bytes(11, i) for i in inputs), *(_bytes(12, o) for o in outputs)]
    head = _int(1, IR_VERSION) + _text(2, producer[0]) + _text(3, producer[1])
    opsets = b"".join(_bytes(8, _text(1, domain) + _int(2, version)) for domain, version in OPSETS.items())
    return head + _bytes(7, b"".join(parts)) + opsets + _entries(14, metadata)


def _tensor_head(name: str, type_: DataType, shape: Sequence[int]) -> bytes:
    return b"".join(_int(1, d) for d in shape) + _int(2, type_) + _text(8, name)


def _attribute(name: str, value: Attribute) -> bytes:
    head = _text(1, name)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, _AttributeType.INT)
    if isinstance(value, float):
        return head + _float(2, value) + _int(20, _AttributeType.FLOAT)
    if isinstance(value, str):
        return head + _text(4, value) + _int(20, _AttributeType.STRING)
    return head + b"".join(_int(8, item) for item in value) + _int(20, _AttributeType.INTS)


def _entries(field: int, pairs: Mapping[str, str]) -> bytes:
    return b"".join(_bytes(field, _text(1, key) + _text(2, value)) for key, value in pairs.items())


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are ten bytes of two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FLOAT) + struct.pack("<f", value)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
