"""The tensor names that the families share, as transformers' Llama and Qwen classes write them.

`{i}` stands for the layer, `{e}` for the expert; `.weight` or `.bias` follows.
"""

from __future__ import annotations

from edgellm.models.base import Role

_LAYER = "model.layers.{i}."

DECODER: dict[Role, str] = {
    Role.TOKEN_EMBD: "model.embed_tokens",
    Role.ATTN_NORM: _LAYER + "input_layernorm",
    Role.ATTN_Q: _LAYER + "self_attn.q_proj",
    Role.ATTN_K: _LAYER + "self_attn.k_proj",
    Role.ATTN_V: _LAYER + "self_attn.v_proj",
    Role.ATTN_OUT: _LAYER + "self_attn.o_proj",
    Role.FFN_NORM: _LAYER + "post_attention_layernorm",
    Role.OUTPUT_NORM: "model.norm",
    Role.OUTPUT: "lm_head",
}
QK_NORM: dict[Role, str] = {
    Role.ATTN_Q_NORM: _LAYER + "self_attn.q_norm",
    Role.ATTN_K_NORM: _LAYER + "self_attn.k_norm",
}
GATED_MLP: dict[Role, str] = {
    Role.FFN_GATE: _LAYER + "mlp.gate_proj",
    Role.FFN_UP: _LAYER + "mlp.up_proj",
    Role.FFN_DOWN: _LAYER + "mlp.down_proj",
}
EXPERTS: dict[Role, str] = {
    Role.FFN_GATE_INP: _LAYER + "mlp.gate",
    Role.FFN_GATE_EXPS: _LAYER + "mlp.experts.{e}.gate_proj",
    Role.FFN_UP_EXPS: _LAYER + "mlp.experts.{e}.up_proj",
    Role.FFN_DOWN_EXPS: _LAYER + "mlp.experts.{e}.down_proj",
}
SHARED_EXPERT: dict[Role, str] = {
    Role.FFN_GATE_INP_SHEXP: _LAYER + "mlp.shared_expert_gate",
    Role.FFN_GATE_SHEXP: _LAYER + "mlp.shared_expert.gate_proj",
    Role.FFN_UP_SHEXP: _LAYER + "mlp.shared_expert.up_proj",
    Role.FFN_DOWN_SHEXP: _LAYER + "mlp.shared_expert.down_proj",
}

# All experts of a layer in two tensors, as transformers 5 holds them in memory: Qwen3MoeExperts in
# transformers/models/qwen3_moe/modeling_qwen3_moe.py. Each expert's matrix lies as in a Linear: [out, in].
STACKED_GATE_UP = _LAYER + "mlp.experts.gate_up_proj"  # [n_expert, 2 n_ff_expert, n_embd], gate first
STACKED_DOWN = _LAYER + "mlp.experts.down_proj"  # [n_expert, n_embd, n_ff_expert]
