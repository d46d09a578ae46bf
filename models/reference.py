"""The oracle: a decoder's forward pass in plain numpy, read straight from a checkpoint's tensors.

Slow next to an engine and made to be right instead: float32 weights and products, float64 where it is cheap
(norms, softmax, gates). Weights are streamed layer by layer in blocks of rows, so memory stays small whatever
the model. Knows no file: tensors come in as anything that gives rows. Held against transformers in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgellm.models.base import ModelSpec, MoeSpec, Role, TensorSpec
from edgellm.models.rope import frequencies

Float32s = npt.NDArray[np.float32]

BLOCK_BYTES = 16 << 20  # of float32 weights held at a time


class Rows(Protocol):
    """A tensor seen as a matrix: all axes but the last flattened; one-dimensional is one row."""

    def rows(self, start: int, stop: int) -> Float32s:
        """Rows [start, stop) as float32 [stop - start, row_size]."""
        ...


#: Sees every matrix product's inputs [n, in]: role and layer of the matrix, the expert in it, the inputs. It may
#: change them in place, to see what rounding them does.
Watch = Callable[[Role, "int | None", "int | None", Float32s], None]

#: Sees what a KV cache would hold of a layer: the layer, keys, rotated, and values [n_tokens, n_head_kv, head_dim].
Cached = Callable[[int, Float32s, Float32s], None]


#: Radians per position of each pair [head_dim / 2], and what cosine and sine are multiplied by.
Rotation = tuple[Float32s, float]


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
    weights = _Weights(spec, tensors, block_bytes, watch, cached)
    x = weights.rows_of(Role.TOKEN_EMBD, tokens)
    cosine, sine = _rotations(rotation or frequencies(spec), len(tokens))
    for layer in range(spec.n_layer):
        x += _attention(weights, layer, _norm(weights, Role.ATTN_NORM, layer, x), cosine, sine)
        normed = _norm(weights, Role.FFN_NORM, layer, x)
        x += _experts(weights, layer, normed, spec.moe) if spec.moe else _mlp(weights, layer, normed, _DENSE)
    x = _norm(weights, Role.OUTPUT_NORM, None, x)
    head = Role.TOKEN_EMBD if spec.tied else Role.OUTPUT
    return weights.linear(x, head)


class _Weights:
    """Streams one model's weights through the few operations that touch them."""

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, Rows],
        block_bytes: int,
        watch: Watch | None,
        cached: Cached | None,
    ) -> None:
        self.spec = spec
        self.tensors = tensors
        self.block_bytes = block_bytes
        self.watch = watch
        self.cached = cached

    def need(self, role: Role, layer: int | None, suffix: str = "weight") -> TensorSpec:
        tensor = self.spec.tensor(role, layer, suffix)
        if tensor is None:
            raise KeyError(f"the model has no {role.value} {suffix}")
        return tensor

    def vector(self, role: Role, layer: int | None, suffix: str = "weight") -> Float32s:
        """A one-dimensional tensor."""
        (source,) = self.need(role, layer, suffix).sources
        row: Float32s = self.tensors[source.name].rows(0, 1)[0]
        return row

    def rows_of(self, role: Role, indices: Sequence[int]) -> Float32s:
        """Single rows of a matrix, [len(indices), row_size]."""
        (source,) = self.need(role, None).sources
        return np.concatenate([self.tensors[source.name].rows(i, i + 1) for i in indices])

    def linear(
        self, x: Float32s, role: Role, layer: int | None = None, expert: int | None = None
    ) -> Float32s:
        """x [n, in] times the transposed weight [out, in] (of one expert), plus the bias if there is one."""
        tensor = self.need(role, layer)
        if self.watch:
            self.watch(role, layer, expert, x)
        n_out = tensor.shape[-2]
        first = 0 if expert is None else expert * n_out
        out = np.empty((len(x), n_out), dtype=np.float32)
        for at, block in self._blocks(tensor, first, first + n_out):
            np.matmul(x, block.T, out=out[:, at : at + len(block)])
        if self.spec.tensor(role, layer, "bias") is not None:
            out += self.vector(role, layer, "bias")
        return out

    def _blocks(self, tensor: TensorSpec, start: int, stop: int) -> Iterator[tuple[int, Float32s]]:
        """Rows [start, stop) in blocks, each with its distance from `start`."""
        step = max(1, self.block_bytes // (4 * tensor.row_size))
        at = 0
        for span in tensor.spans(start, stop):
            rows = self.tensors[span.name].rows
            for first in range(span.start, span.stop, step):
                last = min(first + step, span.stop)
                yield at, rows(first, last)
                at += last - first


def _norm(weights: _Weights, role: Role, layer: int | None, x: Float32s) -> Float32s:
    return _rms_norm(x, weights.vector(role, layer), weights.spec.rms_eps)


def _rms_norm(x: Float32s, weight: Float32s, eps: float) -> Float32s:
    """x over the root of its mean square along the last axis (https://arxiv.org/abs/1910.07467)."""
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + eps) * weight, dtype=np.float32)


