"""What an architecture is: its tensors' roles, its numbers, and the truths both writers and the oracle need.

Knows no file format. A family is one file beside this one; adding that file is the registration.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from edgellm.errors import CheckpointError


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
    """Rotary scaling as config.json gives it. Only the fields of its `kind` are meaningful."""

    kind: str  # "llama3" | "linear" | "yarn"
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True)
class MoeSpec:
    """Numbers of a mixture-of-experts feed-forward block."""

    n_expert: int
    n_expert_used: int
    n_ff_expert: int
    n_ff_shared: int  # 0: no shared expert
    norm_topk_prob: bool


@dataclass(frozen=True)
class TensorSpec:
    """One tensor the target model has, and where it comes from.

    `sources` are checkpoint names. More than one means: stack them along a new first axis (experts).
    None at all means: computed from the config (`rope_freqs`).
    """

    role: Role
    layer: int | None
    suffix: str  # "weight" | "bias"
    sources: tuple[str, ...]
    shape: tuple[int, ...]  # rows first, as in the checkpoint: (out_features, in_features)

    @property
    def gguf_name(self) -> str:
        """The tensor's name in a GGUF file, e.g. `blk.0.attn_q.weight`."""
        stem = self.role.value if self.layer is None else f"blk.{self.layer}.{self.role.value}"
        return f"{stem}.{self.suffix}"


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
    tied: bool  # lm_head shares token_embd
    moe: MoeSpec | None
    tensors: tuple[TensorSpec, ...]  # in checkpoint order: embedding, layers, final norm, head
