"""Rounding with error feedback: each column is rounded so that it makes up for what rounding the others cost.

What a matrix W costs when it becomes Q is the error of its products, |X (W - Q)|^2 over inputs X of a calibration text.
With X'X = L L' (Cholesky) that is |(W - Q) L|^2 row by row, whose part in column j holds the errors of the columns from
j on alone. So columns are rounded from the last to the first, each to the level next to its weight plus what the later
columns' errors ask of it. This is Babai's nearest plane, and what GPTQ does (E. Frantar et al., 2022,
https://arxiv.org/abs/2210.17323) without an inverse. Plain numpy; knows no files or graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgellm.convert.onnx import blocks
from edgellm.convert.onnx.blocks import BlockFormat, Encoded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]

#: Columns whose errors are made up for together: the factor of more would take gigabytes.
SPAN = 8192
#: Of the mean diagonal of X'X, added to it: a text shows fewer directions than there are columns.
DAMPING = 0.01


def encode(rows: Float32s, format_: BlockFormat, inputs: Float32s) -> Encoded:
    """Quantize rows [n_rows, row_size] for `inputs` [n, row_size], what they are multiplied with on some text."""
    import numpy as np

    n_rows, row_size = rows.shape
    step = SPAN // format_.block * format_.block
    parts = [
        _encode(rows[:, start : start + step], format_, inputs[:, start : start + step])
        for start in range(0, row_size, step)
    ]
    if len(parts) == 1:
        return parts[0]
    weights, scales = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    zeros = None if format_.symmetric else np.concatenate([part.zeros for part in parts], axis=1)  # type: ignore[misc]
    return Encoded(weights, scales, zeros)


def _encode(rows: Float32s, format_: BlockFormat, inputs: Float32s) -> Encoded:
    import numpy as np

    n_rows, n = rows.shape
    factor, block = _factor(inputs), format_.block
    n_blocks = format_.n_blocks(n)
    levels = np.zeros((n_rows, n_blocks, block), dtype=np.uint8)
    scales, zeros = (np.zeros((n_rows, n_blocks), dtype=np.float32) for _ in range(2))
    errors = np.zeros_like(rows)
    for index in reversed(range(n_blocks)):
        here = slice(index * block, min((index + 1) * block, n))
        diagonal = np.diagonal(factor)[here]
        asked = rows[:, here] + errors[:, here.stop :] @ factor[here.stop :, here] / diagonal
        scale, zero = blocks.choose(asked, format_, np.square(diagonal))
        scales[:, index], zeros[:, index] = scale, zero
        own = factor[here, here] / diagonal  # within the block, column by column
        inverse = blocks.reciprocal(scale)
        for j in reversed(range(len(diagonal))):
            target = asked[:, j] + errors[:, here][:, j + 1 :] @ own[j + 1 :, j]
            q = np.clip(np.floor(target * inverse + zero + np.float32(0.5)), 0, format_.levels)
            levels[:, index, j] = q
            errors[:, here.start + j] = rows[:, here.start + j] - (q - zero) * scale
        if len(diagonal) < block:
            levels[:, index, len(diagonal) :] = np.clip(zero[:, None], 0, format_.levels)
    return blocks.packed(levels, scales, zeros, format_)


def _factor(inputs: Float32s) -> Float32s:
    """L of X'X = L L', damped, for X [n, n_columns]."""
    import numpy as np

    products = inputs.T @ inputs
    diagonal = np.einsum("ii->i", products)
    diagonal += np.float32(max(DAMPING * diagonal.mean(), 1e-12))
    found: Float32s = np.linalg.cholesky(products)
    return found
