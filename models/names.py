"""The tensor names that the families share, as transformers' Llama and Qwen classes write them.

`{i}` stands for the layer, `{e}` for the expert; `.weight` or `.bias` follows.
"""

from __future__ import annotations

from edgellm.models.base import Role

LAYER_PREFIX = "model.layers.{i}."
NEXTN_PREFIX = "mtp.layers.{i}."  # the same of a block that predicts further tokens (multi-token prediction)

DECODER: dict[Role, str] = {
    Role.TOKEN_EMBD: "model.embed_tokens",
    Role.ATTN_NORM: LAYER_PREFIX + "input_layernorm",
    Role.ATTN_Q: LAYER_PREFIX + "self_attn.q_proj",
    Role.ATTN_K: LAYER_PREFIX + "self_attn.k_proj",
    Role.ATTN_V: LAYER_PREFIX + "self_attn.v_proj",
    Role.ATTN_OUT: LAYER_PREFIX + "self_attn.o_proj",
    Role.FFN_NORM: LAYER_PREFIX + "post_attention_layernorm",
    Role.OUTPUT_NORM: "model.norm",
    Role.OUTPUT: "lm_head",
}
QK_NORM: dict[Role, str] = {
    Role.ATTN_Q_NORM: LAYER_PREFIX + "self_attn.q_norm",
    Role.ATTN_K_NORM: LAYER_PREFIX + "self_attn.k_norm",
}
GATED_MLP: dict[Role, str] = {
    Role.FFN_GATE: LAYER_PREFIX + "mlp.gate_proj",
    Role.FFN_UP: LAYER_PREFIX + "mlp.up_proj",
    Role.FFN_DOWN: LAYER_PREFIX + "mlp.down_proj",
}
EXPERTS: dict[Role, str] = {
    Role.FFN_GATE_INP: LAYER_PREFIX + "mlp.gate",
    Role.FFN_GATE_EXPS: LAYER_PREFIX + "mlp.experts.{e}.gate_proj",
    Role.FFN_UP_EXPS: LAYER_PREFIX + "mlp.experts.{e}.up_proj",
    Role.FFN_DOWN_EXPS: LAYER_PREFIX + "mlp.experts.{e}.down_proj",
}
SHARED_EXPERT: dict[Role, str] = {
    Role.FFN_GATE_INP_SHEXP: LAYER_PREFIX + "mlp.shared_expert_gate",
    Role.FFN_GATE_SHEXP: LAYER_PREFIX + "mlp.shared_expert.gate_proj",
    Role.FFN_UP_SHEXP: LAYER_PREFIX + "mlp.shared_expert.up_proj",
    Role.FFN_DOWN_SHEXP: LAYER_PREFIX + "mlp.shared_expert.down_proj",
}
#: transformers' classes leave these out; Qwen's own checkpoints have them.
NEXTN: dict[Role, str] = {
    Role.NEXTN_EH_PROJ: "mtp.fc",
    Role.NEXTN_ENORM: "mtp.pre_fc_norm_embedding",
    Role.NEXTN_HNORM: "mtp.pre_fc_norm_hidden",
    Role.NEXTN_HEAD_NORM: "mtp.norm",
}
DELTA_NET: dict[Role, str] = {
    Role.ATTN_QKV: LAYER_PREFIX + "linear_attn.in_proj_qkv",
    Role.ATTN_GATE: LAYER_PREFIX + "linear_attn.in_proj_z",
    Role.SSM_CONV1D: LAYER_PREFIX + "linear_attn.conv1d",
    Role.SSM_DT: LAYER_PREFIX + "linear_attn.dt_bias",
    Role.SSM_A: LAYER_PREFIX + "linear_attn.A_log",
    Role.SSM_BETA: LAYER_PREFIX + "linear_attn.in_proj_b",
    Role.SSM_ALPHA: LAYER_PREFIX + "linear_attn.in_proj_a",
    Role.SSM_NORM: LAYER_PREFIX + "linear_attn.norm",
    Role.SSM_OUT: LAYER_PREFIX + "linear_attn.out_proj",
}

# All experts of a layer in two tensors, as transformers 5 holds them in memory: Qwen3MoeExperts in
# transformers/models/qwen3_moe/modeling_qwen3_moe.py. Each expert's matrix lies as in a Linear: [out, in].
STACKED_GATE_UP = LAYER_PREFIX + "mlp.experts.gate_up_proj"  # [n_expert, 2 n_ff_expert, n_embd], gate first
STACKED_DOWN = LAYER_PREFIX + "mlp.experts.down_proj"  # [n_expert, n_embd, n_ff_expert]
