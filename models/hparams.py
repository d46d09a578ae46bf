"""From config.json to a `ModelSpec`: every number read, bounded and compared with the tensors' shapes.

Key names are Hugging Face's; both spellings of transformers 4 and 5 are read (`rope_theta` with
`rope_scaling`, or `rope_parameters`). What neither engine computes is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edgellm.errors import CheckpointError
from edgellm.models.base import (
    Architecture,
    DeltaNetSpec,
    LayerKind,
    ModelSpec,
    MoeSpec,
    Role,
    RopeScaling,
)
from edgellm.models.layout import Shapes, add_tensors
from edgellm.models.names import NEXTN_PREFIX
from edgellm.models.renaming import tower_of
from edgellm.models.rope import yarn_attention_factor

#: Inclusive bounds on what config.json may ask for: beyond them a file is damaged or hostile. The layer and
#: expert limits are llama.cpp's (`LLAMA_MAX_LAYERS`, `LLAMA_MAX_EXPERTS`).
BOUNDS: dict[str, tuple[int, int]] = {
    "num_hidden_layers": (1, 512),
    "hidden_size": (1, 1 << 17),
    "intermediate_size": (1, 1 << 20),
    "num_attention_heads": (1, 1 << 12),
    "num_key_value_heads": (1, 1 << 12),
    "head_dim": (2, 1 << 12),
    "vocab_size": (1, 1 << 22),
    "max_position_embeddings": (1, (1 << 31) - 1),
    "original_max_position_embeddings": (1, (1 << 31) - 1),
    "num_experts": (1, 1024),
    "num_experts_per_tok": (1, 1024),
    "moe_intermediate_size": (1, 1 << 20),
    "shared_expert_intermediate_size": (1, 1 << 20),
    "linear_num_key_heads": (1, 1 << 12),
    "linear_num_value_heads": (1, 1 << 12),
    "linear_key_head_dim": (1, 1 << 12),
    "linear_value_head_dim": (1, 1 << 12),
    "linear_conv_kernel_dim": (2, 64),
    "full_attention_interval": (1, 512),
}

DEFAULT_ROPE_THETA = 10_000.0  # RotaryEmbeddingConfigMixin.default_theta in transformers
DEFAULT_RMS_EPS = 1e-6  # LlamaConfig and the Qwen configs in transformers


def read_spec(
    family: Architecture, config: Mapping[str, Any], shapes: Shapes, headless: bool = False
) -> ModelSpec:
    """The work behind `registry.spec_of`; see there."""
    _refuse_unsupported(family, config)
    n_embd, n_head = _int(config, "hidden_size"), _int(config, "num_attention_heads")
    n_head_kv = _int(config, "num_key_value_heads", default=n_head)
    head_dim = _head_dim(family, config, n_embd, n_head)
    if n_head % n_head_kv:
        _refuse(
            "num_attention_heads", n_head, f"must be a multiple of num_key_value_heads, which is {n_head_kv}"
        )
    rope = _rope_parameters(config)
    n_layer, n_rot = _int(config, "num_hidden_layers"), _n_rot(family, rope, head_dim)
    kinds = _layer_kinds(family, config, n_layer)
    spec = ModelSpec(
        architecture=family,
        n_layer=n_layer,
        n_embd=n_embd,
        n_ff=_n_ff(family, config),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_vocab=_int(config, "vocab_size"),
        n_ctx_train=_int(config, "max_position_embeddings"),
        rms_eps=_float(config, "rms_norm_eps", default=DEFAULT_RMS_EPS, below=1.0),
        rope_theta=_float(rope, "rope_theta", default=DEFAULT_ROPE_THETA, below=1e12),
        rope_scaling=_rope_scaling(family, config, rope),
        tied=False,  # settled, like the tensors, by the checkpoint's tensors
        moe=_moe(family, config) if family.moe else None,
        tensors=(),
        n_rot=n_rot,
        rope_sections=_rope_sections(family, rope, n_rot, head_dim),
        layer_kinds=kinds,
        delta_net=_delta_net(config) if family.delta_net else None,
        n_layer_nextn=_n_layer_nextn(family, shapes),
        left_out=tuple(sorted({tower for name in shapes if family.towers and (tower := tower_of(name))})),
    )
    tied = config.get("tie_word_embeddings")
    return add_tensors(spec, _bias_roles(family, config), tied, shapes, headless=headless)


def _bias_roles(family: Architecture, config: Mapping[str, Any]) -> frozenset[Role]:
    """The projections that have a bias in this checkpoint."""
    present = [bias for bias in family.biases if bias.key is None or _flag(config, bias.key, bias.default)]
    for key in ("attention_bias", "mlp_bias"):
        if all(bias.key != key for bias in family.biases) and config.get(key):
            _refuse(key, config[key], f"but llama.cpp runs {family.name} without that bias only")
    return frozenset(role for bias in present for role in bias.roles)


def _refuse(key: str, value: object, why: str) -> NoReturn:
    raise CheckpointError(f"config.json: {key} is {value!r}, {why}")


def _int(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"config.json has no {key}: the checkpoint is incomplete, download it again")
    low, high = BOUNDS[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(key, value, f"but must be a whole number from {low} to {high}")
    return value


def _float(config: Mapping[str, Any], key: str, default: float | None = None, below: float = 1e9) -> float:
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"config.json has no {key}: the checkpoint is incomplete, download it again")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.0 < value < below:
        _refuse(key, value, f"but must be a number above 0 and below {below:g}")
    return float(value)


def _flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        _refuse(key, value, "but must be true or false")
    return value


def _head_dim(family: Architecture, config: Mapping[str, Any], n_embd: int, n_head: int) -> int:
    if config.get("head_dim") is None and family.head_dim is None and n_embd % n_head:
        _refuse("hidden_size", n_embd, f"must be a multiple of num_attention_heads, which is {n_head}")
    head_dim = _int(config, "head_dim", default=family.head_dim or n_embd // n_head)
    if head_dim % 2:
        _refuse("head_dim", head_dim, "but rotary embedding needs an even one")
    if not family.engine_head_dim and head_dim * n_head != n_embd:
        _refuse(
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
        every = _int(config, "full_attention_interval", default=family.full_attention_interval)
        said = [
            LayerKind.DELTA_NET if (layer + 1) % every else LayerKind.ATTENTION for layer in range(n_layer)
        ]
    if len(said) != n_layer:
        _refuse("layer_types", said, f"{len(said)} entries, but num_hidden_layers is {n_layer}")
    return tuple(LayerKind(kind) for kind in said)


def _delta_net(config: Mapping[str, Any]) -> DeltaNetSpec:
    net = DeltaNetSpec(
        n_k_heads=_int(config, "linear_num_key_heads"),
        n_v_heads=_int(config, "linear_num_value_heads"),
        head_dim=_int(config, "linear_key_head_dim"),
        conv_kernel=_int(config, "linear_conv_kernel_dim"),
    )
    if (value_dim := _int(config, "linear_value_head_dim")) != net.head_dim:
        why = f"but linear_key_head_dim is {net.head_dim}, and llama.cpp runs the two equal only"
        _refuse("linear_value_head_dim", value_dim, why)
    if net.n_v_heads % net.n_k_heads:
        why = f"must be a multiple of linear_num_key_heads, which is {net.n_k_heads}"
        _refuse("linear_num_value_heads", net.n_v_heads, why)
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
    return 0 if family.moe and "intermediate_size" not in config else _int(config, "intermediate_size")


def _moe(family: Architecture, config: Mapping[str, Any]) -> MoeSpec:
    # transformers 5 maps num_experts to num_local_experts for Qwen3-MoE and may save either.
    experts = {"num_experts": config.get("num_experts", config.get("num_local_experts"))}
    moe = MoeSpec(
        n_expert=_int(experts, "num_experts"),
        n_expert_used=_int(config, "num_experts_per_tok"),
        n_ff_expert=_int(config, "moe_intermediate_size"),
        n_ff_shared=_int(config, "shared_expert_intermediate_size") if family.shared_expert else 0,
        norm_topk_prob=_flag(config, "norm_topk_prob", default=family.norm_topk),
    )
    if moe.n_expert_used > moe.n_expert:
        _refuse("num_experts_per_tok", moe.n_expert_used, f"more than num_experts, which is {moe.n_expert}")
    if moe.norm_topk_prob != family.engine_norm_topk:
        _refuse("norm_topk_prob", moe.norm_topk_prob, f"but llama.cpp runs {family.name} only with the other")
    if config.get("decoder_sparse_step", 1) != 1:
        _refuse(
            "decoder_sparse_step", config["decoder_sparse_step"], "but llama.cpp runs experts in every layer"
        )
    if config.get("mlp_only_layers"):
        _refuse("mlp_only_layers", config["mlp_only_layers"], "but llama.cpp runs experts in every layer")
    return moe


#: Methods whose layers round bf16 weights in the forward pass. A leftover of any other method over weights that
#: are stored in full is no obstacle: what is quantized shows in dtypes, shapes and tensors of its own.
_QUANTIZES_WHILE_RUNNING = ("bitnet",)


def _refuse_unsupported(family: Architecture, config: Mapping[str, Any]) -> None:
    """Refuse what would change the computation and neither engine does for this family."""
    quantization = config.get("quantization_config") or {}
    if isinstance(quantization, Mapping) and quantization.get("quant_method") in _QUANTIZES_WHILE_RUNNING:
        _refuse("quantization_config", quantization, "a model that rounds its weights while it runs")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        _refuse("hidden_act", activation, f"but {family.name} runs with silu only")
    if config.get("is_causal") is False:
        _refuse("is_causal", False, "an encoder: only text generation models can be converted")
    kinds = config.get("layer_types") or []
    # transformers has no window for a sliding layer where use_sliding_window is not set, and fails.
    runs = ["full_attention"] + (["linear_attention"] if family.delta_net else [])
    known = runs + (["sliding_attention"] if config.get("use_sliding_window") else [])
    if any(kind not in known for kind in kinds):
        why = f"but only {' and '.join(runs)} runs in the engines"
        _refuse("layer_types", sorted(set(map(str, kinds))), why)
    if _slides(config, kinds):
        _refuse(
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
        _refuse("sliding_window", window, "but must be a whole number above 0")
    if window >= _int(config, "max_position_embeddings"):
        return False
    first, n_layer = config.get("max_window_layers"), config.get("num_hidden_layers")
    if kinds or config.get("model_type") not in ("qwen2", "qwen3"):
        return True
    return not (isinstance(first, int) and isinstance(n_layer, int)) or first < n_layer


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rope settings in one place, whichever release of transformers wrote them.

    The ranks are those of transformers 5 (`RotaryEmbeddingConfigMixin` in modeling_rope_utils.py): a `rope_scaling`
    that says anything takes the place of `rope_parameters` as a whole, its base included; what the object does not
    say comes from the top level of config.json; an original context there goes before the object's own; and
    without any it is the trained context.
    """
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if isinstance(found, Mapping) and isinstance(found.get("full_attention"), Mapping):
        found = found["full_attention"]  # nested by layer type; other types are refused above
    if not isinstance(found, Mapping):
        _refuse("rope_parameters", found, "but must be an object")
    rope = dict(found)
    for key in ("rope_theta", "partial_rotary_factor"):
        if rope.get(key) is None and config.get(key) is not None:
            rope[key] = config[key]
    original = "original_max_position_embeddings"
    candidates = (config.get(original), rope.get(original), config.get("max_position_embeddings"))
    rope[original] = next((value for value in candidates if value is not None), None)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    rope["rope_type"] = str(kind).lower()
    return rope


