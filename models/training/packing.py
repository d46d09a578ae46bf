"""Gated delta nets over rows that hold several dialogues: a dialogue must not see the one before it.

Attention is told by its mask. A recurrent layer has none, so its convolution and its state are cut where a dialogue
begins.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, silu, softplus

from edgellm import privacy

#: Log of the decay at a dialogue's first token: what was there before is gone in 32 bits, and sums of it stay exact
#: enough in the chunked form, which subtracts them from each other.
FORGET = -60.0
#: Tokens whose updates are solved for at once; short ones cost a CPU less.
CHUNK = 32


def cut_at_starts(model: Any) -> None:
    """Make every gated delta net of a transformers Qwen3.5 take `attention_mask` for where dialogues begin.

    Expects a boolean tensor (rows, tokens), true at a dialogue's first token.
    """
    for layer in model.model.layers:
        if hasattr(layer, "linear_attn"):
            layer.linear_attn.forward = MethodType(_forward, layer.linear_attn)


def _forward(self: Any, hidden_states: Tensor, attention_mask: Tensor, **_: Any) -> Tensor:
    """`Qwen3_5GatedDeltaNet.forward` without a cache, of shape (rows, tokens, hidden), cut at the starts."""
    privacy.refuse_telemetry()
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

    starts = attention_mask
    shape = (*hidden_states.shape[:2], -1)
    mixed = _compiled(self.in_proj_qkv(hidden_states), self.conv1d.weight.squeeze(1), starts)
    query, key, value = mixed.split([self.key_dim, self.key_dim, self.value_dim], dim=-1)
    decay = -self.A_log.float().exp() * softplus(self.in_proj_a(hidden_states).float() + self.dt_bias)
    out, _state = torch_chunk_gated_delta_rule(
        query.reshape(*shape, self.head_k_dim),
        key.reshape(*shape, self.head_k_dim),
        value.reshape(*shape, self.head_v_dim),
        g=decay.masked_fill(starts[..., None], FORGET),
        beta=self.in_proj_b(hidden_states).sigmoid(),
        chunk_size=CHUNK,
        use_qk_l2norm_in_kernel=True,
    )
    gate = self.in_proj_z(hidden_states).reshape(-1, self.head_v_dim)
    normed: Tensor = self.norm(out.reshape(-1, self.head_v_dim), gate)
    result: Tensor = self.out_proj(normed.reshape(shape))
    return result


def _convolve(x: Tensor, weight: Tensor, starts: Tensor) -> Tensor:
    """Causal depthwise convolution and SiLU of (rows, tokens, channels); taps (channels, kernel), oldest first."""
    dialogue = starts.cumsum(dim=1)
    total = x * weight[:, -1]
    for back in range(1, weight.shape[1]):
        same = dialogue[:, back:] == dialogue[:, :-back]
        total = total + pad(x[:, :-back] * same[..., None] * weight[:, -1 - back], (0, 0, back, 0))
    return silu(total)


_compiled: Any = torch.compile(_convolve)
