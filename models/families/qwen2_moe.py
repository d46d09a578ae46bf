"""Qwen1.5-MoE and Qwen2-MoE: routed experts beside one shared expert behind a sigmoid gate."""

from __future__ import annotations

from edgellm.models.base import Architecture, Bias, Role
from edgellm.models.names import DECODER, EXPERTS, SHARED_EXPERT, STACKED_DOWN, STACKED_GATE_UP

ARCHITECTURE = Architecture(
    name="qwen2moe",
    class_names=("Qwen2MoeForCausalLM",),
    base_names=("Qwen2MoeModel",),
    model_types=("qwen2_moe",),
    tensor_names=DECODER | EXPERTS | SHARED_EXPERT,
    biases=(Bias((Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V), key="qkv_bias"),),
    moe=True,
    shared_expert=True,
    stacked_gate_up=STACKED_GATE_UP,
    stacked_down=STACKED_DOWN,
    engine_norm_topk=False,
    engine_head_dim=False,
    engine_needs_output=True,
)
