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

    Bytes = npt.NDArray[np.uint8]
    Float32s = npt.NDArray[np.float32]

#: Columns whose errors are made up for together: the factor of more would take gigabytes.
SPAN = 8192
#: Of the mean diagonal of X'X, added to it: a text shows fewer directions than there are columns.
DAMPING = 0.01


class Feedback:
    """Encodes a matrix for `inputs` [n, row_size], what it is multiplied with on some text; rows in any pieces."""

    def __init__(self, format_: BlockFormat, inputs: Float32s) -> None:
        self._format = format_
        step = SPAN // format_.block * format_.block
        self._factors = [
            _factor(inputs[:, start : start + step]) for start in range(0, inputs.shape[1], step)
        ]

    def encode(self, rows: Float32s) -> Encoded:
        """Quantize rows [n_rows, row_size]."""
        import numpy as np

        ends = np.cumsum([len(factor) for factor in self._factors])[:-1]
        spans = zip(np.split(rows, ends, axis=1), self._factors, strict=True)
        parts = [_round(own, self._format, factor) for own, factor in spans]
        levels = np.concatenate([part[0] for part in parts], axis=1)
        scales, zeros = (np.concatenate([part[i] for part in parts], axis=1) for i in (1, 2))
        return blocks.packed(levels, scales, zeros, self._format)


def _round(rows: Float32s, format_: BlockFormat, factor: Float32s) -> tuple[Bytes, Float32s, Float32s]:
    """Levels [n_rows, n_blocks, block], scales and zero points [n_rows, n_blocks], for L [row_size, row_size]."""
    import numpy as np

    n_rows, n = rows.shape
    block, n_blocks = format_.block, format_.n_blocks(n)
    levels = np.zeros((n_rows, n_blocks, block), dtype=np.uint8)
    scales, zeros = (np.zeros((n_rows, n_blocks), dtype=np.float32) for _ in range(2))
    errors = np.zeros_like(rows)
    for index in reversed(range(n_blocks)):
        here = slice(index * block, min((index + 1) * block, n))
        diagonal = np.diagonal(factor)[here]
        asked = rows[:, here] + errors[:, here.stop :] @ factor[here.stop :, here] / diagonal
        scale, zero = blocks.choose(asked, format_, np.square(diagonal))
        scales[:, index], zeros[:, index] = scale, zero
        own, inverse = factor[here, here] / diagonal, blocks.reciprocal(scale)
        width = len(diagonal)
        inside = np.zeros((width, n_rows), dtype=np.float32)  # errors of this block, column by column
        for j in reversed(range(width)):
            target = asked[:, j] + own[j + 1 :, j] @ inside[j + 1 :]
            q = np.clip(np.floor(target * inverse + zero + np.float32(0.5)), 0, format_.levels)
            levels[:, index, j] = q
            inside[j] = rows[:, here.start + j] - (q - zero) * scale
        errors[:, here] = inside.T
        levels[:, index, width:] = zero[:, None]  # what is behind the row's end stands for nothing
    return levels, scales, zeros


def _factor(inputs: Float32s) -> Float32s:
    """L of X'X = L L', damped, for X [n, n_columns]."""
    import numpy as np

    products = inputs.T @ inputs
    diagonal = np.einsum("ii->i", products)
    diagonal += np.float32(max(DAMPING * diagonal.mean(), 1e-12))
    found: Float32s = np.linalg.cholesky(products)
    return found
