"""What an architecture is: its tensors' roles, its numbers, and the truths both writers and the oracle need.

Types alone, and reads no file. A family is one file in families/ that defines `ARCHITECTURE`; registry.py
finds it, and says of a checkpoint, tensor by tensor, what the converted model holds and where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any


class Role(str, Enum):
    """What a tensor does in a decoder. The value is the name GGUF gives it."""

    TOKEN_EMBD = "token_embd"
    OUTPUT_NORM = "output_norm"
    OUTPUT = "output"
    CLS_OUT = "cls.output"  # a classifier's rows, in place of a whole output projection
    ROPE_FREQS = "rope_freqs"
    ATTN_NORM = "attn_norm"
    ATTN_Q = "attn_q"
    ATTN_K = "attn_k"
    ATTN_V = "attn_v"
    ATTN_OUT = "attn_output"
    ATTN_Q_NORM = "attn_q_norm"
    ATTN_K_NORM = "attn_k_norm"
    ATTN_QKV = "attn_qkv"  # the delta net's queries over keys over values, before its convolution
    ATTN_GATE = "attn_gate"  # the delta net's output gate, `z`
    SSM_CONV1D = "ssm_conv1d"  # causal convolution, one kernel a channel of ATTN_QKV
    SSM_DT = "ssm_dt"  # bias of the time step
    SSM_A = "ssm_a"  # decay rate of each value head
    SSM_BETA = "ssm_beta"  # how much of each value is written
    SSM_ALPHA = "ssm_alpha"  # the time step's projection
    SSM_NORM = "ssm_norm"
    SSM_OUT = "ssm_out"
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
    NEXTN_EH_PROJ = "nextn.eh_proj"  # the head that predicts the next token but one (MTP)
    NEXTN_ENORM = "nextn.enorm"
    NEXTN_HNORM = "nextn.hnorm"
    NEXTN_HEAD_NORM = "nextn.shared_head_norm"


class LayerKind(str, Enum):
    """How a layer mixes tokens. The value is config.json's word for it in `layer_types`."""

    ATTENTION = "full_attention"
    DELTA_NET = "linear_attention"  # gated delta net, https://arxiv.org/abs/2412.06464


class Stored(str, Enum):
    """What a tensor's stored values are of those that the model computes with (`effective`)."""

    AS_IS = "x"
    LESS_ONE = "x - 1"  # RMS norms whose weights start from zero
    LOG_NEGATED = "log(-x)"  # decay rates, which are below zero


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
class DeltaNetSpec:
    """Numbers of the gated delta net layers. Each key head serves `n_v_heads / n_k_heads` consecutive value heads."""

    n_k_heads: int  # queries have as many
    n_v_heads: int
    head_dim: int  # of keys and of values: llama.cpp's state is square
    conv_kernel: int  # tokens that the convolution sees, the present one last

    @property
    def n_k(self) -> int:
        """Channels of all keys; queries have as many."""
        return self.n_k_heads * self.head_dim

    @property
    def n_v(self) -> int:
        """Channels of all values."""
        return self.n_v_heads * self.head_dim

    @property
    def n_conv(self) -> int:
        """Channels of the convolution: queries, keys, values."""
        return 2 * self.n_k + self.n_v


