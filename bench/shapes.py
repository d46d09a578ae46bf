"""Checkpoints with the exact shapes of public models and random weights, for measuring speed and memory.

    python bench/shapes.py qwen2.5-0.5b OUT_DIR [--layers N] [--tokenizer FOLDER]

Neither depends on the values of the weights or the words of a vocabulary, so nothing is downloaded: the
numbers are those of the models' config.json files, the vocabulary is made up in the real size (or copied from
FOLDER). Quality cannot be measured on these. Needs numpy alone and writes tensor by tensor.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "attention_bias": False,
    "mlp_bias": False,
}
_QWEN2: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "use_sliding_window": False,
}


def _rope(factor: float) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _numbers(n_embd: int, n_ff: int, n_layer: int, n_head: int, n_head_kv: int, tied: bool) -> dict[str, Any]:
    return {
        "hidden_size": n_embd,
        "intermediate_size": n_ff,
        "num_hidden_layers": n_layer,
        "num_attention_heads": n_head,
        "num_key_value_heads": n_head_kv,
        "tie_word_embeddings": tied,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": _QWEN2 | _numbers(896, 4864, 24, 14, 2, True) | {"vocab_size": 151936},
    "qwen2.5-1.5b": _QWEN2 | _numbers(1536, 8960, 28, 12, 2, True) | {"vocab_size": 151936},
    "qwen2.5-7b": _QWEN2 | _numbers(3584, 18944, 28, 28, 4, False) | {"vocab_size": 152064},
    "qwen3-0.6b": _QWEN2
    | _numbers(1024, 3072, 28, 16, 8, True)
    | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "attention_bias": False,
        "vocab_size": 151936,
    },
    "qwen3-30b-a3b": _QWEN2
    | _numbers(2048, 6144, 48, 32, 4, False)
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "attention_bias": False,
        "vocab_size": 151936,
    },
    "qwen3.5-0.8b": _numbers(1024, 3584, 24, 8, 2, True)
    | {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5_text",
        "vocab_size": 248320,
        "head_dim": 256,
        "layer_types": [("linear_attention", "full_attention")[i % 4 == 3] for i in range(24)],
        "linear_conv_kernel_dim": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
        },
        "eos_token_id": 248044,
    },
    "llama-3.2-1b": _LLAMA
    | _numbers(2048, 8192, 16, 32, 8, True)
    | {"head_dim": 64, "rope_scaling": _rope(32.0)},
    "llama-3.2-3b": _LLAMA
    | _numbers(3072, 8192, 28, 24, 8, True)
    | {"head_dim": 128, "rope_scaling": _rope(32.0)},
    "llama-3.1-8b": _LLAMA | _numbers(4096, 14336, 32, 32, 8, False) | {"rope_scaling": _rope(8.0)},
}

_LETTERS, _DIGIT, _MARKED = r"\p{L}", r"\p{N}", r"\p{L}\p{M}"

#: What each family's tokenizer takes for letters and digits of a word, its size, and the special tokens behind it.
_TOKENIZERS: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "llama": (
        _LETTERS,
        r"\p{N}{1,3}",
        128000,
        ("<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(254))),
    ),
    "qwen2": (_LETTERS, _DIGIT, 151643, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "qwen3_5_text": (_MARKED, _DIGIT, 248044, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
}
_TOKENIZERS["qwen3"] = _TOKENIZERS["qwen3_moe"] = _TOKENIZERS["qwen2"]


def write_checkpoint(
    name: str, folder: Path, n_layer: int | None = None, tokenizer: Path | None = None
) -> Path:
    """Write the checkpoint `name`, cut to `n_layer` layers if given, into `folder`, and return it."""
    config = SHAPES[name] | ({"num_hidden_layers": n_layer} if n_layer else {})
    if "layer_types" in config:
        config = config | {"layer_types": config["layer_types"][:n_layer]}
    folder.mkdir(parents=True, exist_ok=True)
    written = _nested(config) if config["model_type"] == "qwen3_5_text" else config
    (folder / "config.json").write_text(json.dumps(written | {"torch_dtype": "bfloat16"}, indent=2))
    if tokenizer:
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copyfile(tokenizer / file, folder / file)
    else:
        _write_tokenizer(config["model_type"], folder)
    _write_weights(dict(_tensors(config)), folder / "model.safetensors")
    return folder


def _nested(config: dict[str, Any]) -> dict[str, Any]:
    """As the real checkpoints, which see pictures; here with next to no vision tower, and none of its weights."""
    inner = {
        key: value for key, value in config.items() if key not in ("architectures", "tie_word_embeddings")
    }
    vision = {"model_type": "qwen3_5_vision", "depth": 1, "hidden_size": 64, "intermediate_size": 64}
    vision |= {"num_heads": 1, "out_hidden_size": config["hidden_size"]}
    on_top = {key: config[key] for key in ("architectures", "tie_word_embeddings")}
    return on_top | {"model_type": "qwen3_5", "text_config": inner, "vision_config": vision}


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_embd, n_head = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim", n_embd // n_head)
    model = "model.language_model." if config["model_type"] == "qwen3_5_text" else "model."
    yield f"{model}embed_tokens.weight", (config["vocab_size"], n_embd)
    for i in range(config["num_hidden_layers"]):
        prefix = f"{model}layers.{i}."
        yield prefix + "input_layernorm.weight", (n_embd,)
        yield prefix + "post_attention_layernorm.weight", (n_embd,)
        if config.get("layer_types", [""] * (i + 1))[i] == "linear_attention":
            yield from _delta_net(prefix + "linear_attn.", config)
        else:
            yield from _attention(prefix + "self_attn.", config, n_head, head_dim)
        yield from _feed_forward(prefix + "mlp.", config)
    yield f"{model}norm.weight", (n_embd,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], n_embd)


def _attention(
    prefix: str, config: dict[str, Any], n_head: int, head_dim: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_embd, kind = config["hidden_size"], config["model_type"]
    n_q, n_kv = n_head * head_dim, config["num_key_value_heads"] * head_dim
    gated = kind == "qwen3_5_text"  # per head a query and a gate
    for letter, n_out in (("q", n_q * (1 + gated)), ("k", n_kv), ("v", n_kv)):
        yield f"{prefix}{letter}_proj.weight", (n_out, n_embd)
        if kind == "qwen2":
            yield f"{prefix}{letter}_proj.bias", (n_out,)
    yield prefix + "o_proj.weight", (n_embd, n_q)
    if kind in ("qwen3_moe", "qwen3_5_text"):
        yield prefix + "q_norm.weight", (head_dim,)
        yield prefix + "k_norm.weight", (head_dim,)


def _delta_net(prefix: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_embd, heads, width = (
        config[key] for key in ("hidden_size", "linear_num_value_heads", "linear_value_head_dim")
    )
    n_v = heads * width
    n_conv = n_v + 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
    yield prefix + "in_proj_qkv.weight", (n_conv, n_embd)
    yield prefix + "in_proj_z.weight", (n_v, n_embd)
    yield prefix + "in_proj_a.weight", (heads, n_embd)
    yield prefix + "in_proj_b.weight", (heads, n_embd)
    yield prefix + "conv1d.weight", (n_conv, 1, config["linear_conv_kernel_dim"])
    yield prefix + "A_log", (heads,)
    yield prefix + "dt_bias", (heads,)
    yield prefix + "norm.weight", (width,)
    yield prefix + "out_proj.weight", (n_embd, n_v)


def _feed_forward(prefix: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    n_embd, n_ff, n_expert = config["hidden_size"], config["intermediate_size"], config.get("num_experts", 0)
    if n_expert:
        yield prefix + "gate.weight", (n_expert, n_embd)
        n_ff = config["moe_intermediate_size"]
    for part in [f"experts.{i}." for i in range(n_expert)] or [""]:
        yield f"{prefix}{part}gate_proj.weight", (n_ff, n_embd)
        yield f"{prefix}{part}up_proj.weight", (n_ff, n_embd)
        yield f"{prefix}{part}down_proj.weight", (n_embd, n_ff)


def _write_weights(shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """Normal values of deviation 0.02 in bf16, cut from one block at places that differ by tensor."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(1 << 24) * 0.02).astype(np.float32)
    block = (values.view(np.uint32) >> 16).astype("<u2")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            left = int(np.prod(shape))
            start = int(rng.integers(len(block)))
            while left:
                part = block[start : start + left]
                file.write(part.tobytes())
                left, start = left - len(part), 0


