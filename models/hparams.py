"""From config.json to a `ModelSpec`: every number read, bounded and compared with the tensors' shapes.

Key names are Hugging Face's; both spellings of transformers 4 and 5 are read (`rope_theta` with
`rope_scaling`, or `rope_parameters`). What neither engine computes is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgellm.errors import CheckpointError
from edgellm.models import layout
from edgellm.models.base import (
    Architecture,
    DeltaNetSpec,
    LayerKind,
    ModelSpec,
    MoeSpec,
    Role,
)
from edgellm.models.layout import Shapes, add_tensors
from edgellm.models.names import NEXTN_PREFIX
from edgellm.models.numbers import flag, number, refuse, whole
from edgellm.models.renaming import tower_of
from edgellm.models.rope_config import n_rot, rope_parameters, rope_scaling, rope_sections

DEFAULT_ROPE_THETA = 10_000.0  # RotaryEmbeddingConfigMixin.default_theta in transformers
DEFAULT_RMS_EPS = 1e-6  # LlamaConfig and the Qwen configs in transformers
LENGTH_EPS = 1e-6  # `l2norm` of transformers' gated delta nets, whatever rms_norm_eps is


def read_spec(
    family: Architecture, config: Mapping[str, Any], shapes: Shapes, headless: bool = False
) -> ModelSpec:
    """The work behind `registry.spec_of`; see there."""
    spec = _numbers(family, config, shapes)
    tied = config.get("tie_word_embeddings")
    return add_tensors(spec, _bias_roles(family, config), tied, shapes, headless=headless)


def expected_shapes(family: Architecture, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The work behind `registry.expected_shapes`; see there."""
    tied = flag(config, "tie_word_embeddings", default=False)  # as transformers' configs of these families
    return layout.expected_shapes(
        replace(_numbers(family, config, {}), tied=tied), _bias_roles(family, config)
    )


def _numbers(family: Architecture, config: Mapping[str, Any], shapes: Shapes) -> ModelSpec:
    """All but the tensors."""
    _refuse_unsupported(family, config)
    n_embd, n_head = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    n_head_kv = whole(config, "num_key_value_heads", default=n_head)
    head_dim = _head_dim(family, config, n_embd, n_head)
    if n_head % n_head_kv:
        refuse(
            "num_attention_heads", n_head, f"must be a multiple of num_key_value_heads, which is {n_head_kv}"
        )
    rope = rope_parameters(config)
    n_layer, turned = whole(config, "num_hidden_layers"), n_rot(family, rope, head_dim)
    kinds = _layer_kinds(family, config, n_layer)
    return ModelSpec(
        architecture=family,
        n_layer=n_layer,
        n_embd=n_embd,
        n_ff=_n_ff(family, config),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_vocab=whole(config, "vocab_size"),
        n_ctx_train=whole(config, "max_position_embeddings"),
        rms_eps=number(config, "rms_norm_eps", default=DEFAULT_RMS_EPS, below=1.0),
        rope_theta=number(rope, "rope_theta", default=DEFAULT_ROPE_THETA, below=1e12),
        rope_scaling=rope_scaling(family, config, rope),
        tied=False,  # settled, like the tensors, by the checkpoint's tensors
        moe=_moe(family, config) if family.moe else None,
        tensors=(),
        n_rot=turned,
        rope_sections=rope_sections(family, rope, turned or head_dim, head_dim),
        layer_kinds=kinds,
        delta_net=_delta_net(config) if family.delta_net else None,
        n_layer_nextn=_n_layer_nextn(family, shapes),
        left_out=tuple(sorted({tower for name in shapes if family.towers and (tower := tower_of(name))})),
    )


