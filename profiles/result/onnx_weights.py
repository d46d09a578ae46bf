"""What an ONNX decoder reads and multiplies for one token, from its graph alone. Reads no weights.

Knows the operators that decoders are made of (edgellm's, onnxruntime-genai's and optimum's graphs); an embedding
table is looked up row by row and counts only where the head reads it too.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.formats import protobuf

#: Field numbers of onnx.proto.
_GRAPH, _NODE, _INITIALIZER, _GRAPH_OUTPUT = 7, 1, 5, 12
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5
_DIMS, _DATA_TYPE, _NAME = 1, 2, 8

#: Bytes of a value by TensorProto.DataType.
_BYTES = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    16: 2,
    17: 1,
    21: 0.5,
    22: 0.5,
}
#: Their tables are looked up by row: embeddings, rotations of positions.
_LOOK_UP = frozenset({"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding"})
#: Which inputs are the experts' matrices (ContribOperators.md); scales and zero points are stacks as well.
_EXPERTS = {"QMoE": (2, 5, 8), "MoE": (2, 4, 6)}
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm"})


@dataclass(frozen=True)
class Tensor:
    """An initializer."""

    shape: tuple[int, ...]
    type: int

    @property
    def n_bytes(self) -> int:
        """Its size, without padding."""
        return math.ceil(math.prod(self.shape) * _BYTES.get(self.type, 0))


@dataclass(frozen=True)
class Node:
    """An operator."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)  # those that are integers


@dataclass(frozen=True)
class Graph:
    """What is read of a graph."""

    tensors: Mapping[str, Tensor]  # initializers by name
    nodes: Sequence[Node]  # in order
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class PerToken:
    """What one token costs."""

    weight_bytes: int
    n_params: int  # multiplied with, the head apart
    n_params_head: int


def per_token(model: Path, n_vocab: int) -> PerToken:
    """What decoding one token with the graph `model` reads and multiplies. Raises ValueError, OSError."""
    graph = read(model)
    head = _head(graph, n_vocab)
    n_bytes = 0.0
    params = {True: 0, False: 0}  # by whether it is the head
    read_already: set[str] = set()
    for node in graph.nodes:
        if node.op in _LOOK_UP:
            continue
        share = _share(node, graph.tensors)
        for name in node.inputs:
            if name in graph.tensors and name not in read_already:
                read_already.add(name)
                n_bytes += share * graph.tensors[name].n_bytes
        n_in, n_out = _product(node, graph.tensors, share)
        params[node in head] += n_in * n_out
    return PerToken(round(n_bytes), params[False], params[True])


def _head(graph: Graph, n_vocab: int) -> list[Node]:
    """The products that give the logits: back from the first output that leads to any, as far as the first products.

    A head may be in parts of some rows each, joined by a Concat, and have more rows than there are tokens.
    """
    maker = {name: node for node in graph.nodes for name in node.outputs}
    for output in graph.outputs:
        found: list[Node] = []
        seen, ahead = set(), [output]
        while ahead:
            node = maker.get(ahead.pop())
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if _product(node, graph.tensors, 1.0)[1]:
                found.append(node)
            else:
                ahead += node.inputs
        rows = [_product(node, graph.tensors, 1.0)[1] for node in found]
        if sum(rows) >= n_vocab and (len(found) == 1 or all("Concat" in _takers(graph, n) for n in found)):
            return found
    return []


def _takers(graph: Graph, node: Node) -> set[str]:
    """Operators that take the node's outputs."""
    return {other.op for other in graph.nodes if set(other.inputs) & set(node.outputs)}


def _share(node: Node, tensors: Mapping[str, Tensor]) -> float:
    """The part of a node's weights that one token needs: the experts it is sent to."""
    if node.op not in _EXPERTS:
        return 1.0
    stacks = [
        tensors[name].shape[0] for name in node.inputs if name in tensors and len(tensors[name].shape) == 3
    ]
    return node.attributes.get("k", 1) / max(stacks) if stacks else 1.0


def _product(node: Node, tensors: Mapping[str, Tensor], share: float) -> tuple[int, int]:
    """(inputs, outputs) of a matrix product with a weight; (0, 0) for other operators."""
    if node.op == "MatMulNBits":
        return node.attributes["K"], node.attributes["N"]
    if node.op in _EXPERTS:
        bits = node.attributes.get("expert_weight_bits", 0)
        per_byte = 8 // bits if bits else 1
        names = [node.inputs[i] for i in _EXPERTS[node.op] if i < len(node.inputs)]
        stacks = [math.prod(tensors[name].shape) * per_byte for name in names if name in tensors]
        return round(sum(stacks) * share), 1
    weights = [tensors[name] for name in node.inputs if name in tensors]
    flat = [weight.shape for weight in weights if len(weight.shape) == 2]
    if node.op in _PRODUCTS and flat:
        rows, columns = flat[0]
        return (columns, rows) if node.attributes.get("transB") else (rows, columns)
    return 0, 0


def read(model: Path) -> Graph:
    """The graph in a file. Raises ValueError when the file is none, OSError."""
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse(data)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{model} is not an ONNX graph ({error})") from error


def parse(data: Any) -> Graph:
    """The same of a graph's bytes. Raises IndexError, UnicodeDecodeError, ValueError for what is none."""
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    outputs: list[str] = []
    for start, stop in protobuf.spans(data, 0, len(data), _GRAPH):
        tensors |= dict(_tensor(data, *s) for s in protobuf.spans(data, start, stop, _INITIALIZER))
        nodes += [_node(data, *s) for s in protobuf.spans(data, start, stop, _NODE)]
        for span in protobuf.spans(data, start, stop, _GRAPH_OUTPUT):  # ValueInfoProto: name = 1
            outputs += [_text(data, s) for s in protobuf.spans(data, *span, 1)]
    return Graph(tensors, nodes, tuple(outputs))


def _tensor(data: Any, start: int, stop: int) -> tuple[str, Tensor]:
    fields = list(protobuf.walk(data, start, stop))
    name = next((_text(data, value) for number, value in fields if number == _NAME), "")
    shape = tuple(_ints(data, (value for number, value in fields if number == _DIMS)))
    kind = next((value for number, value in fields if number == _DATA_TYPE and isinstance(value, int)), 0)
    return name, Tensor(shape, kind)


def _node(data: Any, start: int, stop: int) -> Node:
    fields = list(protobuf.walk(data, start, stop))
    texts = {
        kind: tuple(_text(data, value) for number, value in fields if number == kind)
        for kind in (_INPUT, _OUTPUT, _OP_TYPE)
    }
    attributes = dict(_attribute(data, *s) for s in protobuf.spans(data, start, stop, _ATTRIBUTE))
    numbers = {name: value for name, value in attributes.items() if value is not None}
    return Node("".join(texts[_OP_TYPE]), texts[_INPUT], texts[_OUTPUT], numbers)


def _attribute(data: Any, start: int, stop: int) -> tuple[str, int | None]:
    """AttributeProto: name = 1, i = 3."""
    fields = list(protobuf.walk(data, start, stop))
    name = next((_text(data, value) for number, value in fields if number == 1), "")
    return name, next((value for number, value in fields if number == 3 and isinstance(value, int)), None)


def _text(data: Any, value: int | tuple[int, int]) -> str:
    if isinstance(value, int):
        raise ValueError("a name is no text")
    return bytes(data[slice(*value)]).decode()


def _ints(data: Any, values: Iterator[int | tuple[int, int]]) -> Sequence[int]:
    """A repeated integer field, packed or not."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at, stop = value
        while at < stop:
            number, at = protobuf.varint(data, at)
            found.append(number)
    return found
