"""Writes a small random Llama GGUF with a byte-level tokenizer: a real model for a real engine, in a moment."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np


def byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins of the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in kept else next(others)) for byte in range(256)]


def write(
    path: Path,
    *,
    n_layer: int = 2,
    n_embd: int = 64,
    n_ff: int = 128,
    tokens: Sequence[str] | None = None,
    merges: Sequence[str] = ("t h",),
    seed: int = 0,
) -> Path:
    """A Llama of `n_layer` layers and four heads in Q8_0, its context 4096 tokens. Returns `path`."""
    tokens = [*(tokens or [*byte_tokens(), "th"]), "<|end|>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_file_type(7)
    writer.add_block_count(n_layer)
    writer.add_context_length(4096)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    _add_tensors(writer, len(tokens), n_layer, n_embd, n_ff, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(
    writer: gguf.GGUFWriter, n_vocab: int, n_layer: int, n_embd: int, n_ff: int, rng: np.random.Generator
) -> None:
    q8 = gguf.GGMLQuantizationType.Q8_0

    def matrix(name: str, rows: int, columns: int) -> None:
        data = rng.standard_normal((rows, columns), np.float32) / np.sqrt(columns)
        writer.add_tensor(name, gguf.quants.quantize(data, q8), raw_dtype=q8)

    matrix("token_embd.weight", n_vocab, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(n_embd, np.float32))
        matrix(f"{block}.attn_q.weight", n_embd, n_embd)
        matrix(f"{block}.attn_k.weight", n_embd // 2, n_embd)
        matrix(f"{block}.attn_v.weight", n_embd // 2, n_embd)
        matrix(f"{block}.attn_output.weight", n_embd, n_embd)
        matrix(f"{block}.ffn_gate.weight", n_ff, n_embd)
        matrix(f"{block}.ffn_up.weight", n_ff, n_embd)
        matrix(f"{block}.ffn_down.weight", n_embd, n_ff)
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