#: Keys of a rope setting that change the computation, with the values under which they do not.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "partial_rotary_factor": (None, 1, 1.0),
    "mrope_section": (None,),
    "truncate": (None, True),
    "extrapolation_factor": (None, 1, 1.0),
}


def _n_rot(family: Architecture, rope: Mapping[str, Any], head_dim: int) -> int:
    """Leading values of a head that are turned, 0 for all."""
    if family.partial_rotary_factor == 1.0:
        return 0
    factor = _float(rope, "partial_rotary_factor", default=family.partial_rotary_factor, below=1.0000001)
    n_rot = int(head_dim * factor)
    if n_rot < 2 or n_rot % 2:
        why = f"which turns {n_rot} of {head_dim} values of a head, but they turn in pairs"
        _refuse("partial_rotary_factor", factor, why)
    return n_rot


def _rope_sections(
    family: Architecture, rope: Mapping[str, Any], n_rot: int, head_dim: int
) -> tuple[int, ...]:
    """How many pairs turn by time, height and width. In a text the three are equal, so that none matters.

    But llama.cpp turns a pair beyond its section by a fourth position, which is 0 throughout a text, and aborts
    where the sections are more than a head (`ggml_mrope_cache_init` in ggml-cpu/ops.cpp).
    """
    if not family.mrope_section:
        return ()
    said = rope.get("mrope_section")
    sections = list(family.mrope_section) if said is None else said
    good = isinstance(sections, list) and len(sections) in (3, 4)
    if not good or not all(type(n) is int and n >= 0 for n in sections) or any(sections[3:]):
        _refuse("mrope_section", sections, "but must be three whole numbers: time, height, width")
    total = sum(sections)
    n_pairs = (n_rot or head_dim) // 2
    turned = total and (
        not family.mrope_interleaved
        or all(place % total < 3 * sections[place % total % 3] for place in range(n_pairs))
    )
    if total > head_dim or not turned:
        _refuse("mrope_section", sections, f"which does not go with the {n_pairs} pairs that turn")
    return tuple(sections[:3])


