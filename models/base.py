"""What an architecture is: its tensors' roles, its numbers, and the truths both writers and the oracle need.

Types alone, and reads no file. A family is one file beside this one that defines `ARCHITECTURE`; registry.py
finds it, and says of a checkpoint, tensor by tensor, what the converted model holds and where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any


class Role(str, Enum):
    """What a tensor does in a decoder. The value is the name GGUF gives it."""

    TOKEN_EMBD = "token_embd"
    OUTPUT_NORM = "output_norm"
    OUTPUT = "output"
    ROPE_FREQS = "rope_freqs"
    ATTN_NORM = "attn_norm"
    ATTN_Q = "attn_q"
    ATTN_K = "attn_k"
    ATTN_V = "attn_v"
    ATTN_OUT = "attn_output"
    ATTN_Q_NORM = "attn_q_norm"
    ATTN_K_NORM = "attn_k_norm"
    FFN_NORM = "ffn_norm"
    FFN_GATE = "ffn_gate"
    FFN_UP = "ffn_up"
    FFN_DOWN = "ffn_down"
    FFN_GATE_INP = "ffn_gate_inp"  # MoE router
    FFN_GATE_EXPS = "ffn_gate_exps"  # experts, stacked [n_expert, out, in]
    FFN_UP_EXPS = "ffn_up_exps"
    FFN_DOWN_EXPS = "ffn_down_exps"
    FFN_GATE_INP_SHEXP = "ffn_gate_inp_shexp"  # Qwen2-MoE's shared expert
    FFN_GATE_SHEXP = "ffn_gate_shexp"
    FFN_UP_SHEXP = "ffn_up_shexp"
    FFN_DOWN_SHEXP = "ffn_down_shexp"


@dataclass(frozen=True)
class RopeScaling:
    """Rotary scaling as config.json gives it. Only the fields of its `kind` are meaningful.

    The formulas are in models/rope.py. `None` means config.json does not say, so the engine's default holds.
    """

    kind: str  # "llama3" | "linear" | "yarn"
    factor: float
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    original_max_position_embeddings: int = 8192  # llama3, yarn
    attention_factor: float | None = None  # yarn
    beta_fast: float | None = None  # yarn
    beta_slow: float | None = None  # yarn


@dataclass(frozen=True)
class MoeSpec:
    """Numbers of a mixture-of-experts feed-forward block."""

    n_expert: int
    n_expert_used: int
    n_ff_expert: int
    n_ff_shared: int  # 0: no shared expert
    norm_topk_prob: bool


@dataclass(frozen=True)
class Source:
    """Some rows of one checkpoint tensor, that tensor seen as a matrix (all axes but the last flattened)."""

    name: str
    start: int  # first row
    stop: int  # one past the last row


@dataclass(frozen=True)
class TensorSpec:
    """One tensor the target model has, and where it comes from.

    The target, seen as a matrix of `n_rows` rows of `row_size` values, is the rows of `sources` one after the
    other. No sources at all means: computed from the config (`rope_freqs`, see models/rope.py).
    """

    role: Role
    layer: int | None
    suffix: str  # "weight" | "bias"
    sources: tuple[Source, ...]
    shape: tuple[int, ...]  # rows first, as in the checkpoint: (out_features, in_features)
    permute_heads: int | None = None
    # GGUF alone: within each of this many heads, rows r and r + head_dim/2 become neighbours
    # (`interleave_heads`), for llama.cpp's rope of this family pairs neighbours. `sources` are unpermuted.

    @property
    def gguf_name(self) -> str:
        """The tensor's name in a GGUF file, e.g. `blk.0.attn_q.weight`."""
        stem = self.role.value if self.layer is None else f"blk.{self.layer}.{self.role.value}"
        return f"{stem}.{self.suffix}"

    @property
    def row_size(self) -> int:
        """Values in a row; a one-dimensional tensor is one row."""
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        """Rows, all axes but the last flattened."""
        return prod(self.shape[:-1])

    def spans(self, start: int = 0, stop: int | None = None) -> Iterator[Source]:
        """The pieces of `sources` that make up rows [start, stop) of the target, in order."""
        stop = self.n_rows if stop is None else stop
        first = 0  # target row where the current source begins
        for source in self.sources:
            low = max(start - first, 0)
            high = min(stop - first, source.stop - source.start)
            if low < high:
                yield Source(source.name, source.start + low, source.start + high)
            first += source.stop - source.start


