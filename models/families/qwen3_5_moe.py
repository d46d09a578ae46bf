"""Qwen3.5 with experts: the layers of the dense one, over routed experts beside one shared expert.

Source: transformers/models/qwen3_5_moe/modeling_qwen3_5_moe.py.
"""

from __future__ import annotations

from dataclasses import replace

from edgellm.models.families.qwen3_5 import ARCHITECTURE as DENSE
from edgellm.models.names import (
    DECODER,
    DELTA_NET,
    EXPERTS,
    NEXTN,
    QK_NORM,
    SHARED_EXPERT,
    STACKED_DOWN,
    STACKED_GATE_UP,
)

ARCHITECTURE = replace(
    DENSE,
    name="qwen35moe",
    class_names=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    model_types=("qwen3_5_moe", "qwen3_5_moe_text"),
    tensor_names=DECODER | QK_NORM | DELTA_NET | EXPERTS | SHARED_EXPERT | NEXTN,
    moe=True,
    shared_expert=True,
    stacked_gate_up=STACKED_GATE_UP,
    stacked_down=STACKED_DOWN,
    engine_norm_topk=True,
    norm_topk=True,  # always: its configuration has no word for it
)
