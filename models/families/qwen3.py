"""Qwen3: no bias, an RMS norm over every head of Q and K before rope, head_dim independent of the width."""

from __future__ import annotations

from edgellm.models.base import Architecture
from edgellm.models.names import DECODER, GATED_MLP, QK_NORM

ARCHITECTURE = Architecture(
    name="qwen3",
    class_names=("Qwen3ForCausalLM",),
    scorer_names=("Qwen3ForSequenceClassification",),
    base_names=("Qwen3Model",),
    model_types=("qwen3",),
    tensor_names=DECODER | QK_NORM | GATED_MLP,
    qk_norm=True,
    head_dim=128,  # Qwen3Config in transformers
)
