"""Qwen3-MoE: Qwen3's attention over routed experts, without a shared one."""

from __future__ import annotations

from edgellm.models.base import Architecture
from edgellm.models.names import DECODER, EXPERTS, QK_NORM, STACKED_DOWN, STACKED_GATE_UP

ARCHITECTURE = Architecture(
    name="qwen3moe",
    class_names=("Qwen3MoeForCausalLM",),
    base_names=("Qwen3MoeModel",),
    model_types=("qwen3_moe",),
    tensor_names=DECODER | QK_NORM | EXPERTS,
    qk_norm=True,
    moe=True,
    stacked_gate_up=STACKED_GATE_UP,
    stacked_down=STACKED_DOWN,
    engine_norm_topk=True,
)
