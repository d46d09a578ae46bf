"""Small random checkpoints of every family, with a tokenizer, for any test: no torch, no network, no files kept.

    folder = write(CASES["qwen3moe-stacked"], tmp_path)
    folder = write(variant("llama", n_head=1, n_head_kv=1, n_vocab=512), tmp_path / "odd")

Weights come from an integer hash of (seed, tensor name, index), so they are the same on every machine and
under every numpy. `CASES` are the shapes that every writer and the oracle must handle.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tensor_files import Array, from_bits, to_bits, write_json, write_shards
from tinytokenizer import SPECIALS, TEMPLATES, tokenizer_json

FAMILIES = {  # model_type: class name
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # short, so that a short test reaches all three regions
}
YARN_ROPE = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
LINEAR_ROPE = {"rope_type": "linear", "factor": 2.0}


@dataclass(frozen=True)
class Tiny:
    """One checkpoint to write. `model_type` is Hugging Face's; the other names are ModelSpec's."""

    model_type: str
    n_layer: int = 2
    n_embd: int = 64
    n_ff: int = 96
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int | None = None  # None: leave it out of config.json (Qwen3: n_embd / n_head, written)
    n_vocab: int = 320  # at least 310 with a tokenizer; more is a padded vocabulary
    n_ctx_train: int = 512
    rms_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    tied: bool = False
    attention_bias: bool = False  # Llama
    mlp_bias: bool = False  # Llama
    n_expert: int = 6
    n_expert_used: int = 2
    n_ff_expert: int = 40
    n_ff_shared: int = 72
    stacked: bool = False  # experts in two tensors a layer
    n_k_heads: int = 2  # of the delta net layers
    n_v_heads: int = 2
    net_head_dim: int = 16
    full_attention_interval: int = 2
    mrope_section: tuple[int, int, int] = (3, 3, 2)
    nextn: bool = False  # a block that predicts the next token but one
    dtype: str = "BF16"  # BF16, F16 or F32
    n_shards: int = 1
    config_release: int = 4  # which transformers' key names config.json uses: 4 or 5
    seed: int = 1
    extra_config: Mapping[str, Any] = field(default_factory=dict)  # laid over config.json last

    @property
    def moe(self) -> bool:
        return self.model_type.removesuffix("_text").endswith("_moe")

    @property
    def nested(self) -> bool:
        """Whether the language model is one part of more."""
        return self.model_type in ("qwen3_5", "qwen3_5_moe")

    @property
    def hybrid(self) -> bool:
        return self.model_type.startswith("qwen3_5")

    @property
    def layer_types(self) -> list[str]:
        kinds = ["linear_attention"] * (self.full_attention_interval - 1) + ["full_attention"]
        return [kinds[layer % len(kinds)] for layer in range(self.n_layer)]

    @property
    def head_size(self) -> int:
        return self.head_dim or self.n_embd // self.n_head


CASES: dict[str, Tiny] = {
    "llama": Tiny("llama", rope_scaling=LLAMA3_ROPE, n_shards=3, rms_eps=1e-5),
    "llama-bias": Tiny("llama", attention_bias=True, mlp_bias=True, tied=True, rope_scaling=LINEAR_ROPE),
    "llama-odd": Tiny(
        "llama", n_embd=72, n_ff=100, n_head=3, n_head_kv=1, head_dim=24, n_vocab=331, rope_scaling=YARN_ROPE
    ),
    "qwen2": Tiny("qwen2", rope_theta=1e6, n_shards=2),
    "qwen2-odd": Tiny("qwen2", n_embd=56, n_ff=84, n_head=7, n_head_kv=1, tied=True, rope_scaling=YARN_ROPE),
    "qwen2-f16": Tiny("qwen2", dtype="F16", n_head=4, n_head_kv=4),
    "qwen2moe": Tiny("qwen2_moe", n_shards=2),
    "qwen2moe-stacked": Tiny("qwen2_moe", stacked=True, tied=True, n_expert=5, n_expert_used=3),
    "qwen3": Tiny("qwen3", tied=True, head_dim=24, rope_theta=1e6),
    "qwen3-f32": Tiny("qwen3", dtype="F32", n_embd=80, n_head=5, n_head_kv=5, config_release=5),
    "qwen3moe": Tiny("qwen3_moe", head_dim=32, n_shards=2),
    "qwen3moe-stacked": Tiny("qwen3_moe", stacked=True, config_release=5, n_expert=9, n_expert_used=4),
    # Every row a multiple of 256, so that all quantization types apply.
    "llama-256": Tiny(
        "llama", n_embd=256, n_ff=512, head_dim=64, rope_scaling=LLAMA3_ROPE, n_vocab=384, config_release=5
    ),
    "qwen2-256": Tiny("qwen2", n_embd=256, n_ff=768, n_head=8),
    "qwen3moe-256": Tiny("qwen3_moe", n_embd=256, head_dim=64, n_ff_expert=256, n_expert=4),
}

#: Delta nets in turns with attention; the larger ones in the shape of a checkpoint that also sees pictures.
HYBRIDS: dict[str, Tiny] = {
    "qwen35": Tiny("qwen3_5_text", n_layer=3, head_dim=16, tied=True, config_release=5),
    "qwen35-grouped": Tiny(
        "qwen3_5", n_layer=4, head_dim=16, n_v_heads=6, nextn=True, config_release=5, n_shards=2
    ),
    "qwen35-256": Tiny(
        "qwen3_5",
        n_layer=3,
        n_embd=256,
        n_ff=512,
        head_dim=64,
        n_v_heads=4,
        net_head_dim=64,
        config_release=5,
    ),
    "qwen35moe": Tiny("qwen3_5_moe_text", n_layer=3, head_dim=16, tied=True, config_release=5),
    "qwen35moe-stacked": Tiny(
        "qwen3_5_moe",
        n_layer=4,
        head_dim=16,
        n_v_heads=6,
        nextn=True,
        stacked=True,
        n_expert=5,
        config_release=5,
    ),
}


def config(tiny: Tiny) -> dict[str, Any]:
    """config.json as transformers writes it."""
    inner = _inner_config(tiny)
    if not tiny.nested:
        return inner
    on_top = {key: inner.pop(key) for key in ("architectures", "tie_word_embeddings")}
    vision = {"model_type": f"{tiny.model_type}_vision", "hidden_size": 32}
    on_top |= {"model_type": tiny.model_type, "vision_config": vision}
    return on_top | {"text_config": inner | {"model_type": f"{tiny.model_type}_text"}}


def _inner_config(tiny: Tiny) -> dict[str, Any]:
    found: dict[str, Any] = {
        "architectures": [FAMILIES[tiny.model_type]],
        "model_type": tiny.model_type,
        "vocab_size": tiny.n_vocab,
        "hidden_size": tiny.n_embd,
        "intermediate_size": tiny.n_ff,
        "num_hidden_layers": tiny.n_layer,
        "num_attention_heads": tiny.n_head,
        "num_key_value_heads": tiny.n_head_kv,
        "hidden_act": "silu",
        "max_position_embeddings": tiny.n_ctx_train,
        "rms_norm_eps": tiny.rms_eps,
        "tie_word_embeddings": tiny.tied,
        "bos_token_id": special_ids(tiny)[0],
        "eos_token_id": special_ids(tiny)[1],
    }
    if tiny.head_dim or tiny.model_type.startswith("qwen3"):
        found["head_dim"] = tiny.head_size
    if tiny.model_type == "llama":
        found |= {"attention_bias": tiny.attention_bias, "mlp_bias": tiny.mlp_bias}
    if tiny.hybrid:
        found |= _net_config(tiny)
    elif tiny.model_type.startswith("qwen"):
        found |= {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": tiny.n_layer}
    if tiny.moe:
        found |= _moe_config(tiny)
    if tiny.moe and tiny.hybrid:  # says neither
        del found["intermediate_size"], found["norm_topk_prob"]
    return found | _release_config(tiny) | dict(tiny.extra_config)


def _moe_config(tiny: Tiny) -> dict[str, Any]:
    qwen3 = tiny.model_type.startswith("qwen3")
    shared = {} if tiny.model_type == "qwen3_moe" else {"shared_expert_intermediate_size": tiny.n_ff_shared}
    return shared | {
        "num_experts": tiny.n_expert,
        "num_experts_per_tok": tiny.n_expert_used,
        "moe_intermediate_size": tiny.n_ff_expert,
        "norm_topk_prob": qwen3,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _net_config(tiny: Tiny) -> dict[str, Any]:
    return {
        "linear_num_key_heads": tiny.n_k_heads,
        "linear_num_value_heads": tiny.n_v_heads,
        "linear_key_head_dim": tiny.net_head_dim,
        "linear_value_head_dim": tiny.net_head_dim,
        "linear_conv_kernel_dim": 4,
        "layer_types": tiny.layer_types,
        "mtp_num_hidden_layers": int(tiny.nextn),
    }


def _release_config(tiny: Tiny) -> dict[str, Any]:
    dtype = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[tiny.dtype]
    scaling = dict(tiny.rope_scaling) if tiny.rope_scaling else None
    if tiny.hybrid:
        partial = {"partial_rotary_factor": 0.25, "mrope_section": [*tiny.mrope_section]}
        scaling = (scaling or {"rope_type": "default"}) | partial | {"mrope_interleaved": True}
    if tiny.config_release == 5:
        plain = {"rope_type": "default"}
        return {"rope_parameters": (scaling or plain) | {"rope_theta": tiny.rope_theta}, "dtype": dtype}
    return {"rope_theta": tiny.rope_theta, "rope_scaling": scaling, "torch_dtype": dtype}


def tensors(tiny: Tiny) -> dict[str, Array]:
    """Every tensor by checkpoint name, float32 but rounded to the checkpoint's dtype."""
    return {name: from_bits(to_bits(value, tiny.dtype), tiny.dtype) for name, value in _unrounded(tiny)}