def _rope_scaling(
    family: Architecture, config: Mapping[str, Any], rope: Mapping[str, Any]
) -> RopeScaling | None:
    partial = family.partial_rotary_factor != 1.0
    own = {"partial_rotary_factor": partial, "mrope_section": bool(family.mrope_section)}
    for key, neutral in _NEUTRAL.items():
        if rope.get(key) not in neutral and not own.get(key):
            _refuse(key, rope[key], f"but {family.name} runs without it only")
    kind = rope["rope_type"]
    if kind == "default" or (
        kind == "mrope" and family.mrope_section
    ):  # transformers 4's word for the sections
        return None
    if kind not in family.rope_scalings:
        known = ", ".join(sorted(family.rope_scalings))
        _refuse("rope_type", kind, f"but the scalings that {family.name} runs with are: {known}")
    original = _int(rope, "original_max_position_embeddings")
    if kind == "yarn" and rope.get("factor") is None:  # `_compute_yarn_parameters` in transformers
        rope = {**rope, "factor": _int(config, "max_position_embeddings") / original}
    factor = _float(rope, "factor")
    if factor < 1.0:
        _refuse("factor", factor, "but rope scaling needs a factor of at least 1")
    if kind == "linear":
        return RopeScaling(kind, factor)
    if kind == "llama3":
        return _llama3(rope, factor, original)
    return _yarn(rope, factor, original)


def _llama3(rope: Mapping[str, Any], factor: float, original: int) -> RopeScaling:
    low, high = _float(rope, "low_freq_factor"), _float(rope, "high_freq_factor")
    if low >= high:
        _refuse("low_freq_factor", low, f"but must be below high_freq_factor, which is {high:g}")
    return RopeScaling("llama3", factor, low, high, original)


def _yarn(rope: Mapping[str, Any], factor: float, original: int) -> RopeScaling:
    """The defaults are `_compute_yarn_parameters`' in transformers, which takes a 0 for nothing said."""
    beta_fast, beta_slow, mscale, mscale_all_dim = (
        _float(rope, key) if rope.get(key) else None
        for key in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")
    )
    magnitude = _float(rope, "attention_factor") if rope.get("attention_factor") is not None else None
    if magnitude is None and mscale and mscale_all_dim:
        magnitude = yarn_attention_factor(factor, mscale) / yarn_attention_factor(factor, mscale_all_dim)
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=original,
        attention_factor=magnitude,
        beta_fast=beta_fast,
        beta_slow=beta_slow,
    )
