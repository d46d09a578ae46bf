"""Linear layers in every encoding: the nodes that compute one, the regions it takes, and how rows get there.

An encoding is a class here; recipes (options.py) choose among them by role and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgellm.convert.onnx import blocks as onnx_blocks
from edgellm.convert.onnx.blocks import BlockFormat
from edgellm.convert.onnx.graph import MICROSOFT, DataFile, Graph, Region
from edgellm.convert.onnx.proto import DataType
from edgellm.convert.onnx.rows import RowSource
from edgellm.convert.onnx.stream import Job

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

Places = tuple[Region, ...]

#: Weights of a head in one operator: the engine repacks an operator's weights as a whole while it loads, beside
#: the originals, so this bounds what loading takes beyond running.
_PART_WEIGHTS = 1 << 24
_ROWS_TOGETHER = 128  # rows a kernel takes at once

#: MatMulNBits' accuracy level: activations may become int8 inside the kernel.
INT8_ACTIVATIONS = 4


@dataclass
class Writer:
    """What encodings write into: the graph, the data file, and the jobs that will fill it."""

    graph: Graph
    data: DataFile
    jobs: list[Job] = field(default_factory=list)
    shared: Mapping[str, Region] = field(default_factory=dict)  # placed already, by another graph

    def place(self, parts: Sequence[tuple[str, DataType, Sequence[int]]], job: Callable[..., Job]) -> Places:
        """Room for tensors (name, type, shape) that `job`, given their regions, fills; none if they are shared."""
        found = [self.shared.get(name) for name, _, _ in parts]
        same = [
            r and (r.type, r.shape) == (type_, tuple(shape))
            for r, (_, type_, shape) in zip(found, parts, strict=True)
        ]
        if all(same):
            return tuple(region for region in found if region)
        regions = tuple(self.data.place(*part) for part in parts)
        self.jobs.append(job(regions))
        return regions

    def stored(self, name: str, source: RowSource, shape: Sequence[int]) -> Region:
        """A float32 tensor copied as it is."""
        parts = [(name, DataType.FLOAT, shape)]
        return self.place(parts, lambda regions: Job(source, lambda rows: (rows,), regions))[0]

    def stored_columns(self, name: str, source: RowSource) -> Region:
        """A small float32 matrix, transposed."""
        n, k = source.n_rows, source.row_size
        parts = [(name, DataType.FLOAT, (k, n))]
        return self.place(
            parts, lambda regions: Job(source, lambda rows: (rows.T,), regions, rows_together=n)
        )[0]

    def vector(self, name: str, source: RowSource) -> str:
        """A one-dimensional float32 tensor of a single row: a norm, a bias."""
        return self.graph.external(self.stored(name, source, (source.row_size,)))


class Linear(Protocol):
    """An encoding of weight matrices [n_out, n_in]."""

    @property
    def label(self) -> str:
        """What the encoding is called in tables and manifests."""
        ...

    def apply(
        self,
        writer: Writer,
        name: str,
        x: str,
        weight: RowSource,
        bias: str | None,
        importance: Float32s | None = None,
    ) -> str:
        """Add x [.., n_in] times the transposed weight, plus `bias`; return the result's name.

        `importance` [n_in] weighs columns where scales are searched for.
        """
        ...


@dataclass(frozen=True)
class FloatLinear:
    """Float32 weights, multiplied as stored: [n_out, n_in]."""

    label: str = "fp32"

    def apply(
        self,
        writer: Writer,
        name: str,
        x: str,
        weight: RowSource,
        bias: str | None,
        importance: Float32s | None = None,
    ) -> str:
        """FusedMatMul(transB) keeps the checkpoint's layout, so a tied embedding can share the bytes."""
        region = writer.stored(f"{name}.weight", weight, (weight.n_rows, weight.row_size))
        return self.multiply(writer, name, x, region, bias)

    def multiply(self, writer: Writer, name: str, x: str, region: Region, bias: str | None) -> str:
        """The same on weights that are already placed."""
        inputs = [x, writer.graph.external(region)]
        if bias is None:
            return writer.graph.op("FusedMatMul", inputs, name, domain=MICROSOFT, transB=1)
        product = writer.graph.op("FusedMatMul", inputs, f"{name}/product", domain=MICROSOFT, transB=1)
        return writer.graph.op("Add", [product, bias], name)


