"""The pass through all layers, and their feed-forward blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgellm.models.base import LayerKind, ModelSpec, MoeSpec, Role
from edgellm.models.reference.attention import attention
from edgellm.models.reference.delta_net import delta_net
from edgellm.models.reference.numerics import Float32s, Rotation, rotations, sigmoid, softmax
from edgellm.models.reference.weights import BLOCK_BYTES, Cached, Rows, Watch, Weights
from edgellm.models.rope import frequencies


def logits(
    spec: ModelSpec,
    tensors: Mapping[str, Rows],
    tokens: Sequence[int],
    *,
    block_bytes: int = BLOCK_BYTES,
    watch: Watch | None = None,
    cached: Cached | None = None,
    rotation: Rotation | None = None,
) -> Float32s:
    """Logits [len(tokens), n_vocab] after each of `tokens`, the first at position 0.

    `tensors` are the checkpoint's, by their names in it. Reads each weight once (experts only when routed
    to), at most `block_bytes` of them, as float32, at a time. `rotation` takes the place of what models/rope.py
    computes from `spec`. Raises ValueError for a token id out of range.
    """
    if not tokens or not 0 <= min(tokens) <= max(tokens) < spec.n_vocab:
        raise ValueError(f"tokens must be one or more ids from 0 to {spec.n_vocab - 1}")
    weights = Weights(spec, tensors, block_bytes, watch, cached)
    x = weights.rows_of(Role.TOKEN_EMBD, tokens)
    cosine, sine = rotations(rotation or frequencies(spec), len(tokens))
    for layer in range(spec.n_layer):
        normed = weights.norm(Role.ATTN_NORM, layer, x)
        if spec.kind(layer) is LayerKind.DELTA_NET:
            x += delta_net(weights, layer, normed)
        else:
            x += attention(weights, layer, normed, cosine, sine)
        normed = weights.norm(Role.FFN_NORM, layer, x)
        x += _experts(weights, layer, normed, spec.moe) if spec.moe else _mlp(weights, layer, normed, _DENSE)
    x = weights.norm(Role.OUTPUT_NORM, None, x)
    head = Role.TOKEN_EMBD if spec.tied else Role.OUTPUT
    return weights.linear(x, head)


_DENSE = (Role.FFN_GATE, Role.FFN_UP, Role.FFN_DOWN)
_ROUTED = (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS)
_SHARED = (Role.FFN_GATE_SHEXP, Role.FFN_UP_SHEXP, Role.FFN_DOWN_SHEXP)


def _mlp(
    weights: Weights, layer: int, x: Float32s, roles: tuple[Role, Role, Role], expert: int | None = None
) -> Float32s:
    """down(silu(gate(x)) * up(x)) (https://arxiv.org/abs/2002.05202)."""
    gate, up = (weights.linear(x, role, layer, expert) for role in roles[:2])
    return weights.linear(np.asarray(gate * sigmoid(gate) * up, dtype=np.float32), roles[2], layer, expert)


def _experts(weights: Weights, layer: int, x: Float32s, moe: MoeSpec) -> Float32s:
    """Every token through its `n_expert_used` likeliest experts, weighted by the router, and the shared one."""
    share = softmax(weights.linear(x, Role.FFN_GATE_INP, layer))
    chosen = np.argsort(-share, axis=-1, kind="stable")[:, : moe.n_expert_used]
    scale = np.take_along_axis(share, chosen, axis=-1)
    if moe.norm_topk_prob:
        scale = scale / scale.sum(axis=-1, keepdims=True)
    out = np.zeros_like(x)
    for expert in np.unique(chosen):
        token, place = np.nonzero(chosen == expert)
        out[token] += scale[token, place, None] * _mlp(weights, layer, x[token], _ROUTED, int(expert))
    if moe.n_ff_shared:
        gate = sigmoid(weights.linear(x, Role.FFN_GATE_INP_SHEXP, layer))
        out += np.asarray(gate * _mlp(weights, layer, x, _SHARED), dtype=np.float32)
    return out
