"""A head in parts: which rows each operator gets, as the onnx package reads the graph."""

import numpy as np
import pytest

from edgellm.convert.onnx import linear
from edgellm.convert.onnx.blocks import BlockFormat
from edgellm.convert.onnx.graph import DataFile, Graph
from edgellm.convert.onnx.linear import BlockLinear, Writer
from edgellm.convert.onnx.proto import DataType

onnx = pytest.importorskip("onnx")
K, LIMIT_ROWS = 64, 256


class Rows:
    def __init__(self, n_rows: int) -> None:
        self.n_rows, self.row_size = n_rows, K

    def read(self, tensors, start: int, stop: int) -> np.ndarray:
        return np.zeros((stop - start, K), np.float32)


@pytest.mark.parametrize(
    ("n_rows", "parts"),
    [  # the fewest operators of at most LIMIT_ROWS rows, each a multiple of 128 but for the last
        (1, [1]),
        (256, [256]),
        (257, [256, 1]),
        (512, [256, 256]),
        (513, [256, 256, 1]),
        (700, [256, 256, 188]),
    ],
)
def test_no_operator_holds_more_than_the_bound(n_rows, parts, monkeypatch):
    monkeypatch.setattr(linear, "_PART_WEIGHTS", LIMIT_ROWS * K)
    writer = Writer(Graph("g"), DataFile("w.data"))
    writer.graph.input("x", DataType.FLOAT, (1, K))
    encoding = BlockLinear(BlockFormat(bits=8, block=32, symmetric=False))
    regions = encoding.store(writer, "head", Rows(n_rows))
    encoding.multiply_in_parts(writer, "head.out", "x", regions, K)
    model = onnx.load_model_from_string(writer.graph.serialize({}, ("edgellm", "0")))
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    sizes = [onnx.helper.get_attribute_value(a) for n in nodes for a in n.attribute if a.name == "N"]
    assert sizes == parts
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    assert [list(node.input) for node in joins] == ([[n.output[0] for n in nodes]] if len(parts) > 1 else [])
    tensors = {t.name: t for t in model.graph.initializer}
    weights = [tensors[node.input[1]] for node in nodes]
    assert [list(t.dims) for t in weights] == [[n, K // 32, 32] for n in parts]
    places = [{e.key: int(e.value) for e in t.external_data if e.key != "location"} for t in weights]
    assert [p["offset"] - places[0]["offset"] for p in places] == [
        K * sum(parts[:i]) for i in range(len(parts))
    ]
