"""What llama.cpp sets aside in memory for a model, foretold from the header. Knows formulas; opens no engine.

Its graph is laid out for a full physical batch with logits at every token, so scratch memory is the largest of
four places: the head, a feed-forward block, attention without flash attention, whose scores take a row for each
position, and a gated delta net. The formulas were read off the sizes it logs (tests hold them against that log) and
do not know the holes its allocator leaves, a few percent of scratch memory where feed-forward blocks are narrow or
heads wide.
Weights are as it maps them, plus the copies its CPU kernels want in another order (ggml/src/ggml-cpu/repack.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgellm.backends import checkpoints
from edgellm.backends.llama import lib
from edgellm.errors import ArtifactError
from edgellm.formats.gguf.families import FAMILIES
from edgellm.machine import hardware
from edgellm.session import Buffers, EngineOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgellm.formats.artifact import Artifact
    from edgellm.formats.gguf.header import GgufTensor

_CTX_STEP = 256  # llama.cpp rounds a context up to this
_FLOAT = 4
_INDICES = 24  # bytes of positions and row numbers for each token of a batch


@dataclass(frozen=True)
class Planned:
    """A file that is not there yet, by what its header will say."""

    architecture: str
    metadata: Mapping[str, Any]
    n_ctx_train: int
    tensors: Mapping[str, GgufTensor] = field(repr=False)


#: Where the caller left it open.
DEFAULTS = EngineOptions(n_batch=2048, n_ubatch=512, type_k="f16", type_v="f16", use_mmap=True)


def with_defaults(options: EngineOptions) -> EngineOptions:
    """llama.cpp's own defaults in the places left open that do not depend on machine or model."""
    names = ("n_batch", "n_ubatch", "type_k", "type_v", "use_mmap")
    missing = {name: getattr(DEFAULTS, name) for name in names if getattr(options, name) is None}
    return replace(options, **missing)


def predict(artifact: Artifact | Planned, options: EngineOptions) -> Buffers:
    """For a GGUF file opened with `options`, whose `n_ctx` is known, on the CPU. Raises ArtifactError."""
    options = with_defaults(options)
    per_token, state = kv_bytes_per_token(artifact, options), state_bytes(artifact)
    if per_token is None or state is None:
        raise ArtifactError(
            f"unknown: what a {artifact.architecture} model keeps of its text is not known here"
        )
    assert options.n_batch and options.n_ubatch
    n_block = artifact.metadata.get(f"{artifact.architecture}.block_count", 0)
    drafting = () if options.mtp else tuple(f"blk.{i}." for i in range(_n_layer(artifact), n_block))
    parts = [
        {name: tensor for name, tensor in part.items() if not name.startswith(drafting)}
        for part in _tensors(artifact)
    ]
    tensors = {name: tensor for part in parts for name, tensor in part.items()}
    n_ctx = options.n_ctx or artifact.n_ctx_train
    copied = repacked(tensors) if options.repack is not False else {}
    mapped = options.use_mmap is not False
    return Buffers(
        weights=sum(_weights(part, copied, mapped=mapped) for part in parts),
        repacked=sum(tensor.nbytes for tensor in copied.values()),
        kv=round(per_token * _padded(n_ctx)) + state,
        compute=_compute(artifact, tensors, min(options.n_ubatch, options.n_batch, n_ctx), n_ctx, options),
        source="prediction",
        checkpoints=checkpoint_bytes(artifact, options) or 0,
    )


