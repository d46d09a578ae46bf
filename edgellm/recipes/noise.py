"""How far a type moves what a matrix computes: the noise in its outputs over their power, per type.

With w a matrix, w' what a type makes of it and s_j the mean square of input j (an importance matrix has it),
noise = sum_ij (w_ij - w'_ij)^2 s_j / sum_ij w_ij^2 s_j, inputs taken as uncorrelated. It has no unit, so roles and
depths compare. Knows types and rows, nothing of models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgellm.convert.gguf import ggml
from edgellm.convert.onnx.blocks import decode, encode
from edgellm.convert.onnx.linear import BlockLinear, W8A8Linear
from edgellm.convert.onnx.options import encoding_of
from edgellm.formats.gguf.types import GGML_TYPES_BY_NAME

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]


def noise(rows: Float32s, type_: str, importance: Float32s | None) -> float:
    """Of `rows` [n, row_size] in a GGUF type or an ONNX encoding."""
    import numpy as np

    weights = np.ones(rows.shape[1], np.float32) if importance is None else importance
    power = np.einsum("ij,ij,j->", rows, rows, weights, dtype=np.float64)
    wrong = rows - rounded(rows, type_, importance)
    return float(np.einsum("ij,ij,j->", wrong, wrong, weights, dtype=np.float64) / max(power, 1e-30))


def rounded(rows: Float32s, type_: str, importance: Float32s | None) -> Float32s:
    """What a type makes of rows [n, row_size]."""
    if type_ in GGML_TYPES_BY_NAME:
        return through_ggml(rows, type_, importance)[1]
    encoding: Any = encoding_of(type_)
    if isinstance(encoding, BlockLinear):
        return decode(encode(rows, encoding.format, importance), encoding.format, rows.shape[1])
    if isinstance(encoding, W8A8Linear):
        return _by_row(rows)
    return rows


def through_ggml(
    rows: Float32s, type_: str, importance: Float32s | None
) -> tuple[npt.NDArray[np.uint8], Float32s]:
    """Rows in a ggml type: the bytes, and what they stand for."""
    import numpy as np

    kind = GGML_TYPES_BY_NAME[type_]
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    encoded = np.empty(kind.nbytes(rows.size), np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    address = None if weights is None else weights.ctypes.data
    n_rows, n_per_row = rows.shape
    ggml.quantize(kind, rows.ctypes.data, encoded.ctypes.data, n_rows, n_per_row, address)
    out = np.empty_like(rows)
    ggml.dequantizer(kind)(encoded.ctypes.data, out.ctypes.data, rows.size)
    return encoded, out


def _by_row(rows: Float32s) -> Float32s:
    """Int8 with a scale for each output."""
    import numpy as np

    scales = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    return np.asarray(np.rint(rows / scales) * scales, np.float32)
