"""config.json against the tensors: what is read from which key, and what is refused in which words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tinymodels import CASES as DENSE
from tinymodels import HYBRIDS, LINEAR_ROPE, LLAMA3_ROPE, YARN_ROPE, Tiny, config, shapes, variant

from edgellm.errors import CheckpointError
from edgellm.models.base import ModelSpec, Role, RopeScaling
from edgellm.models.registry import spec_of

CASES = DENSE | HYBRIDS


def read(tiny: Tiny, **changes: Any) -> ModelSpec:
    """The spec of a tiny checkpoint whose config.json is changed; a change to ... removes the key."""
    given = {key: value for key, value in (config(tiny) | changes).items() if value is not ...}
    return spec_of(given, shapes(tiny))


def refusal(tiny: Tiny, **changes: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        read(tiny, **changes)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_numbers_are_read() -> None:
    spec = read(CASES["qwen2moe"])
    assert (spec.n_layer, spec.n_embd, spec.n_ff, spec.n_head, spec.n_head_kv) == (2, 64, 96, 4, 2)
    assert (spec.head_dim, spec.n_vocab, spec.n_ctx_train, spec.rms_eps) == (16, 320, 512, 1e-6)
    assert spec.moe is not None
    assert (spec.moe.n_expert, spec.moe.n_expert_used, spec.moe.n_ff_expert) == (6, 2, 40)
    assert (spec.moe.n_ff_shared, spec.moe.norm_topk_prob) == (72, False)
    assert read(CASES["qwen2"]).rope_theta == 1e6


def test_both_releases_of_transformers_are_read_alike() -> None:
    for name in ("llama", "qwen2-odd", "qwen3moe"):
        assert read(variant(name, config_release=4)) == read(variant(name, config_release=5))
    assert read(CASES["qwen3moe"], num_experts=..., num_local_experts=6) == read(CASES["qwen3moe"])


def test_a_rope_nested_by_layer_type_is_read() -> None:
    tiny = CASES["llama"]
    nested = {"full_attention": LLAMA3_ROPE | {"rope_theta": 10000.0}}
    assert read(tiny, rope_scaling=..., rope_theta=..., rope_parameters=nested) == read(tiny)


@pytest.mark.parametrize("spelling", ["rope_type", "type"])
def test_rope_scalings_are_read(spelling: str) -> None:
    tiny = CASES["llama"]

    def scaling(given: dict[str, Any]) -> RopeScaling | None:
        given = dict(given)
        given[spelling] = given.pop("rope_type")
        return read(tiny, rope_scaling=given).rope_scaling

    assert scaling(LLAMA3_ROPE) == RopeScaling("llama3", 8.0, 1.0, 4.0, 64)
    assert scaling(LINEAR_ROPE) == RopeScaling("linear", 2.0)
    assert scaling(YARN_ROPE) == RopeScaling("yarn", 8.0, original_max_position_embeddings=64)
    assert scaling({"rope_type": "default"}) is None
    usual = 0.1 * math.log(8.0) + 1.0
    full = scaling(YARN_ROPE | {"attention_factor": usual, "beta_fast": 16, "beta_slow": 2, "mscale": None})
    assert full == RopeScaling("yarn", 8.0, 1.0, 4.0, 64, usual, 16.0, 2.0)


def test_rope_freqs_are_there_for_llama3_scaling_alone() -> None:
    tensor = read(CASES["llama"]).tensor(Role.ROPE_FREQS)
    assert tensor is not None and tensor.sources == () and tensor.shape == (8,)
    assert tensor.gguf_name == "rope_freqs.weight"
    assert read(CASES["llama-bias"]).tensor(Role.ROPE_FREQS) is None


def test_defaults_are_transformers() -> None:
    spec = read(CASES["llama-odd"], rope_theta=..., rms_norm_eps=..., hidden_act=...)
    assert (spec.rope_theta, spec.rms_eps) == (10000.0, 1e-6)
    assert read(replace(CASES["qwen2"], n_head_kv=4), num_key_value_heads=...).n_head_kv == 4
    # Qwen3Config's head_dim is 128, whatever the width: five heads of it make 640 rows.
    assert "[640, 80]" in refusal(CASES["qwen3-f32"], head_dim=...)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 513),
        ("num_hidden_layers", 2.0),
        ("num_hidden_layers", "2"),
        ("num_hidden_layers", True),
        ("hidden_size", -64),
        ("hidden_size", 1 << 40),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 0),
        ("num_key_value_heads", 3),
        ("vocab_size", 1 << 30),
        ("max_position_embeddings", 1 << 31),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", 0.0),
        ("rms_norm_eps", 1.0),
        ("rms_norm_eps", "1e-6"),
        ("rope_theta", float("inf")),
        ("rope_theta", -1.0),
        ("head_dim", 15),
        ("intermediate_size", None),
        ("intermediate_size", 0),
    ],
)
def test_absurd_numbers_are_refused(key: str, value: object) -> None:
    assert key in refusal(CASES["llama"], **{key: value})


@pytest.mark.parametrize(
    ("name", "changes", "parts"),
    [
        ("qwen2", {"hidden_act": "gelu"}, ("hidden_act", "'gelu'", "silu")),
        (
            "qwen2",
            {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 511},
            ("use_sliding_window", "false", "511"),
        ),
        ("qwen3moe", {"use_sliding_window": True, "sliding_window": 16}, ("use_sliding_window",)),
        (
            "qwen3",
            {"layer_types": ["full_attention", "sliding_attention"]},
            ("layer_types", "sliding_attention"),
        ),
        ("llama", {"quantization_config": {"quant_method": "bitnet"}}, ("bitnet", "while it runs")),
        ("llama", {"is_causal": False}, ("is_causal",)),
        ("qwen3", {"use_bidirectional_attention": True}, ("use_bidirectional_attention", "an encoder")),
        (
            "llama",
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            ("'dynamic'", "linear, llama3, yarn"),
        ),
        ("qwen2", {"rope_scaling": LLAMA3_ROPE}, ("'llama3'", "linear, yarn")),
        ("llama", {"rope_scaling": "llama3"}, ("rope_parameters",)),
        ("llama", {"rope_scaling": LLAMA3_ROPE | {"factor": 0.5}}, ("factor", "0.5")),
        ("llama", {"rope_scaling": LLAMA3_ROPE | {"factor": None}}, ("factor",)),
        (
            "llama",
            {"rope_scaling": LLAMA3_ROPE | {"low_freq_factor": 4}},
            ("low_freq_factor", "high_freq_factor"),
        ),
        ("qwen2", {"rope_scaling": YARN_ROPE | {"attention_factor": 0.0}}, ("attention_factor", "0.0")),
        ("qwen2", {"rope_scaling": YARN_ROPE | {"truncate": False}}, ("truncate",)),
        ("llama", {"partial_rotary_factor": 0.5}, ("partial_rotary_factor", "0.5")),
        ("qwen2", {"head_dim": 32}, ("head_dim", "32", "16")),
        ("qwen3", {"attention_bias": True}, ("attention_bias", "qwen3")),
        ("llama", {"attention_bias": 1}, ("attention_bias", "true or false")),
        ("qwen2moe", {"norm_topk_prob": True}, ("norm_topk_prob", "qwen2moe")),
        ("qwen3moe", {"norm_topk_prob": ...}, ("norm_topk_prob", "qwen3moe")),
        ("qwen3moe", {"decoder_sparse_step": 2}, ("decoder_sparse_step", "2")),
        ("qwen3moe", {"mlp_only_layers": [0]}, ("mlp_only_layers", "[0]")),
        ("qwen3moe", {"num_experts_per_tok": 7}, ("num_experts_per_tok", "7", "6")),
        ("qwen2moe", {"shared_expert_intermediate_size": 0}, ("shared_expert_intermediate_size",)),
        (
            "qwen2",
            {"layer_types": ["linear_attention", "full_attention"]},
            ("linear_attention", "only full_"),
        ),
        ("qwen35", {"layer_types": ["linear_attention"] * 3}, ("layer_types", "every layer", "both kinds")),
        ("qwen35", {"layer_types": ["full_attention"] * 3}, ("layer_types", "every layer", "both kinds")),
        (
            "qwen35",
            {"layer_types": ["full_attention"]},
            ("layer_types", "1 entries", "num_hidden_layers is 3"),
        ),
        ("qwen35", {"layer_types": None, "num_hidden_layers": 2}, ("every layer",)),
        (
            "qwen35",
            {"layer_types": ["full_attention", "mamba", "mamba"]},
            ("mamba", "only full_attention and"),
        ),
        ("qwen35", {"linear_value_head_dim": 32}, ("linear_value_head_dim is 32", "is 16", "equal only")),
        ("qwen35", {"linear_num_value_heads": 3}, ("linear_num_value_heads is 3", "multiple", "2")),
        ("qwen35", {"linear_num_key_heads": None}, ("no linear_num_key_heads",)),
        ("qwen35", {"linear_conv_kernel_dim": 1}, ("linear_conv_kernel_dim",)),
        ("qwen35", {"rms_norm_eps": 1e-5}, ("rms_norm_eps is 1e-05", "1e-06")),
        ("qwen35", {"attention_bias": True}, ("attention_bias", "qwen35")),
        ("qwen35", {"rope_parameters": {"partial_rotary_factor": 0.2}}, ("partial_rotary_factor", "3 of 16")),
        ("qwen35", {"rope_parameters": {"partial_rotary_factor": 1.5}}, ("partial_rotary_factor", "1.5")),
        ("qwen35", {"rope_parameters": {"mrope_section": [11, 0, 0]}}, ("mrope_section", "2 pairs")),
        ("qwen35", {"rope_parameters": {"mrope_section": [11, 11, 10]}}, ("mrope_section", "2 pairs")),
        ("qwen35", {"rope_parameters": {"mrope_section": [1, 1]}}, ("mrope_section", "three whole numbers")),
        ("qwen35", {"rope_parameters": {"mrope_section": [1, 1, 1, 1]}}, ("three whole numbers",)),
        ("qwen35", {"rope_parameters": {"mrope_section": [0, 0, 0]}}, ("mrope_section",)),
        ("qwen35moe", {"norm_topk_prob": False}, ("norm_topk_prob", "qwen35moe")),
    ],
)
def test_what_the_engines_do_not_compute_is_refused(
    name: str, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    message = refusal(CASES[name], **changes)
    assert all(part in message for part in parts), message


def test_a_window_that_no_layer_uses_is_no_obstacle() -> None:
    read(CASES["qwen2"], use_sliding_window=True, max_window_layers=2)
    read(CASES["qwen2"], use_sliding_window=True, sliding_window=None)
    read(CASES["qwen2"], layer_types=["full_attention", "full_attention"])


def change_shapes(tiny: Tiny, **changes: Any) -> str:
    """The refusal when tensors are added, given another shape or, with None, taken away."""
    found = shapes(tiny) | {name.replace("__", "."): shape for name, shape in changes.items()}
    kept = {name: shape for name, shape in found.items() if shape is not None}
    with pytest.raises(CheckpointError) as error:
        spec_of(config(tiny), kept)
    return str(error.value)


def test_missing_misshapen_and_unknown_tensors_are_refused_by_name() -> None:
    tiny = CASES["qwen2"]
    assert "model.norm.weight" in change_shapes(tiny, model__norm__weight=None)
    assert "lm_head.weight" in change_shapes(tiny, lm_head__weight=None)
    assert "[319, 64]" in change_shapes(tiny, model__embed_tokens__weight=(319, 64))
    assert "'score.weight' is not part" in change_shapes(tiny, score__weight=(1, 64))
    extra = change_shapes(tiny, b__weight=(1, 64), a__weight=(1, 64))
    assert "'a.weight' and 1 more are not part" in extra
    assert "2 layers" in change_shapes(tiny, **{"model__layers__2__input_layernorm__weight": (64,)})


def test_a_bias_the_config_does_not_announce_is_refused() -> None:
    assert "q_proj.bias" in change_shapes(CASES["llama"], model__layers__0__self_attn__q_proj__bias=(64,))


def test_buffers_of_old_releases_are_ignored() -> None:
    tiny = CASES["llama-odd"]
    found = shapes(tiny) | {"model.layers.0.self_attn.rotary_emb.inv_freq": (12,)}
    assert spec_of(config(tiny), found) == read(tiny)


@pytest.mark.parametrize("missing", ["model.embed_tokens.weight", "lm_head.weight"])
def test_one_matrix_is_both_where_the_flag_says_so_alone(missing: str) -> None:
    """transformers 5 starts the missing one from random numbers without the flag, and so do its configs' defaults."""
    tiny = variant("qwen3", tied=False)
    found = {name: shape for name, shape in shapes(tiny).items() if name != missing}
    tied = spec_of(config(tiny) | {"tie_word_embeddings": True}, found)
    embedding = tied.tensor(Role.TOKEN_EMBD)
    assert tied.tied and embedding is not None
    assert {embedding.sources[0].name, missing} == {"model.embed_tokens.weight", "lm_head.weight"}
    for flag in (False, None):
        with pytest.raises(CheckpointError, match=f"no {missing}.*tie_word_embeddings"):
            spec_of(config(tiny) | {"tie_word_embeddings": flag}, found)


