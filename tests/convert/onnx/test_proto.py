"""Our protobuf bytes as the onnx package reads them."""

from itertools import pairwise

import numpy as np
import pytest

from edgellm.convert.onnx import proto
from edgellm.convert.onnx.graph import DataFile, Graph
from edgellm.convert.onnx.proto import DataType

onnx = pytest.importorskip("onnx")


def parse(graph: Graph, **options):
    return onnx.load_model_from_string(graph.serialize({"k": "v"}, ("edgellm", "0"), **options))


def test_every_field_survives():
    graph = Graph("g")
    graph.input("x", DataType.FLOAT, ("batch", 3))
    weight = graph.constant("w", np.array([[1.5, -2.0]], np.float32))
    graph.multi(
        "Op",
        ["x", "", weight],
        ["y", ""],
        "n",
        domain="com.microsoft",
        i=-7,
        big=1 << 40,
        f=0.25,
        s="é",
        ints=[1, -2],
    )
    graph.output("y", DataType.INT64, (2**33,))
    model = parse(graph)
    assert (model.ir_version, model.producer_name, model.metadata_props[0].value) == (10, "edgellm", "v")
    assert {o.domain: o.version for o in model.opset_import} == proto.OPSETS
    (node,) = model.graph.node
    assert (list(node.input), list(node.output), node.domain) == (["x", "", "w"], ["y", ""], "com.microsoft")
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert values == {"i": -7, "big": 1 << 40, "f": 0.25, "s": "é".encode(), "ints": [1, -2]}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), [[1.5, -2.0]])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("batch", 3)
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 2**33


def test_external_data_is_aligned_and_never_overlaps():
    data = DataFile("w.data")
    regions = [data.place(str(i), DataType.FLOAT, (n,)) for i, n in enumerate((3, 5000, 1, 1024, 7))]
    for one, next_ in pairwise(regions):
        assert one.offset + one.nbytes <= next_.offset
        assert one.offset % (4096 if one.nbytes >= 4096 else 64) == 0
    assert data.nbytes == regions[-1].offset + regions[-1].nbytes
    graph = Graph("g")
    graph.external(regions[1])
    graph.external(regions[1].seen_as("other", (50, 100)))
    first, second = parse(graph).graph.initializer
    entries = [{e.key: e.value for e in tensor.external_data} for tensor in (first, second)]
    assert entries[0] == entries[1] == {"location": "w.data", "offset": "4096", "length": "20000"}
    assert first.data_location == onnx.TensorProto.EXTERNAL and list(second.dims) == [50, 100]


def test_a_fixed_graph_has_constants_for_choices():
    graph = Graph("g")
    graph.choice("index", ("n",), np.array([-1], np.int64))
    graph.output("y", DataType.FLOAT, ("n",), (1,))
    free, fixed = parse(graph), parse(graph, fixed=True)
    assert [i.name for i in free.graph.input] == ["index"] and not free.graph.initializer
    assert not fixed.graph.input and fixed.graph.initializer[0].name == "index"
    assert fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1
