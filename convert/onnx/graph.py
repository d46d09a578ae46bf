"""An ONNX graph under construction, and the map of its external data file. Knows no model and reads no weights.

Every tensor of the data file gets its place before a byte is written, so rows can be encoded and written in
any order by several threads, and the proto beside it stays small whatever the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.convert.onnx import proto
from edgellm.convert.onnx.proto import Attribute, DataType, Dim

if TYPE_CHECKING:
    import numpy.typing as npt

MICROSOFT = "com.microsoft"

#: Large tensors begin on a page, so that the engine can map them; small ones (norms, biases) need not.
PAGE_BYTES = 4096
SMALL_ALIGNMENT = 64

_ITEM_BYTES = {
    DataType.FLOAT: 4,
    DataType.FLOAT16: 2,
    DataType.UINT8: 1,
    DataType.INT8: 1,
    DataType.INT32: 4,
    DataType.INT64: 8,
}


@dataclass(frozen=True)
class Region:
    """A tensor's place in the data file."""

    name: str
    type: DataType
    shape: tuple[int, ...]
    offset: int
    file: str  # beside the model

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * _ITEM_BYTES[self.type]

    def seen_as(self, name: str, shape: tuple[int, ...]) -> Region:
        """The same bytes under another name and shape."""
        return Region(name, self.type, shape, self.offset, self.file)

    def rows(self, name: str, start: int, stop: int) -> Region:
        """Rows [start, stop) of the first dimension under a name of their own."""
        row_bytes = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return Region(name, self.type, shape, self.offset + start * row_bytes, self.file)


class DataFile:
    """Gives out places in one external data file, in the order asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nbytes = 0

    def place(self, name: str, type_: DataType, shape: Sequence[int]) -> Region:
        """Room for one tensor."""
        size = math.prod(shape) * _ITEM_BYTES[type_]
        alignment = PAGE_BYTES if size >= PAGE_BYTES else SMALL_ALIGNMENT
        offset = -(-self.nbytes // alignment) * alignment
        self.nbytes = offset + size
        return Region(name, type_, tuple(shape), offset, self.name)


class Graph:
    """Nodes and initializers in the order they were added, which is a topological one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[bytes] = []
        self._values: set[str] = set()  # names that nodes produce
        self._initializers: dict[str, bytes] = {}
        self._inputs: dict[str, bytes] = {}
        self._outputs: dict[str, bytes] = {}
        self._fixed: dict[str, bytes] = {}  # initializers that stand for inputs in a fixed graph
        self._fixed_outputs: dict[str, bytes] = {}

    def input(self, name: str, type_: DataType, shape: Sequence[Dim]) -> str:
        """Declare an input."""
        self._inputs[name] = proto.value_info(name, type_, shape)
        return name

    def choice(self, name: str, shape: Sequence[Dim], fixed: npt.NDArray[Any]) -> str:
        """An int64 input that a fixed graph has the constant `fixed` for."""
        self._fixed[name] = _tensor(name, fixed)
        return self.input(name, DataType.INT64, shape)

    def output(
        self, name: str, type_: DataType, shape: Sequence[Dim], fixed_shape: Sequence[Dim] | None = None
    ) -> None:
        """Declare an output; a node must produce it."""
        self._outputs[name] = proto.value_info(name, type_, shape)
        self._fixed_outputs[name] = proto.value_info(name, type_, fixed_shape or shape)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """A small tensor kept in the proto itself. The same name again is the same tensor."""
        self._initializers.setdefault(name, _tensor(name, value))
        return name

    def external(self, region: Region) -> str:
        """A tensor whose bytes are in the data file."""
        data = proto.external_tensor(
            region.name, region.type, region.shape, region.file, region.offset, region.nbytes
        )
        self._initializers.setdefault(region.name, data)
        return region.name

    def op(
        self, op: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Attribute
    ) -> str:
        """Add a node with one output, named as the node; return that name."""
        self.multi(op, inputs, [name], name, domain=domain, **attributes)
        return name

    def multi(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        *,
        domain: str = "",
        **attributes: Attribute,
    ) -> None:
        """Add a node with any outputs; an empty name is an output left out."""
        self._values.update(filter(None, outputs))
        self._nodes.append(proto.node(op, inputs, outputs, name, domain, attributes))

    def has(self, value: str) -> bool:
        """Whether a node already produces `value`."""
        return value in self._values

    def serialize(
        self, metadata: Mapping[str, str], producer: tuple[str, str], *, fixed: bool = False
    ) -> bytes:
        """The ModelProto. With `fixed`, choices are constants and no longer inputs."""
        initializers, inputs, outputs = self._initializers, self._inputs, self._outputs
        if fixed:
            initializers = initializers | self._fixed
            inputs = {name: data for name, data in inputs.items() if name not in self._fixed}
            outputs = self._fixed_outputs
        parts = (self._nodes, initializers.values(), inputs.values(), outputs.values())
        return proto.model(self.name, *parts, metadata, producer)


def _tensor(name: str, value: npt.NDArray[Any]) -> bytes:
    types = {
        "float32": DataType.FLOAT,
        "int64": DataType.INT64,
        "int32": DataType.INT32,
        "uint8": DataType.UINT8,
        "int8": DataType.INT8,
    }
    return proto.tensor(name, types[value.dtype.name], value.shape, value.tobytes())
