"""Rotary frequencies: plain, and with the llama3, linear and yarn scalings.

The formulas are those of transformers (`modeling_rope_utils.py`), computed in its order and precision
(float32), so that what a GGUF file holds equals what the model was trained with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.models.base import ModelSpec, RopeScaling

    Float32s = npt.NDArray[np.float32]

YARN_BETA_FAST = 32.0
YARN_BETA_SLOW = 1.0


def yarn_attention_factor(factor: float, mscale: float = 1.0) -> float:
    """What yarn multiplies cosine and sine by: 0.1 ln(factor) + 1 (https://arxiv.org/abs/2309.00071).

    DeepSeek's configurations weigh the logarithm with an `mscale` of their own.
    """
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


def llama3_divisors(spec: ModelSpec) -> Float32s:
    """By how much llama3 scaling divides each of the head_dim / 2 frequencies: GGUF's `rope_freqs.weight`.

    Wavelengths that fit often into the original context stay (1), long ones are stretched by the factor, and
    between the two the frequency is interpolated. Source: `_compute_llama3_parameters` in transformers.
    """
    import numpy as np

    scaling = spec.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        raise ValueError("only llama3 rope scaling has divisors")
    original, low, high = (
        scaling.original_max_position_embeddings,
        scaling.low_freq_factor,
        scaling.high_freq_factor,
    )
    wavelength = np.float32(2 * math.pi) / _plain(spec)
    smooth = (np.float32(original) / wavelength - np.float32(low)) / np.float32(high - low)
    one = np.float32(1)
    between = one / ((one - smooth) / np.float32(scaling.factor) + smooth)
    divisors = np.where(wavelength > original / low, np.float32(scaling.factor), between)
    divisors[wavelength < original / high] = 1
    return np.asarray(divisors, dtype=np.float32)


def frequencies(spec: ModelSpec) -> tuple[Float32s, float]:
    """Radians per position of each of the n_rotary / 2 pairs, and what cosine and sine are multiplied by."""
    import numpy as np

    plain, scaling = _plain(spec), spec.rope_scaling
    if scaling is None:
        return plain, 1.0
    if scaling.kind == "llama3":
        return plain / llama3_divisors(spec), 1.0
    if scaling.kind == "linear":
        return plain / np.float32(scaling.factor), 1.0
    return _yarn(spec, scaling, plain), scaling.attention_factor or yarn_attention_factor(scaling.factor)


def _plain(spec: ModelSpec) -> Float32s:
    import numpy as np

    exponents = np.arange(0, spec.n_rotary, 2, dtype=np.float32) / np.float32(spec.n_rotary)
    return np.asarray(np.float32(1) / np.power(np.float32(spec.rope_theta), exponents), dtype=np.float32)


def _yarn(spec: ModelSpec, scaling: RopeScaling, plain: Float32s) -> Float32s:
    """Fast pairs keep their frequency, slow ones are divided by the factor, with a ramp between."""
    import numpy as np

    def pair_turning(turns: float) -> float:
        """The pair (a fraction of one) that turns this often within the original context."""
        context = scaling.original_max_position_embeddings
        return spec.n_rotary * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(spec.rope_theta))

    low = max(math.floor(pair_turning(scaling.beta_fast or YARN_BETA_FAST)), 0)
    high = min(math.ceil(pair_turning(scaling.beta_slow or YARN_BETA_SLOW)), spec.n_rotary - 1)
    width = high - low if high != low else 0.001
    ramp = np.clip((np.arange(spec.n_rotary // 2, dtype=np.float32) - low) / np.float32(width), 0, 1)
    return np.asarray(plain / np.float32(scaling.factor) * ramp + plain * (1 - ramp), dtype=np.float32)
