"""Scales for an int8 KV cache: what each channel of every layer's keys and values reaches on a short text.

The oracle runs the text once, at conversion; the scales are constants of the graph. A key is rotated by its
position, which moves values between the two channels of a pair, so both take the pair's largest radius: no
position can leave the range that the text has shown. Layers without such a cache, delta nets, have none. Knows no
graph and no tokenizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgellm.models.base import LayerKind, ModelSpec

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


def measure(spec: ModelSpec, tensors: Tensors, tokens: Sequence[int]) -> dict[int, LayerScales]:
    """Run `tokens` through the oracle and take each channel's largest magnitude, for every layer with attention."""
    from edgellm.models import reference

    found: dict[int, LayerScales] = {}
    last = max(layer for layer in range(spec.n_layer) if spec.kind(layer) is LayerKind.ATTENTION)

    def see(layer: int, keys: Float32s, values: Float32s) -> None:
        found[layer] = _scales(keys, values, spec.n_rotary)
        if layer == last:
            raise _Enough  # neither the last feed-forward block nor the head says more

    with contextlib.suppress(_Enough):
        reference.logits(spec, tensors, tokens, cached=see)
    return found


def _scales(keys: Float32s, values: Float32s, n_rotary: int) -> LayerScales:
    """From keys, their first `n_rotary` values rotated, and values [n_tokens, n_head_kv, head_dim]."""
    import numpy as np

    a, b = np.split(keys[..., :n_rotary], 2, axis=-1)
    radius = np.sqrt(np.square(a) + np.square(b)).max(axis=0)
    still = np.abs(keys[..., n_rotary:]).max(axis=0)
    reach = np.concatenate([radius, radius, still], axis=-1), np.abs(values).max(axis=0)
    key, value = (np.maximum(peak * (MARGIN / LARGEST), _TINY).astype(np.float32) for peak in reach)
    return LayerScales(key, value)
