"""Norms, softmax, gates and rotation in numpy, in float64 where that is cheap. Knows arrays alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]

#: Radians per position of each pair [n_rot / 2], and what cosine and sine are multiplied by.
Rotation = tuple[Float32s, float]


def rms_norm(x: Float32s, weight: Float32s, eps: float) -> Float32s:
    """x over the root of its mean square along the last axis (https://arxiv.org/abs/1910.07467)."""
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + eps) * weight, dtype=np.float32)


def rotations(rotation: Rotation, n_tokens: int) -> tuple[Float32s, Float32s]:
    """Cosine and sine [n_tokens, 1, n_rot / 2] of every position's rotation of every pair."""
    radians_per_position, scale = rotation
    # The product in float32, as transformers has it: at large positions its rounding is part of the model.
    angles = np.arange(n_tokens, dtype=np.float32)[:, None, None] * radians_per_position
    angles = angles.astype(np.float64)
    return (np.cos(angles) * scale).astype(np.float32), (np.sin(angles) * scale).astype(np.float32)


def rotate(heads: Float32s, cosine: Float32s, sine: Float32s) -> Float32s:
    """Rotary embedding of the first n_rot values of [n_tokens, n_heads, head_dim]: i is paired with i + n_rot / 2."""
    half = cosine.shape[-1]
    a, b, rest = np.split(heads, [half, 2 * half], axis=-1)
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], axis=-1)


def softmax(x: npt.NDArray[Any]) -> Float32s:
    """Along the last axis, in float64."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def sigmoid(x: Float32s) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x)), in float64."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, and 1 / inf is the right answer
        return 1 / (1 + np.exp(-x.astype(np.float64)))
