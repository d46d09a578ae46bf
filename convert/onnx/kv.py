"""Scales for an int8 KV cache: what each channel of every layer's keys and values reaches on a short text.

The oracle runs the text once, at conversion; the scales are constants of the graph. A key is rotated by its
position, which moves values between the two channels of a pair, so both take the pair's largest radius: no
position can leave the range that the text has shown. Knows no graph and no tokenizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgellm.models.base import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.convert.onnx.rows import Tensors

    Float32s = npt.NDArray[np.float32]

N_TOKENS = 256  # of calibration: more find hardly larger values, and large models take minutes
LARGEST = 127
#: Room beyond what the text has shown. Cutting off a value costs far more than coarser steps: without room, KLD
#: on the bundled models is twenty times that with half as much again.
MARGIN = 1.5
_TINY = 1e-6  # a channel that is always zero still needs a scale


class LayerScales(NamedTuple):
    """What one step of int8 stands for, by channel [n_head_kv, head_dim]."""

    key: Float32s
    value: Float32s


class _Enough(Exception):
    """The last layer was seen."""


def measure(spec: ModelSpec, tensors: Tensors, tokens: Sequence[int]) -> list[LayerScales]:
    """Run `tokens` through the oracle and take each channel's largest magnitude."""
    from edgellm.models import reference

    found: list[LayerScales] = []

    def see(layer: int, keys: Float32s, values: Float32s) -> None:
        found.append(_scales(keys, values))
        if layer == spec.n_layer - 1:
            raise _Enough  # neither the last feed-forward block nor the head says more

    with contextlib.suppress(_Enough):
        reference.logits(spec, tensors, tokens, cached=see)
    return found


def _scales(keys: Float32s, values: Float32s) -> LayerScales:
    """From keys, rotated, and values [n_tokens, n_head_kv, head_dim]."""
    import numpy as np

    a, b = np.split(keys, 2, axis=-1)
    radius = np.sqrt(np.square(a) + np.square(b)).max(axis=0)
    reach = np.concatenate([radius, radius], axis=-1), np.abs(values).max(axis=0)
    key, value = (np.maximum(peak * (MARGIN / LARGEST), _TINY).astype(np.float32) for peak in reach)
    return LayerScales(key, value)
