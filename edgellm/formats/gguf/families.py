"""What the header of each verified family holds, as tables: keys within bounds, tensors' shapes, what must be there.

Sources: llama.cpp's src/llama-model.cpp and src/models/<architecture>.cpp (load_arch_hparams, load_arch_tensors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # llama.cpp's LLAMA_MAX_EXPERTS

Bounds = tuple[int, int, bool]  # lowest, highest, whether it must be there
Shape = tuple[str, ...]  # in terms of the header's numbers

_INTEGERS: dict[str, Bounds] = {  # after `<architecture>.`
    "block_count": (1, MAX_LAYERS, True),
    "context_length": (1, 1 << 30, True),
    "embedding_length": (1, 1 << 20, True),
    "feed_forward_length": (0, 1 << 24, True),
    "attention.head_count": (1, 1 << 16, True),
    "attention.head_count_kv": (1, 1 << 16, False),
    "attention.key_length": (1, 1 << 16, False),
    "attention.value_length": (1, 1 << 16, False),
    "rope.dimension_count": (1, 1 << 16, False),
    "rope.scaling.original_context_length": (1, 1 << 30, False),
    "expert_count": (0, MAX_EXPERTS, False),
    "expert_used_count": (0, MAX_EXPERTS, False),
    "expert_group_count": (0, 0, False),
    "nextn_predict_layers": (0, 0, False),
}
_SHAPES: dict[str, Shape] = {  # after `blk.N.`
    "attn_norm.weight": ("embd",),
    "attn_q.weight": ("q", "embd"),
    "attn_k.weight": ("k", "embd"),
    "attn_v.weight": ("v", "embd"),
    "attn_output.weight": ("embd", "o"),
    "attn_q.bias": ("q",),
    "attn_k.bias": ("k",),
    "attn_v.bias": ("v",),
    "attn_q_norm.weight": ("head",),
    "attn_k_norm.weight": ("head",),
    "ffn_norm.weight": ("embd",),
    "ffn_gate.weight": ("ff", "embd"),
    "ffn_up.weight": ("ff", "embd"),
    "ffn_down.weight": ("embd", "ff"),
    "ffn_gate_inp.weight": ("expert", "embd"),
}


@dataclass(frozen=True)
class Family:
    """One architecture's header."""

    integers: Mapping[str, Bounds] = field(default_factory=lambda: _INTEGERS)
    shapes: Mapping[str, Shape] = field(default_factory=lambda: _SHAPES)
    in_layer: tuple[str, ...] = ("attn_norm.weight", "attn_output.weight", "ffn_norm.weight")
    sections: bool = False  # heads turn by kinds of position: rope.dimension_sections must be there
    in_recurrent: tuple[str, ...] = ()  # instead, where a layer keeps a state; empty: none does

    @property
    def hybrid(self) -> bool:
        """Whether some layers keep a recurrent state in the place of keys and values."""
        return bool(self.in_recurrent)


#: Gated delta nets, every fourth layer full attention with a gate beside each query.
_HYBRID = Family(
    sections=True,
    integers=_INTEGERS
    | {
        "feed_forward_length": (0, 1 << 24, False),
        "nextn_predict_layers": (0, MAX_LAYERS - 1, False),
        "full_attention_interval": (1, MAX_LAYERS, False),
        "ssm.conv_kernel": (1, 64, True),
        "ssm.state_size": (1, 1 << 16, True),
        "ssm.group_count": (1, 1 << 16, True),
        "ssm.time_step_rank": (1, 1 << 16, True),
        "ssm.inner_size": (1, 1 << 24, True),
    },
    shapes=_SHAPES
    | {
        "attn_q.weight": ("q_gate", "embd"),
        "post_attention_norm.weight": ("embd",),
        "attn_qkv.weight": ("conv", "embd"),
        "attn_gate.weight": ("inner", "embd"),
        "ssm_conv1d.weight": ("conv", "kernel"),
        "ssm_dt.bias": ("rank",),
        "ssm_a": ("rank",),
        "ssm_alpha.weight": ("rank", "embd"),
        "ssm_beta.weight": ("rank", "embd"),
        "ssm_ba.weight": ("alpha_beta", "embd"),
        "ssm_norm.weight": ("state",),
        "ssm_out.weight": ("embd", "inner"),
        "nextn.eh_proj.weight": ("embd", "two_embd"),
        "nextn.enorm.weight": ("embd",),
        "nextn.hnorm.weight": ("embd",),
    },
    in_layer=("attn_norm.weight", "post_attention_norm.weight", "attn_output.weight"),
    # The engine takes a file without the first two, and crashes.
    in_recurrent=(
        "attn_qkv.weight",
        "attn_gate.weight",
        "attn_norm.weight",
        "post_attention_norm.weight",
        "ssm_out.weight",
    ),
)

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe"), Family()),
    **dict.fromkeys(("qwen2vl", "qwen3vl"), Family(sections=True)),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next"), _HYBRID),
}