@dataclass(frozen=True)
class ModelSpec:
    """One checkpoint's numbers, checked. Names follow llama.cpp's hparams."""

    architecture: Architecture
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int
    n_ctx_train: int
    rms_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool  # the checkpoint has no lm_head: the output projection is token_embd
    moe: MoeSpec | None
    tensors: tuple[TensorSpec, ...]  # rope_freqs if any, embedding, layers, final norm, head

    @cached_property
    def _by_place(self) -> dict[tuple[Role, int | None, str], TensorSpec]:
        return {(tensor.role, tensor.layer, tensor.suffix): tensor for tensor in self.tensors}

    def tensor(self, role: Role, layer: int | None = None, suffix: str = "weight") -> TensorSpec | None:
        """The tensor with this role, or None when the model has none (a bias, a head when tied)."""
        return self._by_place.get((role, layer, suffix))

    @property
    def n_params(self) -> int:
        """Values in all tensors that come from the checkpoint (what a model's size is called by)."""
        again = self.tensor(Role.OUTPUT) if self.tied else None  # the embedding, already counted
        return sum(prod(tensor.shape) for tensor in self.tensors if tensor.sources and tensor is not again)


@dataclass(frozen=True)
class Bias:
    """Projections that have a bias: always (`key` None), or when config.json's `key` is true."""

    roles: tuple[Role, ...]
    key: str | None = None
    default: bool = True  # what a config without `key` means


@dataclass(frozen=True)
class Architecture:
    """A family's truths. Tensor names are the checkpoint's, `{i}` stands for the layer, `{e}` for the expert.

    The fields that begin with `engine_` are what llama.cpp's graph of this family takes for granted; a
    checkpoint that differs is refused, for it would load and talk nonsense, or not load.
    """

    name: str  # `general.architecture` in GGUF
    class_names: tuple[str, ...]  # `architectures` in config.json
    model_types: tuple[str, ...]  # `model_type` in config.json, asked when `architectures` is absent
    tensor_names: Mapping[Role, str]  # without the suffix `.weight` or `.bias`
    base_names: tuple[str, ...] = ()  # like `class_names`: the class without an output projection
    biases: tuple[Bias, ...] = ()
    qk_norm: bool = False  # RMS norm over each head of Q and K before rope
    permute_qk: bool = False  # GGUF wants Q and K rows interleaved per head
    moe: bool = False
    shared_expert: bool = False
    head_dim: int | None = None  # when config.json has no head_dim; None: hidden_size / num_attention_heads
    rope_scalings: frozenset[str] = frozenset({"linear", "yarn"})
    stacked_gate_up: str | None = None  # all experts' gate over up: [n_expert, 2 n_ff_expert, n_embd]
    stacked_down: str | None = None  # all experts' down: [n_expert, n_embd, n_ff_expert]
    engine_norm_topk: bool | None = None  # whether the k router weights are normalised; None: no experts
    engine_head_dim: bool = True  # head_dim may differ from hidden_size / num_attention_heads
    engine_needs_output: bool = False  # a tied model needs its embedding again as `output`


def interleave_heads(rows: Any, head_dim: int) -> Any:
    """Reorder an array's first axis (whole heads) as GGUF's Llama wants it: rows j and j + head_dim/2 meet.

    Source: the inverse of the permutation in transformers' `convert_llama_weights_to_hf.py`. For a bias the
    first axis is the vector itself.
    """
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)
