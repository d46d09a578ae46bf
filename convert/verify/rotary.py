"""Rotary frequencies as transformers computes them from config.json, read apart from the converter.

A statement of its own of modeling_rope_utils.py (`convert_rope_params_to_dict`, `standardize_rope_params` and the
`_compute_*` functions), so that a wrong reading in models/ shows. Knows the configuration alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rotary:
    """What transformers rotates with."""

    theta: float
    kind: str  # "default" | "linear" | "llama3" | "yarn"
    factor: float
    original: int
    frequencies: Float32s = field(repr=False)  # [head_dim / 2], radians per position
    divisors: Float32s = field(repr=False)  # by how much each is below the plain one
    magnitude: float = 1.0  # of cosine and sine


def read(config: Mapping[str, Any], head_dim: int) -> Rotary:
    """The rotation a config.json asks for."""
    import numpy as np

    given = _parameters(config)
    theta, kind = float(given["rope_theta"]), str(given.get("rope_type", given.get("type", "default")))
    kind = "default" if kind == "mrope" else kind  # the configs of Qwen2-VL and Qwen2.5-VL in transformers
    context = int(config["max_position_embeddings"])
    original = int(given.get("original_max_position_embeddings") or context)
    factor = float(given.get("factor") or (context / original if kind == "yarn" else 1.0))
    steps = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = (1 / np.power(np.float32(theta), steps)).astype(np.float32)
    scaled, magnitude = plain, 1.0
    if kind == "linear":
        scaled = plain / np.float32(factor)
    elif kind == "llama3":
        scaled = _llama3(plain, given, factor, original)
    elif kind == "yarn":
        scaled = _yarn(plain, given, factor, original, theta)
        magnitude = _magnitude(given, factor)
    return Rotary(theta, kind, factor, original, scaled, (plain / scaled).astype(np.float32), magnitude)


def _parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    chosen = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    chosen = dict(chosen.get("full_attention") or chosen)
    if chosen.get("rope_theta") is None:
        chosen["rope_theta"] = config.get("rope_theta") or 10000.0
    outside = config.get("original_max_position_embeddings")
    if outside is not None:
        chosen["original_max_position_embeddings"] = outside
    return chosen


def _llama3(plain: Float32s, given: Mapping[str, Any], factor: float, original: int) -> Float32s:
    """Each frequency by itself: kept, divided, or a mixture of both."""
    import numpy as np

    low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
    found = []
    for frequency in plain:
        turns = original * float(frequency) / (2 * math.pi)  # within the original context
        share = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(float(frequency) * (share + (1 - share) / factor))
    return np.array(found, dtype=np.float32)


def _yarn(plain: Float32s, given: Mapping[str, Any], factor: float, original: int, theta: float) -> Float32s:
    """The pairs before the ramp are kept, those behind it divided."""
    import numpy as np

    head_dim = 2 * len(plain)
    bounds = [
        head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (float(given.get("beta_fast") or 32), float(given.get("beta_slow") or 1))
    ]
    low, high = max(math.floor(bounds[0]), 0), min(math.ceil(bounds[1]), head_dim - 1)
    found = []
    for pair, frequency in enumerate(plain):
        share = min(max((pair - low) / ((high - low) or 0.001), 0.0), 1.0)
        found.append(float(frequency) * (1 - share + share / factor))
    return np.array(found, dtype=np.float32)


def _magnitude(given: Mapping[str, Any], factor: float) -> float:
    def grown(weight: float) -> float:
        return 1.0 if factor <= 1 else 1.0 + 0.1 * weight * math.log(factor)

    if given.get("attention_factor") is not None:
        return float(given["attention_factor"])
    above, below = given.get("mscale"), given.get("mscale_all_dim")
    return grown(float(above)) / grown(float(below)) if above and below else grown(1.0)
