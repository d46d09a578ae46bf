"""Llama 3, 3.1, 3.2 and 3.3, and what is built like them (DeepSeek-R1's Llama distills)."""

from __future__ import annotations

from edgellm.models.base import Architecture, Bias, Role
from edgellm.models.names import DECODER, GATED_MLP

ARCHITECTURE = Architecture(
    name="llama",
    class_names=("LlamaForCausalLM",),
    base_names=("LlamaModel",),
    model_types=("llama",),
    tensor_names=DECODER | GATED_MLP,
    biases=(
        Bias((Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V, Role.ATTN_OUT), key="attention_bias", default=False),
        Bias((Role.FFN_GATE, Role.FFN_UP, Role.FFN_DOWN), key="mlp_bias", default=False),
    ),
    permute_qk=True,
    rope_scalings=frozenset({"llama3", "linear", "yarn"}),
)