def _bias_roles(family: Architecture, config: Mapping[str, Any]) -> frozenset[Role]:
    """The projections that have a bias in this checkpoint."""
    present = [bias for bias in family.biases if bias.key is None or flag(config, bias.key, bias.default)]
    for key in ("attention_bias", "mlp_bias"):
        if all(bias.key != key for bias in family.biases) and config.get(key):
            refuse(key, config[key], f"but llama.cpp runs {family.name} without that bias only")
    return frozenset(role for bias in present for role in bias.roles)


def _head_dim(family: Architecture, config: Mapping[str, Any], n_embd: int, n_head: int) -> int:
    if config.get("head_dim") is None and family.head_dim is None and n_embd % n_head:
        refuse("hidden_size", n_embd, f"must be a multiple of num_attention_heads, which is {n_head}")
    head_dim = whole(config, "head_dim", default=family.head_dim or n_embd // n_head)
    if head_dim % 2:
        refuse("head_dim", head_dim, "but rotary embedding needs an even one")
    if not family.engine_head_dim and head_dim * n_head != n_embd:
        refuse(
            "head_dim",
            head_dim,
            f"but {family.name} needs hidden_size / num_attention_heads = {n_embd / n_head:g}",
        )
    return head_dim


def _layer_kinds(family: Architecture, config: Mapping[str, Any], n_layer: int) -> tuple[LayerKind, ...]:
    """What each layer is: as `layer_types` says, else attention in every so many. Empty: attention throughout."""
    if not family.delta_net:
        return ()
    said = config.get("layer_types")
    if said is None:
        every = whole(config, "full_attention_interval", default=family.full_attention_interval)
        said = [
            LayerKind.DELTA_NET if (layer + 1) % every else LayerKind.ATTENTION for layer in range(n_layer)
        ]
    if len(said) != n_layer:
        refuse("layer_types", said, f"{len(said)} entries, but num_hidden_layers is {n_layer}")
    if len(set(said)) == 1:
        why = f"in every layer, but llama.cpp runs {family.name} with layers of both kinds only"
        refuse("layer_types", LayerKind(said[0]).value, why)
    return tuple(LayerKind(kind) for kind in said)


def _delta_net(config: Mapping[str, Any]) -> DeltaNetSpec:
    net = DeltaNetSpec(
        n_k_heads=whole(config, "linear_num_key_heads"),
        n_v_heads=whole(config, "linear_num_value_heads"),
        head_dim=whole(config, "linear_key_head_dim"),
        conv_kernel=whole(config, "linear_conv_kernel_dim"),
    )
    if (value_dim := whole(config, "linear_value_head_dim")) != net.head_dim:
        why = f"but linear_key_head_dim is {net.head_dim}, and llama.cpp runs the two equal only"
        refuse("linear_value_head_dim", value_dim, why)
    if (eps := config.get("rms_norm_eps", LENGTH_EPS)) != LENGTH_EPS:
        why = (
            f"but llama.cpp takes it for lengths of queries and keys too, where the model has {LENGTH_EPS:g}"
        )
        refuse("rms_norm_eps", eps, why)
    if net.n_v_heads % net.n_k_heads:
        why = f"must be a multiple of linear_num_key_heads, which is {net.n_k_heads}"
        refuse("linear_num_value_heads", net.n_v_heads, why)
    return net


def _n_layer_nextn(family: Architecture, shapes: Shapes) -> int:
    """Blocks that predict further tokens. The tensors say, for transformers drops them and keeps the number."""
    if Role.NEXTN_EH_PROJ not in family.tensor_names:
        return 0
    start = NEXTN_PREFIX.partition("{i}")[0]
    found = {name.removeprefix(start).partition(".")[0] for name in shapes if name.startswith(start)}
    if len(found) > 1:
        raise CheckpointError(f"the checkpoint predicts {len(found)} tokens more (mtp.layers), llama.cpp one")
    return len(found)


def _n_ff(family: Architecture, config: Mapping[str, Any]) -> int:
    """Of dense layers; 0 where experts have a number of their own and config.json none beside it."""
    return 0 if family.moe and "intermediate_size" not in config else whole(config, "intermediate_size")


def _moe(family: Architecture, config: Mapping[str, Any]) -> MoeSpec:
    # transformers 5 maps num_experts to num_local_experts for Qwen3-MoE and may save either.
    experts = {"num_experts": config.get("num_experts", config.get("num_local_experts"))}
    moe = MoeSpec(
        n_expert=whole(experts, "num_experts"),
        n_expert_used=whole(config, "num_experts_per_tok"),
        n_ff_expert=whole(config, "moe_intermediate_size"),
        n_ff_shared=whole(config, "shared_expert_intermediate_size") if family.shared_expert else 0,
        norm_topk_prob=flag(config, "norm_topk_prob", default=family.norm_topk),
    )
    if moe.n_expert_used > moe.n_expert:
        refuse("num_experts_per_tok", moe.n_expert_used, f"more than num_experts, which is {moe.n_expert}")
    if moe.norm_topk_prob != family.engine_norm_topk:
        refuse("norm_topk_prob", moe.norm_topk_prob, f"but llama.cpp runs {family.name} only with the other")
    if config.get("decoder_sparse_step", 1) != 1:
        refuse(
            "decoder_sparse_step", config["decoder_sparse_step"], "but llama.cpp runs experts in every layer"
        )
    if config.get("mlp_only_layers"):
        refuse("mlp_only_layers", config["mlp_only_layers"], "but llama.cpp runs experts in every layer")
    return moe


#: Methods whose layers round bf16 weights in the forward pass. A leftover of any other method over weights that
#: are stored in full is no obstacle: what is quantized shows in dtypes, shapes and tensors of its own.
_QUANTIZES_WHILE_RUNNING = ("bitnet",)


def _refuse_unsupported(family: Architecture, config: Mapping[str, Any]) -> None:
    """Refuse what would change the computation and neither engine does for this family."""
    quantization = config.get("quantization_config") or {}
    if isinstance(quantization, Mapping) and quantization.get("quant_method") in _QUANTIZES_WHILE_RUNNING:
        refuse("quantization_config", quantization, "a model that rounds its weights while it runs")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        refuse("hidden_act", activation, f"but {family.name} runs with silu only")
    for key, encodes in (("is_causal", False), ("use_bidirectional_attention", True)):
        if config.get(key) is encodes:
            refuse(key, encodes, "an encoder: only text generation models can be converted")
    kinds = config.get("layer_types") or []
    # transformers has no window for a sliding layer where use_sliding_window is not set, and fails.
    runs = ["full_attention"] + (["linear_attention"] if family.delta_net else [])
    known = runs + (["sliding_attention"] if config.get("use_sliding_window") else [])
    if any(kind not in known for kind in kinds):
        why = f"but only {' and '.join(runs)} runs in the engines"
        refuse("layer_types", sorted(set(map(str, kinds))), why)
    if _slides(config, kinds):
        refuse(
            "sliding_window",
            config["sliding_window"],
            "below max_position_embeddings, but neither engine slides a window in this family: set "
            "use_sliding_window to false to use full attention",
        )


def _slides(config: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    """Whether some layer would look at less than the whole context, as transformers' Qwen configs decide.

    There `sliding_window` counts only with `use_sliding_window`, for the layers that `layer_types` names, else
    for those from `max_window_layers` on. A window as long as the trained context cuts nothing off.
    """
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    if window is None or "sliding_attention" not in (kinds or ["sliding_attention"]):
        return False
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        refuse("sliding_window", window, "but must be a whole number above 0")
    if window >= whole(config, "max_position_embeddings"):
        return False
    first, n_layer = config.get("max_window_layers"), config.get("num_hidden_layers")
    if kinds or config.get("model_type") not in ("qwen2", "qwen3"):
        return True
    return not (isinstance(first, int) and isinstance(n_layer, int)) or first < n_layer
