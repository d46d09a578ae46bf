"""The models' config.json and generation_config.json, with the keys of the real families."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from edgellm.models.training import tokenizer

_SHARED: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": tokenizer.VOCAB_SIZE,
}
_OWN: dict[str, dict[str, Any]] = {
    "tiny-qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "max_window_layers": 5,
        "model_type": "qwen3",
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
    "tiny-llama3": {
        "architectures": ["LlamaForCausalLM"],
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 4.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 512,
            "rope_type": "llama3",
        },
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "tiny-qwen35": {
        "architectures": ["Qwen3_5ForCausalLM"],
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "layer_types": [*3 * ["linear_attention"], "full_attention", "linear_attention"],
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 64,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 64,
        "model_type": "qwen3_5_text",
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000,
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
    },
}


def special_ids(name: str) -> dict[str, int]:
    """The ids of a family's special tokens: they follow the BPE vocabulary."""
    special = tokenizer.FAMILIES[name].special
    first = tokenizer.VOCAB_SIZE - len(special)
    return {text: first + index for index, (text, _) in enumerate(special)}


def model_config(name: str) -> dict[str, Any]:
    """The content of config.json."""
    ids, family = special_ids(name), tokenizer.FAMILIES[name]
    eos = [ids[text] for text in family.eos]
    bos = ids[family.bos] if family.bos else ids["<|endoftext|>"]
    fields = {
        **_SHARED,
        **deepcopy(_OWN[name]),
        "bos_token_id": bos,
        "eos_token_id": eos if family.bos else eos[0],
    }
    return dict(sorted(fields.items()))


def generation_config(name: str) -> dict[str, Any]:
    """The content of generation_config.json."""
    ids, config = special_ids(name), model_config(name)
    return {
        "bos_token_id": config["bos_token_id"],
        "do_sample": True,
        "eos_token_id": [ids[text] for text in tokenizer.FAMILIES[name].eos],
        "pad_token_id": ids[tokenizer.FAMILIES[name].pad],
        "temperature": 0.6,
        "top_p": 0.9,
    }
