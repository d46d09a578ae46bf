"""What of a checkpoint with delta nets is its own, read apart from the converter: layers, numbers, orders of heads.

For original.py, from transformers' Qwen3_5TextConfig and Qwen3_5GatedDeltaNet, and llama.cpp's qwen35.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgellm.models.base import DeltaNetSpec, LayerKind, Reorder, Role, Stored, TensorSpec

#: Families whose norms start from zero, and where GGUF has its own name for the one behind attention.
KINDS = ("qwen3_5", "qwen3_5_moe")


def n_rot(config: Mapping[str, Any], head_dim: int) -> int:
    """Values of a head that rotary embedding turns."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return int(head_dim * (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 0.25))


def layer_kinds(config: Mapping[str, Any]) -> tuple[LayerKind, ...]:
    """What each layer is."""
    n_layer, every = config["num_hidden_layers"], config.get("full_attention_interval") or 4
    usual = [
        "full_attention" if layer % every == every - 1 else "linear_attention" for layer in range(n_layer)
    ]
    return tuple(map(LayerKind, config.get("layer_types") or usual))


def delta_net(config: Mapping[str, Any]) -> DeltaNetSpec:
    """The numbers of the delta nets."""
    names = ("num_key_heads", "num_value_heads", "value_head_dim", "conv_kernel_dim")
    return DeltaNetSpec(*(config[f"linear_{name}"] for name in names))


def _turns(role: Role, net: DeltaNetSpec) -> Reorder | None:
    """GGUF's order of what belongs to value heads: the first of each key head, the second of each, and so on."""
    group = net.n_v_heads // net.n_k_heads
    wide = {Role.ATTN_QKV: 2 * net.n_k, Role.SSM_CONV1D: 2 * net.n_k, Role.ATTN_GATE: 0, Role.SSM_OUT: 0}
    narrow = (Role.SSM_DT, Role.SSM_A, Role.SSM_BETA, Role.SSM_ALPHA)
    if group == 1 or (role not in wide and role not in narrow):
        return None
    return Reorder(net.n_k_heads, group, net.head_dim if role in wide else 1, wide.get(role, 0))


def of_hybrid(tensor: TensorSpec, net: DeltaNetSpec) -> TensorSpec:
    """The same tensor as a family with delta nets stores it, and as GGUF has it."""
    role, order = tensor.role, _turns(tensor.role, net)
    stored = Stored.LESS_ONE if role.value.endswith("norm") and role is not Role.SSM_NORM else Stored.AS_IS
    return replace(
        tensor,
        suffix={Role.SSM_A: "", Role.SSM_DT: "bias"}.get(role, tensor.suffix),
        shape=tuple(n for i, n in enumerate(tensor.shape) if i != 1 or role is not Role.SSM_CONV1D),
        stored=Stored.LOG_NEGATED if role is Role.SSM_A else stored,
        row_order=None if role is Role.SSM_OUT else order,
        column_order=order if role is Role.SSM_OUT else None,
        gguf_role="post_attention_norm" if role is Role.FFN_NORM else None,
    )
