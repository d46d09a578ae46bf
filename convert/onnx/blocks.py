"""Block quantization as ONNX Runtime's MatMulNBits stores it: rounding, scale search, packing. Plain numpy.

A row of K weights is cut into blocks, each with a float32 scale and, when asymmetric, a zero point; a weight is
(q - zero) * scale. Round-to-nearest follows MLAS (`BlockwiseQuantizer` in onnxruntime/core/mlas/lib/q4_dq.cpp),
and the tests hold it against the library's own quantizer. Knows nothing of files or graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from edgellm.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

BLOCK_SIZES = (16, 32, 64, 128, 256)
ALGORITHMS = ("rtn", "search", "kquant")

#: How far the search moves a block's scale from the one that just reaches its largest weight, as factors.
_SEARCH_FACTORS = tuple(1.0 + 0.025 * step for step in range(-8, 5))
#: How much of a block's range k-quant candidates cover: clipping the ends costs little where few weights are.
_SHRINKS = tuple(1.0 - 0.04 * step for step in range(8))


@dataclass(frozen=True)
class BlockFormat:
    """How a matrix is stored for MatMulNBits."""

    bits: int  # 4 or 8
    block: int  # weights that share a scale
    symmetric: bool = True
    algorithm: str = (
        "rtn"  # "rtn" | "search" (symmetric, least squared error) | "kquant" (asymmetric, weighted)
    )

    def __post_init__(self) -> None:
        if self.block not in BLOCK_SIZES:
            raise UsageError(f"block size {self.block} is not one of {', '.join(map(str, BLOCK_SIZES))}")
        if self.algorithm not in ALGORITHMS:
            raise UsageError(f"algorithm {self.algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        if self.algorithm == "search" and not self.symmetric:
            raise UsageError("algorithm search is for symmetric blocks; choose kquant for asymmetric ones")
        if self.algorithm == "kquant" and self.symmetric:
            raise UsageError("algorithm kquant needs asymmetric blocks: add symmetric=false")

    @property
    def levels(self) -> int:
        """Largest stored value: 15 or 255."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of symmetric blocks: 8 or 128."""
        return 1 << (self.bits - 1)

    def n_blocks(self, row_size: int) -> int:
        """Blocks in a row; the last may be partly empty."""
        return -(-row_size // self.block)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block's weights."""
        return self.block * self.bits // 8

    def zero_bytes(self, row_size: int) -> int:
        """Bytes of a row's packed zero points."""
        return -(-self.n_blocks(row_size) * self.bits // 8)


class Encoded(NamedTuple):
    """Quantized rows."""

    weights: Bytes  # [n_rows, n_blocks, block_bytes]
    scales: Float32s  # [n_rows, n_blocks]
    zeros: Bytes | None  # [n_rows, zero_bytes]; None when symmetric


def encode(rows: Float32s, format_: BlockFormat, importance: Float32s | None = None) -> Encoded:
    """Quantize float32 rows [n_rows, row_size]. They must be finite.

    `importance` [row_size] weighs the columns' errors where scales are searched for; round-to-nearest has no use
    for it.
    """
    blocks = _in_blocks(rows, format_.block)
    columns = None if importance is None else _in_blocks(importance[None], format_.block)
    scales, zeros = _CHOOSERS[format_.algorithm](blocks, format_, columns)
    q = _quantize(blocks, scales, zeros, format_)
    packed = None if format_.symmetric else _pack_zeros(zeros, format_.bits)
    return Encoded(_pack(q, format_.bits), scales, packed)


def decode(encoded: Encoded, format_: BlockFormat, row_size: int) -> Float32s:
    """The weights that `encoded` stands for, [n_rows, row_size]: what tests and error figures compare with."""
    import numpy as np

    q = _unpack(encoded.weights, format_.bits)
    zeros: Any = format_.middle
    if encoded.zeros is not None:
        zeros = _unpack(encoded.zeros, format_.bits)[:, : q.shape[1], None]
    values = (q.astype(np.float32) - np.float32(zeros)) * encoded.scales[:, :, None]
    return np.ascontiguousarray(values.reshape(len(q), -1)[:, :row_size])


def _in_blocks(rows: Float32s, block: int) -> Float32s:
    import numpy as np

    n_rows, row_size = rows.shape
    if row_size % block:
        padded = np.zeros((n_rows, -(-row_size // block) * block), dtype=np.float32)
        padded[:, :row_size] = rows
        rows = padded
    return rows.reshape(n_rows, -1, block)


def _quantize(blocks: Float32s, scales: Float32s, zeros: Any, format_: BlockFormat) -> Bytes:
    import numpy as np

    q: Any = blocks * _reciprocal(scales)[:, :, None]
    q += zeros if np.isscalar(zeros) else zeros[:, :, None]
    q += np.float32(0.5)  # as MLAS: halves away from zero, and what is negative is clipped
    np.floor(q, out=q)
    np.clip(q, 0, format_.levels, out=q)
    return np.asarray(q, dtype=np.uint8)


def _reciprocal(scales: Float32s) -> Float32s:
    import numpy as np

    inverse = np.zeros_like(scales)
    np.divide(np.float32(1), scales, out=inverse, where=scales != 0)
    return inverse


def _round_to_nearest(
    blocks: Float32s, format_: BlockFormat, columns: Float32s | None = None
) -> tuple[Float32s, Any]:
    import numpy as np

    low, high = blocks.min(axis=2), blocks.max(axis=2)
    if format_.symmetric:
        largest = np.where(np.abs(high) > np.abs(low), high, low)  # keeps its sign: it gets the extra level
        return largest / np.float32(-format_.middle), np.float32(format_.middle)
    np.minimum(low, 0, out=low)
    np.maximum(high, 0, out=high)
    scales = (high - low) / np.float32(format_.levels)
    zeros = np.clip(np.rint(-low * _reciprocal(scales)), 0, format_.levels)
    return scales, zeros.astype(np.float32)


def _search(blocks: Float32s, format_: BlockFormat, columns: Float32s | None) -> tuple[Float32s, Any]:
    """The scale of least squared error, weighed by column, among factors of the plain one, each refitted."""
    import numpy as np

    plain, middle = _round_to_nearest(blocks, format_)
    best, least = plain.copy(), np.full(plain.shape, np.inf, dtype=np.float32)
    for factor in _SEARCH_FACTORS:
        scales = plain * np.float32(factor)
        levels = _quantize(blocks, scales, middle, format_).astype(np.float32) - middle
        weighted = levels if columns is None else levels * columns
        power = np.einsum("rbi,rbi->rb", weighted, levels)
        fitted = np.einsum("rbi,rbi->rb", weighted, blocks) * _reciprocal(power)
        error = -fitted * fitted * power  # the squared error, but for a constant
        better = (error < least) & (power > 0)
        best[better], least[better] = fitted[better], error[better]
    return best, middle


def _kquant(blocks: Float32s, format_: BlockFormat, columns: Float32s | None) -> tuple[Float32s, Any]:
    """Scale and zero point of least weighted squared error, larger weights and `columns` counting more.

    The weighting (root mean square plus magnitude) and the shrinking of the range are those of llama.cpp's
    k-quants (ggml-quants.c, make_qkx2_quants), with the zero point rounded to an integer as the format wants.
    """
    import numpy as np

    importance = np.abs(blocks)
    importance += np.sqrt(np.mean(np.square(blocks), axis=2, keepdims=True))
    if columns is not None:
        importance *= columns
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    best_scale, best_zero = _round_to_nearest(blocks, format_)
    least = np.full(low.shape, np.inf, dtype=np.float32)
    for shrink in _SHRINKS:
        scales = (high - low) * np.float32(shrink / format_.levels)
        zeros = np.clip(np.rint(-low * np.float32(shrink) * _reciprocal(scales)), 0, format_.levels)
        levels = _quantize(blocks, scales, zeros, format_) - zeros[:, :, None]
        weighted = importance * levels
        power = np.einsum("rbi,rbi->rb", weighted, levels)
        fitted = np.einsum("rbi,rbi->rb", weighted, blocks) * _reciprocal(power)
        error = -fitted * fitted * power
        better = (error < least) & (power > 0) & (fitted > 0)
        for found, chosen in ((fitted, best_scale), (zeros, best_zero), (error, least)):
            chosen[better] = found[better]
    return best_scale, best_zero


_CHOOSERS: dict[str, Callable[[Float32s, BlockFormat, Float32s | None], tuple[Float32s, Any]]] = {
    "rtn": _round_to_nearest,
    "search": _search,
    "kquant": _kquant,
}


def _pack(q: Bytes, bits: int) -> Bytes:
    """Two 4-bit values to a byte, the first in the lower half."""
    import numpy as np

    if bits == 8:
        return q
    packed: Bytes = q[..., 1::2] << np.uint8(4)
    packed |= q[..., 0::2]
    return packed


def _unpack(packed: Bytes, bits: int) -> Bytes:
    import numpy as np

    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _pack_zeros(zeros: Float32s, bits: int) -> Bytes:
    import numpy as np

    q = zeros.astype(np.uint8)
    if bits == 4 and q.shape[1] % 2:
        q = np.pad(q, ((0, 0), (0, 1)))
    return _pack(q, bits)