@dataclass(frozen=True)
class Reorder:
    """Another order of an axis: what follows its first `first` places, seen as [n, a, b, inner], with a and b swapped.

    GGUF alone has it, for llama.cpp's sake: Llama's rope pairs neighbours, so the halves of each head are
    interleaved; value heads of a delta net, grouped by their key head in a checkpoint, stand in turns.
    """

    a: int
    b: int
    inner: int = 1
    first: int = 0

    def __call__(self, rows: Any) -> Any:
        """An array with its first axis in this order."""
        import numpy as np

        head, tail = rows[: self.first], rows[self.first :]
        swapped = tail.reshape(-1, self.a, self.b, self.inner, *tail.shape[1:]).swapaxes(1, 2)
        return np.concatenate([head, swapped.reshape(tail.shape)])

    def origin(self, place: int) -> int:
        """The place in the old order of what stands at `place` in this one."""
        if place < self.first:
            return place
        n, rest = divmod(place - self.first, self.a * self.b * self.inner)
        b, rest = divmod(rest, self.a * self.inner)
        a, inner = divmod(rest, self.inner)
        return self.first + ((n * self.a + a) * self.b + b) * self.inner + inner


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
    other, the values being what `effective` makes of the stored ones. No sources at all means: computed from the
    config (`rope_freqs`, see models/rope.py).
    """

    role: Role
    layer: int | None  # from n_layer on: the blocks that predict further tokens
    suffix: str  # "weight" | "bias" | "" (a bare parameter)
    sources: tuple[Source, ...]
    shape: tuple[int, ...]  # rows first, as in the checkpoint: (out_features, in_features)
    stored: Stored = Stored.AS_IS
    row_order: Reorder | None = None  # GGUF's of the rows, a vector's of its values; `sources` keep their own
    column_order: Reorder | None = None  # GGUF's order of the values of each row
    gguf_role: str | None = None  # where this family's GGUF has another name for the role

    @property
    def gguf_name(self) -> str:
        """The tensor's name in a GGUF file, e.g. `blk.0.attn_q.weight`."""
        name = f"{self.gguf_role or self.role.value}.{self.suffix}".removesuffix(".")
        return name if self.layer is None else f"blk.{self.layer}.{name}"

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
    n_rot: int = 0  # leading values of each head that rotary embedding turns; 0: all of them
    rope_sections: tuple[int, ...] = ()  # M-RoPE: pairs by time, height, width; one in a text
    layer_kinds: tuple[LayerKind, ...] = ()  # of each of the n_layer layers; empty: attention throughout
    delta_net: DeltaNetSpec | None = None  # where a layer is one
    n_layer_nextn: int = 0  # blocks behind these layers, to predict further tokens (MTP)
    left_out: tuple[str, ...] = ()  # other parts of the checkpoint that the converted model is without

    def kind(self, layer: int) -> LayerKind:
        """How this layer mixes tokens; the blocks behind the last layer have attention."""
        return self.layer_kinds[layer] if layer < len(self.layer_kinds) else LayerKind.ATTENTION

    @property
    def n_rotary(self) -> int:
        """Leading values of each head that rotary embedding turns, value i with value i + n_rotary / 2."""
        return self.n_rot or self.head_dim

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
    scorer_names: tuple[str, ...] = ()  # the class with one row of scores, `score.weight`, for a projection
    base_names: tuple[str, ...] = ()  # like `class_names`: the class without an output projection
    biases: tuple[Bias, ...] = ()
    qk_norm: bool = False  # RMS norm over each head of Q and K before rope
    permute_qk: bool = False  # GGUF wants Q and K rows interleaved per head
    moe: bool = False
    shared_expert: bool = False
    norm_topk: bool = False  # when config.json does not say whether the k router weights are normalised
    head_dim: int | None = None  # when config.json has no head_dim; None: hidden_size / num_attention_heads
    rope_scalings: frozenset[str] = frozenset({"linear", "yarn"})
    stacked_gate_up: str | None = None  # all experts' gate over up: [n_expert, 2 n_ff_expert, n_embd]
    stacked_down: str | None = None  # all experts' down: [n_expert, n_embd, n_ff_expert]
    gated_attention: bool = False  # q_proj gives per head a query, then a gate for what attention makes of it
    norms_less_one: bool = False  # all norms but the delta net's are stored as weight - 1
    delta_net: bool = False  # `layer_types` may say linear_attention
    full_attention_interval: int = 0  # every how many layers attention stands where config.json does not say
    partial_rotary_factor: float = 1.0  # when config.json says none: the part of a head that is turned
    mrope_section: tuple[int, ...] = ()  # when config.json says none; families without M-RoPE have none
    mrope_interleaved: bool = True  # the three take turns, pair by pair; else they lie one after the other
    towers: bool = False  # a checkpoint may hold more than the language model, which is left out
    gguf_roles: Mapping[Role, str] = field(default_factory=dict)  # where its GGUF has another name for a role
    engine_norm_topk: bool | None = None  # whether the k router weights are normalised; None: no experts
    engine_head_dim: bool = True  # head_dim may differ from hidden_size / num_attention_heads
    engine_needs_output: bool = False  # a tied model needs its embedding again as `output`


def effective(stored: Stored, values: Any) -> Any:
    """The float32 values that the model computes with, of float32 values as stored."""
    import numpy as np

    if stored is Stored.LESS_ONE:
        return values + np.float32(1)
    if stored is Stored.LOG_NEGATED:
        with np.errstate(over="ignore"):  # to minus infinity, which the checks of weights refuse
            return (-np.exp(values.astype(np.float64))).astype(np.float32)
    return values


def interleaved(head_dim: int) -> Reorder:
    """Rows j and j + head_dim/2 of each head as neighbours, as GGUF's Llama wants them.

    Source: the inverse of the permutation in transformers' `convert_llama_weights_to_hf.py`.
    """
    return Reorder(2, head_dim // 2)


def tiled(net: DeltaNetSpec, inner: int, first: int = 0) -> Reorder | None:
    """Value heads of `inner` places, grouped by key head, in turns: the first of every group, the second, and so on.

    Source: llama.cpp#19468. None where each key head has one value head.
    """
    group = net.n_v_heads // net.n_k_heads
    return Reorder(net.n_k_heads, group, inner, first) if group > 1 else None