def test_a_nested_config_is_that_of_the_language_model() -> None:
    """Which classes, and whether the head is tied, the outer one says; all numbers the inner one."""
    tiny = CASES["qwen35-grouped"]
    outer = config(tiny)
    spec = spec_of(outer, shapes(tiny))
    assert spec == spec_of({**outer.pop("text_config"), **outer}, shapes(tiny))
    assert (spec.architecture.name, spec.n_layer, spec.n_layer_nextn, spec.tied) == ("qwen35", 4, 1, False)
    seen = shapes(tiny) | {"model.visual.blocks.0.attn.qkv.weight": (96, 32)}
    assert spec_of(config(tiny), seen).left_out == ("vision tower",)


def test_the_blocks_that_predict_are_counted_by_their_tensors() -> None:
    """transformers drops them when it saves, and keeps their number in config.json."""
    tiny = CASES["qwen35-grouped"]
    without = {name: shape for name, shape in shapes(tiny).items() if not name.startswith("mtp.")}
    assert spec_of(config(tiny), without).n_layer_nextn == 0
    assert "mtp.fc.weight" in change_shapes(tiny, mtp__fc__weight=None)
    two = {name.replace("mtp.layers.0", "mtp.layers.1"): shape for name, shape in shapes(tiny).items()}
    with pytest.raises(CheckpointError, match="predicts 2 tokens more"):
        spec_of(config(tiny), shapes(tiny) | two)


def test_a_stacked_layout_named_with_weight_is_read() -> None:
    tiny = CASES["qwen3moe-stacked"]
    renamed = {
        name + ".weight" if "mlp.experts." in name else name: shape for name, shape in shapes(tiny).items()
    }
    spec = spec_of(config(tiny), renamed)
    gate = spec.tensor(Role.FFN_GATE_EXPS, 0)
    assert gate is not None and gate.sources[0].name == "model.layers.0.mlp.experts.gate_up_proj.weight"


def test_a_transposed_stacked_layout_is_refused() -> None:
    tiny = CASES["qwen3moe-stacked"]
    name = "model__layers__0__mlp__experts__down_proj"
    assert "down_proj" in change_shapes(tiny, **{name: (9, 40, 64)})