def _unrounded(tiny: Tiny) -> Iterator[tuple[str, Array]]:
    for name, shape in shapes(tiny).items():
        noise = hashed(name, shape, tiny.seed)
        if name.endswith("norm.weight") or "pre_fc_norm" in name:
            less_one = tiny.hybrid and not name.endswith("linear_attn.norm.weight")
            yield name, int(not less_one) + np.float32(0.2) * noise
        elif name.endswith("A_log"):
            yield name, np.float32(1.5) * noise
        elif "conv1d" in name:
            yield name, noise
        elif name.endswith((".bias", "dt_bias")):
            yield name, np.float32(0.3) * noise
        elif "embed_tokens" in name:
            yield name, noise
        else:  # variance 1 / in_features, sharper where a softmax follows
            sharp = 3.0 if name.endswith(("q_proj.weight", "mlp.gate.weight")) else 1.0
            yield name, noise * np.float32(sharp * (3.0 / shape[-1]) ** 0.5)


def shapes(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape in checkpoint order."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (tiny.n_vocab, tiny.n_embd)}
    for i in range(tiny.n_layer):
        prefix = f"model.layers.{i}."
        is_net = tiny.hybrid and tiny.layer_types[i] == "linear_attention"
        found |= {prefix + name: shape for name, shape in _layer_shapes(tiny, is_net)}
    found["model.norm.weight"] = (tiny.n_embd,)
    if not tiny.tied:
        found["lm_head.weight"] = (tiny.n_vocab, tiny.n_embd)
    if tiny.nextn:
        found |= {"mtp.layers.0." + name: shape for name, shape in _layer_shapes(tiny)}
        found["mtp.fc.weight"] = (tiny.n_embd, 2 * tiny.n_embd)
        for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
            found[f"mtp.{name}.weight"] = (tiny.n_embd,)
    return found


def _net_shapes(tiny: Tiny) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_k, n_v = tiny.n_k_heads * tiny.net_head_dim, tiny.n_v_heads * tiny.net_head_dim
    yield "linear_attn.in_proj_qkv.weight", (2 * n_k + n_v, tiny.n_embd)
    yield "linear_attn.in_proj_z.weight", (n_v, tiny.n_embd)
    yield "linear_attn.conv1d.weight", (2 * n_k + n_v, 1, 4)
    for name in ("dt_bias", "A_log"):
        yield f"linear_attn.{name}", (tiny.n_v_heads,)
    for name in ("in_proj_b", "in_proj_a"):
        yield f"linear_attn.{name}.weight", (tiny.n_v_heads, tiny.n_embd)
    yield "linear_attn.norm.weight", (tiny.net_head_dim,)
    yield "linear_attn.out_proj.weight", (tiny.n_embd, n_v)


def _layer_shapes(tiny: Tiny, is_net: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "input_layernorm.weight", (tiny.n_embd,)
    yield "post_attention_layernorm.weight", (tiny.n_embd,)
    yield from _net_shapes(tiny) if is_net else _attention_shapes(tiny)
    yield from _moe_shapes(tiny) if tiny.moe else _mlp_shapes("mlp.", tiny.n_ff, tiny.n_embd, tiny.mlp_bias)


def _attention_shapes(tiny: Tiny) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_q, n_kv = tiny.n_head * tiny.head_size, tiny.n_head_kv * tiny.head_size
    for name, n_out in (("q", n_q * (1 + tiny.hybrid)), ("k", n_kv), ("v", n_kv)):
        yield f"self_attn.{name}_proj.weight", (n_out, tiny.n_embd)
        if tiny.attention_bias or tiny.model_type.startswith("qwen2"):
            yield f"self_attn.{name}_proj.bias", (n_out,)
    yield "self_attn.o_proj.weight", (tiny.n_embd, n_q)
    if tiny.attention_bias:
        yield "self_attn.o_proj.bias", (tiny.n_embd,)
    if tiny.model_type.startswith("qwen3"):
        yield "self_attn.q_norm.weight", (tiny.head_size,)
        yield "self_attn.k_norm.weight", (tiny.head_size,)


def _mlp_shapes(prefix: str, n_ff: int, n_embd: int, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in (("gate", (n_ff, n_embd)), ("up", (n_ff, n_embd)), ("down", (n_embd, n_ff))):
        yield f"{prefix}{name}_proj.weight", shape
        if bias:
            yield f"{prefix}{name}_proj.bias", shape[:1]


def _moe_shapes(tiny: Tiny) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "mlp.gate.weight", (tiny.n_expert, tiny.n_embd)
    if tiny.stacked:
        yield "mlp.experts.gate_up_proj", (tiny.n_expert, 2 * tiny.n_ff_expert, tiny.n_embd)
        yield "mlp.experts.down_proj", (tiny.n_expert, tiny.n_embd, tiny.n_ff_expert)
    else:
        for e in range(tiny.n_expert):
            yield from _mlp_shapes(f"mlp.experts.{e}.", tiny.n_ff_expert, tiny.n_embd, False)
    if tiny.model_type != "qwen3_moe":
        yield from _mlp_shapes("mlp.shared_expert.", tiny.n_ff_shared, tiny.n_embd, False)
        yield "mlp.shared_expert_gate.weight", (1, tiny.n_embd)


def hashed(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """Float32 noise, uniform in [-1, 1), a pure function of its arguments (splitmix64's finalizer)."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64)
    x += np.uint64((zlib.crc32(name.encode()) << 32) ^ (seed << 20))
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    steps = (x >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return (steps.astype(np.float32) / np.float32(1 << 23)).reshape(shape)


def write(tiny: Tiny, folder: Path, *, tokenizer: bool = True) -> Path:
    """Write a whole checkpoint into `folder` (made when missing) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(tiny))
    if tokenizer:
        write_tokenizer(tiny, folder)
    values = {stored_name(tiny, name): (tiny.dtype, value) for name, value in tensors(tiny).items()}
    if tiny.nested:
        tower = "model.visual.patch_embed.proj.weight"
        values[tower] = (tiny.dtype, hashed(tower, (32, 3, 2, 2, 2), tiny.seed))
    write_shards(folder, values, tiny.n_shards)
    return folder


def stored_name(tiny: Tiny, name: str) -> str:
    """A tensor's name in the files, where the language model is one part of more."""
    return (
        name.replace("model.", "model.language_model.", 1) if tiny.nested and name[:6] == "model." else name
    )


def _kind(tiny: Tiny) -> str:
    return "llama" if tiny.model_type == "llama" else "qwen35" if tiny.hybrid else "qwen"


def special_ids(tiny: Tiny) -> tuple[int, int]:
    """The ids of bos and eos."""
    added = {
        token["content"]: token["id"] for token in json.loads(tokenizer_json(_kind(tiny)))["added_tokens"]
    }
    bos, eos = SPECIALS[_kind(tiny)][2]
    return added[bos], added[eos]


def write_tokenizer(tiny: Tiny, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and generation_config.json, as the real families have them."""
    kind = _kind(tiny)
    bos, eos = SPECIALS[kind][2]
    text = tokenizer_json(kind)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    ids = {token["id"]: token for token in json.loads(text)["added_tokens"]}
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {
                str(i): {flag: token[flag] for flag in flags} for i, token in ids.items()
            },
            "tokenizer_class": "PreTrainedTokenizerFast" if kind == "llama" else "Qwen2Tokenizer",
            "bos_token": bos if kind == "llama" else None,
            "eos_token": eos,
            "pad_token": None if kind == "llama" else bos,
            "chat_template": TEMPLATES[kind],
            "clean_up_tokenization_spaces": False,
            "model_max_length": tiny.n_ctx_train,
        }
        | ({} if kind == "llama" else {"add_bos_token": False}),
    )
    bos_id, eos_id = special_ids(tiny)
    write_json(folder / "generation_config.json", {"bos_token_id": bos_id, "eos_token_id": [eos_id, bos_id]})


def variant(name: str, **changes: Any) -> Tiny:
    """A case with some fields changed."""
    return replace((CASES | HYBRIDS)[name], **changes)