def kv_bytes_per_token(artifact: Artifact | Planned, options: EngineOptions) -> float | None:
    """Bytes of KV cache one token takes: layers that attend * n_head_kv * head_dim * (bytes of K + bytes of V).

    None for an architecture outside the verified families, which may keep less, or something else.
    """
    if artifact.architecture not in FAMILIES:
        return None
    meta, prefix = artifact.metadata, artifact.architecture
    heads = meta.get(f"{prefix}.attention.head_count", 1)
    heads_kv = meta.get(f"{prefix}.attention.head_count_kv", heads)
    head_dim = meta.get(f"{prefix}.embedding_length", 0) // heads
    dim_k = meta.get(f"{prefix}.attention.key_length", head_dim)
    dim_v = meta.get(f"{prefix}.attention.value_length", head_dim)
    options = with_defaults(options)
    assert options.type_k and options.type_v
    per_layer = (
        dim_k * lib.kv_type(options.type_k).bytes_per_value
        + dim_v * lib.kv_type(options.type_v).bytes_per_value
    )
    n_drafting = meta.get(f"{prefix}.nextn_predict_layers", 0) if options.mtp else 0
    return float((n_attention(artifact) + n_drafting) * heads_kv * per_layer)


def state_bytes(artifact: Artifact | Planned) -> int | None:
    """Bytes of the recurrent state, 0 for a model without one, None where that is not known.

    Each gated delta net keeps the last kernel - 1 inputs of its convolution and a matrix for each value head, in
    float32 (llama.cpp, llama_hparams::n_embd_r and n_embd_s).
    """
    if artifact.architecture not in FAMILIES:
        return None
    meta, prefix = artifact.metadata, artifact.architecture
    inner, state, n_group, kernel = (
        meta.get(f"{prefix}.ssm.{name}", 0)
        for name in ("inner_size", "state_size", "group_count", "conv_kernel")
    )
    if not inner:
        return 0
    values = (kernel - 1) * (inner + 2 * n_group * state) + state * inner
    return int(_n_layer_with(artifact, ".ssm_conv1d.weight") * values * _FLOAT)


def checkpoint_bytes(artifact: Artifact | Planned, options: EngineOptions) -> int | None:
    """Bytes of the recurrent states kept to go back to, at most: one more than `n_checkpoints`, before a draft.

    None where the size of one is not known.
    """
    one = state_bytes(artifact)
    if one is None:
        return None
    n = checkpoints.capacity(one) if options.n_checkpoints is None else options.n_checkpoints
    return (n + 1) * one


def _tensors(artifact: Artifact | Planned) -> list[Mapping[str, GgufTensor]]:
    """By name, of each of its files."""
    from edgellm.formats.gguf.reader import read_header

    if isinstance(artifact, Planned):
        return [artifact.tensors]
    return [read_header(path).tensors for path in artifact.parts or (artifact.path,)]


def n_attention(artifact: Artifact | Planned) -> int:
    """Layers that keep keys and values."""
    if f"{artifact.architecture}.ssm.inner_size" in artifact.metadata:
        return _n_layer_with(artifact, ".attn_k.weight")
    return _n_layer(artifact)


def _n_layer_with(artifact: Artifact | Planned, tensor: str) -> int:
    names = {name for part in _tensors(artifact) for name in part}
    return sum(f"blk.{i}{tensor}" in names for i in range(_n_layer(artifact)))


def _n_layer(artifact: Artifact | Planned) -> int:
    """Layers that run for every token: without the blocks of a draft head behind them, which are not loaded."""
    meta, prefix = artifact.metadata, artifact.architecture
    return int(meta.get(f"{prefix}.block_count", 1) - meta.get(f"{prefix}.nextn_predict_layers", 0))


def _padded(n_ctx: int) -> int:
    return math.ceil(n_ctx / _CTX_STEP) * _CTX_STEP


def _weights(tensors: Mapping[str, GgufTensor], repacked: Mapping[str, GgufTensor], *, mapped: bool) -> int:
    """The span of the file that holds what is used in place; read into memory, those tensors alone."""
    plain = [tensor for name, tensor in tensors.items() if name not in repacked]
    if not plain:
        return 0
    if not mapped:
        return sum(tensor.nbytes for tensor in plain)
    return max(t.offset + t.nbytes for t in plain) - min(t.offset for t in plain)


