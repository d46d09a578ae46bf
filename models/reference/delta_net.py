"""The gated delta net: a memory of fixed size that each token fades and corrects (https://arxiv.org/abs/2412.06464).

    x -> qkv -> causal convolution, silu -> q, k of length 1, v
    S_t = a_t S_(t-1),  S_t += k_t (b_t (v_t - k_t S_t)),  o_t = q_t S_t / sqrt(head_dim)
    o -> norm, times silu(z) -> out

with a = exp(A softplus(alpha(x) + dt)), A below 0, and b = sigmoid(beta(x)), one of each for a value head.
Token by token, in float64. Source of the details: Qwen3_5GatedDeltaNet in transformers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgellm.models.base import DeltaNetSpec, Role
from edgellm.models.reference.numerics import Float32s, rms_norm, sigmoid
from edgellm.models.reference.weights import Weights

Float64s = npt.NDArray[np.float64]

LENGTH_EPS = 1e-6  # of q's and k's squared length: `l2norm` in transformers, whatever the norms have


def delta_net(weights: Weights, layer: int, x: Float32s) -> Float32s:
    """What the layer adds to the normed x [n_tokens, n_embd], the first token finding an empty memory."""
    net = weights.spec.delta_net
    assert net is not None
    n_tokens = len(x)
    mixed = _silu(_convolved(weights.linear(x, Role.ATTN_QKV, layer), weights.matrix(Role.SSM_CONV1D, layer)))
    q, k, v = (
        part.reshape(n_tokens, -1, net.head_dim) for part in np.split(mixed, [net.n_k, 2 * net.n_k], axis=-1)
    )
    step = np.logaddexp(
        0, weights.linear(x, Role.SSM_ALPHA, layer) + weights.vector(Role.SSM_DT, layer, "bias")
    )
    fade = np.exp(weights.vector(Role.SSM_A, layer, "") * step.astype(np.float64))
    write = sigmoid(weights.linear(x, Role.SSM_BETA, layer))
    found = _remembered(net, _of_length_one(q), _of_length_one(k), v, fade, write)
    found = rms_norm(found, weights.vector(Role.SSM_NORM, layer), weights.spec.rms_eps)
    gate = _silu(weights.linear(x, Role.ATTN_GATE, layer)).reshape(found.shape)
    return weights.linear((found * gate).astype(np.float32).reshape(n_tokens, -1), Role.SSM_OUT, layer)


def _convolved(x: Float32s, kernels: Float32s) -> Float64s:
    """Every channel of x [n_tokens, n_conv] with its kernel [n_conv, n]: its last weight sees the present token."""
    n = kernels.shape[1]
    padded = np.concatenate([np.zeros((n - 1, x.shape[1])), x.astype(np.float64)])
    return np.asarray(sum(padded[i : i + len(x)] * kernels[:, i] for i in range(n)))


def _silu(x: npt.NDArray[Any]) -> Float64s:
    return np.asarray(x * sigmoid(x))


def _of_length_one(heads: Float64s) -> Float64s:
    return np.asarray(heads / np.sqrt(np.sum(heads**2, axis=-1, keepdims=True) + LENGTH_EPS))


def _remembered(
    net: DeltaNetSpec, q: Float64s, k: Float64s, v: Float64s, fade: Float64s, write: Float64s
) -> Float32s:
    """What each token reads, [n_tokens, n_v_heads, head_dim], from one matrix a value head."""
    q, k = (np.repeat(heads, net.n_v_heads // net.n_k_heads, axis=1) for heads in (q, k))
    memory = np.zeros((net.n_v_heads, net.head_dim, net.head_dim))
    out = np.empty(v.shape, dtype=np.float32)
    for t in range(len(v)):
        memory *= fade[t, :, None, None]
        known = np.einsum("hk,hkv->hv", k[t], memory)
        memory += k[t][:, :, None] * (write[t, :, None] * (v[t] - known))[:, None, :]
        out[t] = np.einsum("hk,hkv->hv", q[t], memory) * net.head_dim**-0.5
    return out
