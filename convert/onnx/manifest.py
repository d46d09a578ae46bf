"""The JSON files of an ONNX folder: our manifest (edgellm.json) and onnxruntime-genai's genai_config.json.

Knows their keys and nothing of graphs. The tokenizer's files are the checkpoint's own, copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.special_tokens import ENDS_BY_TEXT
from edgellm.convert.checkpoint.tokenizer import CONTROL, Vocabulary
from edgellm.convert.onnx.heads import HeadLayout
from edgellm.models.base import LayerKind, ModelSpec
from edgellm.version import __version__

MANIFEST, GENAI_CONFIG = "edgellm.json", "genai_config.json"
MANIFEST_VERSION = 1

#: Copied from the checkpoint where it has them; tokenizer.json is written, see writer.py.
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "config.json",
    "chat_template.jinja",
    "chat_template.json",
)

#: onnxruntime-genai's `model.type` for our architectures; it has none for Qwen2-MoE and Qwen3-MoE.
GENAI_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen2vl": "qwen2",
    "qwen3vl": "qwen3",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
}


def manifest(
    spec: ModelSpec, vocabulary: Vocabulary, name: str, quant: str, n_ctx: int, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """edgellm.json, its hashes and verdict still to be added."""
    special = vocabulary.special
    return {
        "format": "edgellm-onnx",
        "format_version": MANIFEST_VERSION,
        "name": name,
        "architecture": spec.architecture.name,
        "quantization": quant,
        "n_ctx": n_ctx,
        "n_ctx_train": spec.n_ctx_train,
        "n_params": spec.n_params,
        "dimensions": {
            "n_layer": spec.n_layer,
            "n_embd": spec.n_embd,
            "n_head": spec.n_head,
            "n_head_kv": spec.n_head_kv,
            "head_dim": spec.head_dim,
            "n_vocab": spec.n_vocab,
        },
        "state_bytes": state_bytes(spec),
        "tokenizer": tokenizer(vocabulary),
        "chat_template": special.chat_template,
        "named_templates": dict(special.named_templates),
        "recipe": dict(recipe),
        "edgellm_version": __version__,
    }


def state_bytes(spec: ModelSpec) -> int:
    """Bytes of the delta nets' states, which a KV cache does not hold: float32, whatever the length of a text."""
    net = spec.delta_net
    if net is None:
        return 0
    each = (net.conv_kernel - 1) * net.n_conv + net.n_v * net.head_dim
    return 4 * each * sum(spec.kind(layer) is LayerKind.DELTA_NET for layer in range(spec.n_layer))


def tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """What tokenizer.json does not say: what begins a text and ends an answer, and which tokens are no text."""
    special = vocabulary.special
    return {
        "bos_token_id": special.ids.get("bos"),
        "eos_token_id": special.ids.get("eos"),
        "add_bos": bool(special.add.get("bos", False)),
        "closing_id": special.ids.get("eos") if special.add.get("eos") else None,
        "eos_token_ids": stop_ids(vocabulary),
        "control_ids": [i for i, kind in enumerate(vocabulary.types) if kind == CONTROL],
        "names": dict(special.names),
    }


def stop_ids(vocabulary: Vocabulary) -> list[int]:
    """Every id that ends an answer: what the files say, and what llama.cpp ends at because of its text."""
    by_text = {
        i
        for i, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind == CONTROL and token in ENDS_BY_TEXT
    }
    return sorted(by_text.union(vocabulary.special.stop_ids))


def genai_config(spec: ModelSpec, vocabulary: Vocabulary, n_ctx: int, file: str) -> dict[str, Any]:
    """What makes the folder load in onnxruntime-genai; the names of inputs and outputs are its own."""
    special = vocabulary.special
    ends = stop_ids(vocabulary)
    return {
        "model": {
            "bos_token_id": special.ids.get("bos", ends[0]),
            "context_length": n_ctx,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": file,
                "head_size": HeadLayout(spec.head_dim, spec.n_rotary).width,
                "hidden_size": spec.n_embd,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                    **_state_names(spec, "past"),
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                    **_state_names(spec, "present"),
                },
                "num_attention_heads": spec.n_head,
                "num_hidden_layers": spec.n_layer,
                "num_key_value_heads": spec.n_head_kv,
            },
            "eos_token_id": ends,
            "pad_token_id": special.ids.get("pad", ends[0]),
            "type": GENAI_TYPES.get(spec.architecture.name, "decoder"),
            "vocab_size": spec.n_vocab,
        },
        "search": {
            "do_sample": False,
            "max_length": n_ctx,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }


def _state_names(spec: ModelSpec, prefix: str) -> dict[str, str]:
    if spec.delta_net is None:
        return {}
    return {f"{prefix}_{part}_names": f"{prefix}.%d.{part}" for part in ("conv", "recurrent")}


def model_name(keys: Mapping[str, tuple[str, Any]], folder: Path) -> str:
    """The model's name: what GGUF metadata would call it, else its folder's."""
    return str(keys["general.name"][1]) if "general.name" in keys else folder.name
