"""A checkpoint with trained weights, made from a GGUF file of a Qwen2 or Llama model: for figures on quality.

    python bench/real_weights.py qwen2.5-coder-0.5b-instruct-q4_k_m.gguf coder05
    python bench/real_weights.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2

The file's weights, dequantized and rounded to bfloat16, ARE the model from then on: each type is measured against it.
Weights that lie on a type's grid come back from it unchanged and flatter it, so the channels of the residual stream,
of each feed-forward block and inside each value head are put in another order, which leaves the function as it is
and gives every block of a type other neighbours. The same bytes on every machine (seeded by tensor).

The tokenizer is made of the file's own tokens and merges. Text is split by Qwen's rule (single digits), whatever the
file's own: for SmolLM2 that differs in a few places (contractions, line ends), so its bits per byte are a little worse
than with its own tokenizer, and equally so for every type. Needs numpy and gguf.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor, dequantize

from edgellm.convert.checkpoint.tokenizer import PRE_TOKENIZERS
from edgellm.models.base import Role
from edgellm.models.names import DECODER, GATED_MLP

_NAMES = {role.value: name for role, name in (DECODER | GATED_MLP).items()}
_CLASSES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
_READS_RESIDUAL = (
    Role.TOKEN_EMBD,
    Role.OUTPUT,
    Role.ATTN_Q,
    Role.ATTN_K,
    Role.ATTN_V,
    Role.FFN_GATE,
    Role.FFN_UP,
)
_CONTROL, _USER_DEFINED = 3, 4  # enum llama_token_type (llama.h)


class Shuffle:
    """New orders of channels under which the model stays the same function."""

    def __init__(self, n_head: int, n_head_kv: int) -> None:
        self._heads = {Role.ATTN_OUT: n_head, Role.ATTN_V: n_head_kv}

    def __call__(self, x: np.ndarray, role: Role, layer: str) -> np.ndarray:
        """One tensor, [rows, columns] or a vector."""
        if x.ndim == 1:
            if role is Role.ATTN_V:
                return x[self._values(role, layer, len(x))]
            return x[_order("residual", len(x))] if role.value.endswith("_norm") else x
        if role in _READS_RESIDUAL:
            x = x[:, _order("residual", x.shape[1])]
        if role in (Role.ATTN_OUT, Role.FFN_DOWN):
            x = x[_order("residual", x.shape[0])]
        if role in (Role.FFN_GATE, Role.FFN_UP):
            x = x[_order(f"ffn {layer}", x.shape[0])]
        if role is Role.FFN_DOWN:
            x = x[:, _order(f"ffn {layer}", x.shape[1])]
        if role is Role.ATTN_V:
            x = x[self._values(role, layer, x.shape[0])]
        if role is Role.ATTN_OUT:
            x = x[:, self._values(role, layer, x.shape[1])]
        return x

    def _values(self, role: Role, layer: str, n: int) -> np.ndarray:
        """The same order inside each head, of values and of what reads them."""
        heads = self._heads[role]
        inside = _order(f"values {layer}", n // heads)
        return (np.arange(heads)[:, None] * len(inside) + inside).ravel()


def _order(what: str, n: int) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(what.encode())).permutation(n)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    reader = GGUFReader(asked.gguf)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    kind = facts["general.architecture"]
    if kind not in _CLASSES:
        parser.error(
            f"{asked.gguf} is of the architecture {kind}; only {' and '.join(_CLASSES)} are known here"
        )
    config = _config(facts, kind, tied=not any(t.name == "output.weight" for t in reader.tensors))
    asked.folder.mkdir(parents=True, exist_ok=True)
    written = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": config["eos_token_id"]},
        "tokenizer.json": _tokenizer(facts),
        "tokenizer_config.json": {
            "eos_token": facts["tokenizer.ggml.tokens"][config["eos_token_id"]],
            "chat_template": facts.get("tokenizer.chat_template"),
        },
    }
    for name, content in written.items():
        (asked.folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    n_bytes = _weights(reader.tensors, config, kind, asked.folder / "model.safetensors")
    print(json.dumps({"folder": str(asked.folder), "tensors": len(reader.tensors), "bytes": n_bytes}))


def _config(facts: dict[str, Any], kind: str, *, tied: bool) -> dict[str, Any]:
    def of(name: str) -> Any:
        return facts[f"{kind}.{name}"]

    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "hidden_act": "silu",
        "hidden_size": of("embedding_length"),
        "num_hidden_layers": of("block_count"),
        "intermediate_size": of("feed_forward_length"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "rope_theta": float(of("rope.freq_base")),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")),
        "max_position_embeddings": of("context_length"),
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "bos_token_id": facts.get("tokenizer.ggml.bos_token_id"),
    }


def _tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    """Byte-level BPE with the file's vocabulary, split by Qwen's rule."""
    split = next(pre for pre in PRE_TOKENIZERS if pre.name == "qwen2")
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    special = {i for i, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)}
    last = max(
        i for i, kind in enumerate(types) if kind == 1
    )  # special tokens beyond it are added ones alone
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], **flags, "special": types[i] == _CONTROL} for i in sorted(special)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": split.regex}, "behavior": "Isolated", "invert": False},
                {**level, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": split.ignore_merges,
            "vocab": {
                token: i for i, token in enumerate(tokens) if types[i] == 1 or (i in special and i < last)
            },
            "merges": facts["tokenizer.ggml.merges"],
        },
    }


def _weights(tensors: list[ReaderTensor], config: dict[str, Any], kind: str, path: Path) -> int:
    """Written tensor by tensor, bfloat16. Returns their bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        size = 2 * int(np.prod(shape))
        header[_name(tensor.name)[2]] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    shuffle = Shuffle(config["num_attention_heads"], config["num_key_value_heads"])
    heads = {Role.ATTN_Q: config["num_attention_heads"], Role.ATTN_K: config["num_key_value_heads"]}
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            layer, role, _ = _name(tensor.name)
            x = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            if kind == "llama" and role in heads:
                x = _halves(x, heads[role])
            bits = np.ascontiguousarray(shuffle(x, role, layer)).view(np.uint32)
            out.write(
                ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
            )  # to nearest, even
    return at


def _name(name: str) -> tuple[str, Role, str]:
    """A GGUF tensor's name -> layer ("" outside of them), role, the checkpoint's name."""
    stem, _, part = name.rpartition(".")
    layer = ""
    if stem.startswith("blk."):
        _, layer, stem = stem.split(".", 2)
    return layer, Role(stem), f"{_NAMES[stem].format(i=layer)}.{part}"


def _halves(x: np.ndarray, n_head: int) -> np.ndarray:
    """Rows of Q or K with the halves of each head apart, as checkpoints have them; GGUF interleaves them for llama."""
    pairs = x.reshape(n_head, x.shape[0] // n_head // 2, 2, *x.shape[1:])
    return pairs.swapaxes(1, 2).reshape(x.shape)


if __name__ == "__main__":
    main()