def _write_tokenizer(model_type: str, folder: Path) -> None:
    """A byte-level BPE tokenizer of the real size whose words are made up."""
    letter, digits, n_tokens, specials = _TOKENIZERS[model_type]
    word = r"\p{L}+" if letter == _LETTERS else f"[{letter}]+"
    regex = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?{word}|{digits}| ?[^\s{letter}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    letters = [chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    pairs = [left + right for left, right in product(letters, letters)]
    merges = islice(
        ((a, b) for words in (letters, pairs) for a, b in product(words, letters)), n_tokens - 256
    )
    merged = [list(pair) for pair in merges]
    words = letters + [left + right for left, right in merged]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    found = {
        "version": "1.0",
        "added_tokens": [{"id": n_tokens + i, "content": text} | flags for i, text in enumerate(specials)],
        "normalizer": {"type": "NFC"} if model_type != "llama" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "ignore_merges": model_type == "llama",
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": merged,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    settings = {"bos_token": specials[0] if model_type == "llama" else None, "eos_token": specials[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, help="layers to keep (default: all)")
    parser.add_argument("--tokenizer", type=Path, help="folder to copy a real tokenizer from")
    arguments = parser.parse_args()
    print(write_checkpoint(arguments.name, arguments.out, arguments.layers, arguments.tokenizer))


if __name__ == "__main__":
    main()
