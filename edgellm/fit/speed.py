"""How fast a build will be: each matrix at its kernel's measured pace, and what a token costs beside them.

    decode   a token's share of every matrix at the kernel's seconds a weight, or the memory's bandwidth where that is
             less; layers, the vocabulary's rows, attention by heads, their width and the positions looked at
    prefill  the same matrices at the pace of many tokens together, the head once

A mixture reads in a prompt every expert that some token is sent to, so that few tokens for each run at decode's pace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgellm.fit.figures import Beside, Figures, Kernel
from edgellm.fit.model import Build, Matrix, Numbers

_UBATCH = {"llamacpp": 512, "onnxruntime": 256}


@dataclass(frozen=True)
class Speed:
    """Tokens a second, and the share by which either may be off."""

    decode: float
    prefill: float
    spread: float


def predict(
    build: Build, figures: Figures, *, n_prompt: int, n_gen: int, n_depth: int = 0, spread: float
) -> Speed | None:
    """Of a prompt of `n_prompt` tokens behind `n_depth`, and `n_gen` decoded after; None where a kernel is unknown."""
    beside = figures.beside
    if beside is None or any(matrix.kernel not in figures.kernels for matrix in build.matrices):
        return None
    depth = n_depth + n_prompt + n_gen / 2
    decode = _token(build.numbers, beside, depth) + sum(
        _decode(matrix, figures.kernels) for matrix in build.matrices
    )
    return Speed(1 / decode, n_prompt / _prompt(build, figures, beside, n_prompt, n_depth), spread)


def missing(build: Build, figures: Figures) -> set[str]:
    """Kernels that nothing is known of."""
    return {matrix.kernel for matrix in build.matrices} - figures.kernels.keys()


def _decode(matrix: Matrix, kernels: Mapping[str, Kernel]) -> float:
    kernel = kernels[matrix.kernel]
    return matrix.share * (matrix.n_weights * kernel.decode + matrix.n_rows * kernel.decode_output)


def _token(numbers: Numbers, beside: Beside, depth: float) -> float:
    """Of a decoded token, beside its matrices."""
    by_position = numbers.n_attention * numbers.n_head * depth
    attention = by_position * (beside.head + numbers.head_dim * beside.head_value)
    return beside.token + numbers.n_layer * beside.layer + numbers.n_vocab * beside.row + attention


def _prompt(build: Build, figures: Figures, beside: Beside, n_prompt: int, n_depth: int) -> float:
    """Seconds of a whole prompt, its first token drawn."""
    numbers, step = build.numbers, _UBATCH[build.engine]
    seconds = numbers.n_vocab * beside.row
    for start in range(0, n_prompt, step):
        n = min(step, n_prompt - start)
        seconds += beside.token + numbers.n_layer * beside.layer
        for matrix in build.matrices:
            if not matrix.is_head:
                seconds += _many(matrix, figures.kernels[matrix.kernel], n)
        by_position = numbers.n_attention * numbers.n_head * n * (n_depth + start + n / 2)
        seconds += by_position * (beside.prefill_head + numbers.head_dim * beside.prefill_head_value)
    head = sum(_decode(matrix, figures.kernels) for matrix in build.matrices if matrix.is_head)
    return seconds + head


def _many(matrix: Matrix, kernel: Kernel, n: int) -> float:
    """Of `n` tokens together: every expert that is met is read once, and each token multiplied with its share."""
    weights, rows = matrix.n_weights / matrix.n_expert, matrix.n_rows / matrix.n_expert
    once = weights * kernel.decode + rows * kernel.decode_output
    each = weights * kernel.prefill + rows * kernel.prefill_output
    met = matrix.n_expert * (1 - (1 - matrix.share) ** n)
    return met * max(0.0, once - each) + n * matrix.n_used * each
