"""Qwen3.5, dense: of every four layers three are gated delta nets and one has gated attention.

The checkpoints hold a vision tower, which is left out, and a block that predicts the next token but one (MTP).
Source: transformers/models/qwen3_5/modeling_qwen3_5.py.
"""

from __future__ import annotations

from edgellm.models.base import Architecture, Role
from edgellm.models.names import DECODER, DELTA_NET, GATED_MLP, NEXTN, QK_NORM

ARCHITECTURE = Architecture(
    name="qwen35",
    class_names=("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    model_types=("qwen3_5", "qwen3_5_text"),
    tensor_names=DECODER | QK_NORM | DELTA_NET | GATED_MLP | NEXTN,
    qk_norm=True,
    gated_attention=True,
    norms_less_one=True,
    delta_net=True,
    full_attention_interval=4,
    head_dim=256,  # Qwen3_5TextConfig in transformers
    partial_rotary_factor=0.25,
    mrope_section=(11, 11, 10),
    towers=True,
    gguf_roles={Role.FFN_NORM: "post_attention_norm"},
)
