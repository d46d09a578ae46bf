"""Softmax attention over all tokens before, the heads turned by position (https://arxiv.org/abs/2104.09864).

In a text every token has one position, whatever it is counted by: M-RoPE, which gives each pair of a head the
position in time, height or width, is the plain rotation there. So no section sizes are asked for here.
"""

from __future__ import annotations

import numpy as np

from edgellm.models.base import Role
from edgellm.models.reference.numerics import Float32s, rotate, sigmoid, softmax
from edgellm.models.reference.weights import Weights


def attention(weights: Weights, layer: int, x: Float32s, cosine: Float32s, sine: Float32s) -> Float32s:
    """What attention adds to the normed x [n_tokens, n_embd]; cosine and sine are `rotations`'."""
    spec, n_tokens = weights.spec, len(x)
    q, k, v = (
        weights.linear(x, role, layer).reshape(n_tokens, -1, spec.head_dim)
        for role in (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)
    )
    gate = None
    if spec.architecture.gated_attention:  # per head a query, then what its result is weighed by
        q, gate = q[:, ::2], q[:, 1::2]
    if spec.architecture.qk_norm:
        q = weights.norm(Role.ATTN_Q_NORM, layer, q)
        k = weights.norm(Role.ATTN_K_NORM, layer, k)
    q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
    if weights.cached:
        weights.cached(layer, k, v)
    mixed = np.empty_like(q)
    group = spec.n_head // spec.n_head_kv  # query heads that share a key and value head
    future = np.triu(np.full((n_tokens, n_tokens), -np.inf), 1)
    for head in range(spec.n_head):
        scores = q[:, head] @ k[:, head // group].T * (spec.head_dim**-0.5) + future
        mixed[:, head] = softmax(scores) @ v[:, head // group]
    if gate is not None:
        mixed = np.asarray(mixed * sigmoid(gate), dtype=np.float32)
    return weights.linear(mixed.reshape(n_tokens, -1), Role.ATTN_OUT, layer)