@dataclass(frozen=True)
class BlockLinear:
    """Block-quantized weights through MatMulNBits."""

    format: BlockFormat
    accuracy_level: int = INT8_ACTIVATIONS

    @property
    def label(self) -> str:
        """E.g. `int4/32`."""
        kind = "" if self.format.symmetric else "a"
        return f"int{self.format.bits}{kind}/{self.format.block}"

    def apply(
        self,
        writer: Writer,
        name: str,
        x: str,
        weight: RowSource,
        bias: str | None,
        importance: Float32s | None = None,
    ) -> str:
        """One node, the bias in it."""
        regions = self.store(writer, name, weight, importance)
        return self.multiply(writer, name, x, regions, weight.row_size, bias)

    def store(
        self, writer: Writer, name: str, weight: RowSource, importance: Float32s | None = None
    ) -> tuple[Region, ...]:
        """Place weights, scales and, when asymmetric, zero points."""
        n, k, form = weight.n_rows, weight.row_size, self.format
        blocks = form.n_blocks(k)
        parts: list[tuple[str, DataType, Sequence[int]]] = [
            (f"{name}.weight", DataType.UINT8, (n, blocks, form.block_bytes)),
            (f"{name}.scales", DataType.FLOAT, (n, blocks)),
        ]
        if not form.symmetric:
            parts.append((f"{name}.zeros", DataType.UINT8, (n, form.zero_bytes(k))))
        return writer.place(parts, lambda regions: Job(weight, block_encoder(form, importance), regions))

    def multiply(
        self, writer: Writer, name: str, x: str, regions: tuple[Region, ...], k: int, bias: str | None
    ) -> str:
        """The node on weights that are already placed."""
        inputs = [x, *(writer.graph.external(region) for region in regions)]
        if bias is not None:
            inputs += [""] * (5 - len(inputs)) + [bias]
        return writer.graph.op(
            "MatMulNBits",
            inputs,
            name,
            domain=MICROSOFT,
            K=k,
            N=regions[0].shape[0],
            bits=self.format.bits,
            block_size=self.format.block,
            accuracy_level=self.accuracy_level,
        )

    def multiply_in_parts(
        self, writer: Writer, name: str, x: str, regions: tuple[Region, ...], k: int
    ) -> str:
        """The same for a matrix of very many rows, such as the head.

        x -+- rows 0..n ----- Concat
           '- rows n..2n ---'
        """
        n_rows = regions[0].shape[0]
        n_parts = -(-n_rows * k // _PART_WEIGHTS)
        if n_parts == 1:
            return self.multiply(writer, name, x, regions, k, None)
        step = -(-n_rows // n_parts // _ROWS_TOGETHER) * _ROWS_TOGETHER
        parts = []
        for start in range(0, n_rows, step):
            stop = min(start + step, n_rows)
            rows = tuple(region.rows(f"{region.name}.{start}", start, stop) for region in regions)
            parts.append(self.multiply(writer, f"{name}.{start}", x, rows, k, None))
        return writer.graph.op("Concat", parts, name, axis=-1)

    def gather(self, writer: Writer, name: str, ids: str, regions: tuple[Region, ...], k: int) -> str:
        """Rows of weights that are already placed, dequantized: an embedding that shares a tied head's bytes.

        Where the last block is partly empty, its padding comes along and is cut off.
        """
        weight, *rest = regions
        n, blocks, nbytes = weight.shape
        gathered = name if k % self.format.block == 0 else f"{name}/padded"
        flat = weight.seen_as(f"{name}.rows", (n, blocks * nbytes))
        inputs = [writer.graph.external(flat), ids, *(writer.graph.external(region) for region in rest)]
        writer.graph.op(
            "GatherBlockQuantized",
            inputs,
            gathered,
            domain=MICROSOFT,
            bits=self.format.bits,
            block_size=self.format.block,
            gather_axis=0,
            quantize_axis=1,
        )
        return name if gathered == name else _first_columns(writer.graph, name, gathered, k)


def block_encoder(form: BlockFormat, importance: Float32s | None = None) -> Callable[[Float32s], list[Any]]:
    """Rows to weights, scales and, when asymmetric, zero points."""
    return lambda rows: [array for array in onnx_blocks.encode(rows, form, importance) if array is not None]


def _first_columns(graph: Graph, name: str, x: str, k: int) -> str:
    import numpy as np

    bounds = {"slice_start": 0, "slice_stop": k, "slice_axis": 2}
    ends = [graph.constant(key, np.array([value], dtype=np.int64)) for key, value in bounds.items()]
    return graph.op("Slice", [x, *ends], name)


@dataclass(frozen=True)
class W8A8Linear:
    """Int8 weights with a scale for each output, int8 activations with a scale for each row, integer products.

    Rows are divided by their largest magnitude, so that one fixed activation scale serves all of them and the
    engine's fused integer kernel can be used; the product is scaled back by row.

        x -- Abs - ReduceMax -- Max(tiny) -- peak -------------------------.
         \\----- Div(peak) - QuantizeLinear(1/127, 128) - MatMulIntegerToFloat - Mul - (Add bias)
    """

    label: str = "w8a8"

    def apply(
        self,
        writer: Writer,
        name: str,
        x: str,
        weight: RowSource,
        bias: str | None,
        importance: Float32s | None = None,
    ) -> str:
        """Quantize the activations (once for all users of `x`), multiply, scale back."""
        n, k = weight.n_rows, weight.row_size
        regions = writer.place(
            [(f"{name}.weight", DataType.INT8, (k, n)), (f"{name}.scales", DataType.FLOAT, (n,))],
            lambda regions: Job(weight, encode_columns, regions, rows_together=n),
        )
        graph = writer.graph
        quantized, peak = self.quantize(graph, x)
        scale, zero = self._activation(graph)
        inputs = [quantized, graph.external(regions[0]), scale, graph.external(regions[1]), zero]
        product = graph.op("MatMulIntegerToFloat", inputs, f"{name}/product", domain=MICROSOFT)
        if bias is None:
            return graph.op("Mul", [product, peak], name)
        return graph.op("Add", [graph.op("Mul", [product, peak], f"{name}/scaled"), bias], name)

    def quantize(self, graph: Graph, x: str) -> tuple[str, str]:
        """uint8 activations around 128, and each row's largest magnitude [.., 1]."""
        import numpy as np

        quantized, peak = f"{x}/int8", f"{x}/peak"
        if graph.has(quantized):
            return quantized, peak
        axis = graph.constant("axis_last", np.array([-1], dtype=np.int64))
        tiny = graph.constant("tiny", np.array([1e-20], dtype=np.float32))  # a row of zeros stays one
        largest = graph.op("ReduceMax", [graph.op("Abs", [x], f"{x}/abs"), axis], f"{x}/largest", keepdims=1)
        graph.op("Max", [largest, tiny], peak)
        normed = graph.op("Div", [x, peak], f"{x}/normed")
        graph.op("QuantizeLinear", [normed, *self._activation(graph)], quantized)
        return quantized, peak

    def _activation(self, graph: Graph) -> tuple[str, str]:
        import numpy as np

        scale = graph.constant("activation_scale", np.array(1 / 127, dtype=np.float32))
        return scale, graph.constant("activation_zero", np.array(128, dtype=np.uint8))


def encode_columns(rows: Float32s) -> tuple[Any, Any]:
    """All rows [n_out, n_in] as int8 [n_in, n_out] in -127..127, and a scale for each output."""
    import numpy as np

    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    scales = (largest / np.float32(127)).astype(np.float32)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    columns = np.empty((rows.shape[1], rows.shape[0]), dtype=np.int8)
    step = max(1, (1 << 20) // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step] * inverse[start : start + step, None]
        columns[:, start : start + step] = np.rint(block).astype(np.int8).T
    return columns, scales
