"""Qwen1.5, Qwen2, Qwen2.5 and their like (DeepSeek-R1's Qwen distills): Q, K and V have a bias."""

from __future__ import annotations

from edgellm.models.base import Architecture, Bias, Role
from edgellm.models.names import DECODER, GATED_MLP

ARCHITECTURE = Architecture(
    name="qwen2",
    class_names=("Qwen2ForCausalLM",),
    base_names=("Qwen2Model",),
    model_types=("qwen2",),
    tensor_names=DECODER | GATED_MLP,
    biases=(Bias((Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)),),
    engine_head_dim=False,
)