def _rotations(rotation: Rotation, n_tokens: int) -> tuple[Float32s, Float32s]:
    """Cosine and sine [n_tokens, 1, head_dim / 2] of every position's rotation of every pair."""
    radians_per_position, scale = rotation
    # The product in float32, as transformers has it: at large positions its rounding is part of the model.
    angles = np.arange(n_tokens, dtype=np.float32)[:, None, None] * radians_per_position
    angles = angles.astype(np.float64)
    return (np.cos(angles) * scale).astype(np.float32), (np.sin(angles) * scale).astype(np.float32)


def _rotate(heads: Float32s, cosine: Float32s, sine: Float32s) -> Float32s:
    """Rotary embedding of [n_tokens, n_heads, head_dim]: value i is paired with value i + head_dim / 2."""
    a, b = np.split(heads, 2, axis=-1)
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


def _attention(weights: _Weights, layer: int, x: Float32s, cosine: Float32s, sine: Float32s) -> Float32s:
    spec, n_tokens = weights.spec, len(x)
    q, k, v = (
        weights.linear(x, role, layer).reshape(n_tokens, -1, spec.head_dim)
        for role in (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)
    )
    if spec.architecture.qk_norm:
        q = _rms_norm(q, weights.vector(Role.ATTN_Q_NORM, layer), spec.rms_eps)
        k = _rms_norm(k, weights.vector(Role.ATTN_K_NORM, layer), spec.rms_eps)
    q, k = _rotate(q, cosine, sine), _rotate(k, cosine, sine)
    if weights.cached:
        weights.cached(layer, k, v)
    mixed = np.empty_like(q)
    group = spec.n_head // spec.n_head_kv  # query heads that share a key and value head
    future = np.triu(np.full((n_tokens, n_tokens), -np.inf), 1)
    for head in range(spec.n_head):
        scores = q[:, head] @ k[:, head // group].T * (spec.head_dim**-0.5) + future
        mixed[:, head] = _softmax(scores) @ v[:, head // group]
    return weights.linear(mixed.reshape(n_tokens, -1), Role.ATTN_OUT, layer)


def _softmax(x: npt.NDArray[Any]) -> Float32s:
    """Along the last axis, in float64."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def _sigmoid(x: Float32s) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, and 1 / inf is the right answer
        return 1 / (1 + np.exp(-x.astype(np.float64)))


_DENSE = (Role.FFN_GATE, Role.FFN_UP, Role.FFN_DOWN)
_ROUTED = (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS)
_SHARED = (Role.FFN_GATE_SHEXP, Role.FFN_UP_SHEXP, Role.FFN_DOWN_SHEXP)


def _mlp(
    weights: _Weights, layer: int, x: Float32s, roles: tuple[Role, Role, Role], expert: int | None = None
) -> Float32s:
    """down(silu(gate(x)) * up(x)) (https://arxiv.org/abs/2002.05202)."""
    gate, up = (weights.linear(x, role, layer, expert) for role in roles[:2])
    return weights.linear(np.asarray(gate * _sigmoid(gate) * up, dtype=np.float32), roles[2], layer, expert)


def _experts(weights: _Weights, layer: int, x: Float32s, moe: MoeSpec) -> Float32s:
    """Every token through its `n_expert_used` likeliest experts, weighted by the router, and the shared one."""
    share = _softmax(weights.linear(x, Role.FFN_GATE_INP, layer))
    chosen = np.argsort(-share, axis=-1, kind="stable")[:, : moe.n_expert_used]
    scale = np.take_along_axis(share, chosen, axis=-1)
    if moe.norm_topk_prob:
        scale = scale / scale.sum(axis=-1, keepdims=True)
    out = np.zeros_like(x)
    for expert in np.unique(chosen):
        token, place = np.nonzero(chosen == expert)
        out[token] += scale[token, place, None] * _mlp(weights, layer, x[token], _ROUTED, int(expert))
    if moe.n_ff_shared:
        gate = _sigmoid(weights.linear(x, Role.FFN_GATE_INP_SHEXP, layer))
        out += np.asarray(gate * _mlp(weights, layer, x, _SHARED), dtype=np.float32)
    return out