def repacked(tensors: Mapping[str, GgufTensor]) -> dict[str, GgufTensor]:
    """The matrices that the CPU's kernels copy: types and row counts that come in interleaved blocks."""
    rows = interleaved_rows()
    return {
        name: tensor
        for name, tensor in tensors.items()
        if len(tensor.shape) >= 2
        and name != "token_embd.weight"
        and (step := rows.get(tensor.type.name))
        and tensor.shape[-2] % step == 0
    }


def interleaved_rows() -> dict[str, int]:
    """Rows interleaved by type, on this CPU."""
    has = hardware.cpu().has
    if has("avx2"):
        types = {"Q4_0": 8, "Q4_K": 8, "IQ4_NL": 8}
        return types | {"Q2_K": 8} if has("avx512f") else types
    if has("asimddp"):
        return {"Q4_0": 4, "IQ4_NL": 4, "Q4_K": 8, "Q8_0": 4}
    return {}


def touched(planned: Planned, options: EngineOptions) -> int:
    """Of the scratch memory, what a prompt of a full batch touches: logits are computed at its last token alone."""
    options = with_defaults(options)
    assert options.n_batch and options.n_ubatch
    n_ctx = options.n_ctx or planned.n_ctx_train
    batch = min(options.n_ubatch, options.n_batch, n_ctx)
    return _compute(planned, planned.tensors, batch, n_ctx, options, all_logits=False)


def _compute(
    artifact: Artifact | Planned,
    tensors: Mapping[str, GgufTensor],
    batch: int,
    n_ctx: int,
    options: EngineOptions,
    *,
    all_logits: bool = True,
) -> int:
    """Scratch memory for one physical batch, and the logits handed out."""
    meta, prefix = artifact.metadata, artifact.architecture

    def number(key: str, default: int = 0) -> int:
        return int(meta.get(f"{prefix}.{key}", default))

    n_embd, n_head = number("embedding_length"), number("attention.head_count", 1)
    n_head_kv = number("attention.head_count_kv", n_head)
    n_vocab = tensors["token_embd.weight"].shape[0]
    positions = _padded(n_ctx)
    head_dim = number("attention.key_length", n_embd // n_head)
    n_ff = _n_ff(number)
    mask, scores, values = (4, 4 * n_head, 2) if options.flash_attn == "off" else (2, 0, 1)
    attention = 3 * n_embd + head_dim * (2 * n_head + values * n_head_kv)
    # A wide block leaves no hole that the sum it is added to would fit in.
    feed_forward = 3 * n_ff + (4 if n_ff > 2 * n_embd else 3) * n_embd
    head = _FLOAT * (n_vocab + 2 * n_embd) if all_logits else 0
    places = (
        head,
        _FLOAT * feed_forward + mask * positions,
        _FLOAT * attention + (mask + scores) * positions,
    )
    rows = batch * (max(places) + _INDICES)
    delta_net = _delta_net(number, batch, n_embd) + batch * (mask * positions + _INDICES)
    return max(rows, delta_net) + _FLOAT * n_vocab


def _delta_net(number: Callable[[str, int], int], batch: int, n_embd: int) -> int:
    """Scratch memory of a gated delta net, 0 without one: around its convolution, or where its state is written."""
    inner, state = number("ssm.inner_size", 0), number("ssm.state_size", 0)
    if not inner:
        return 0
    conv = inner + 2 * number("ssm.group_count", 0) * state
    around = batch * 3 * (n_embd + conv) + 6 * conv
    within = batch * (2 * (n_embd + conv) + inner) + 2 * inner * state
    return _FLOAT * max(around, within)


def _n_ff(number: Callable[[str, int], int]) -> int:
    """Values between the two halves of a feed-forward block; those of all experts in use together."""
    experts = number("expert_used_count", 0)
    dense = number("feed_forward_length", 0)
    return max(dense, experts * number("expert_feed_forward_length", dense)) if experts else dense
