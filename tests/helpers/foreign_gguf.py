"""Small random GGUF files of architectures and tokenizers outside the verified families.

Shapes as llama.cpp's loaders ask for them (src/models/<architecture>.cpp); what they write is nonsense, but the
engine's own nonsense.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from tiny_gguf import byte_tokens

N_LAYER, N_EMBD, N_HEAD, N_HEAD_KV, HEAD, N_FF, N_CTX = 2, 64, 4, 2, 16, 96, 512

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Zephyr's: text between the special tokens, and the end of a turn written out.
ROLES = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

Shapes = Iterator[tuple[str, tuple[int, ...]]]  # rows first


@dataclass(frozen=True)
class Case:
    """One file: an architecture, a tokenizer, and the keys it needs beside the usual ones."""

    architecture: str
    tokenizer: str  # "sentencepiece" | a pre-tokenizer's name, of byte-level BPE
    tensors: Callable[[], Shapes]
    keys: Mapping[str, int | float | bool]
    template: str | None = CHATML


def _attention(block: str, q: int = N_HEAD * HEAD, kv: int = N_HEAD_KV * HEAD) -> Shapes:
    yield f"{block}.attn_q.weight", (q, N_EMBD)
    yield f"{block}.attn_k.weight", (kv, N_EMBD)
    yield f"{block}.attn_v.weight", (kv, N_EMBD)
    yield f"{block}.attn_output.weight", (N_EMBD, q)


def _gated(block: str) -> Shapes:
    yield f"{block}.ffn_gate.weight", (N_FF, N_EMBD)
    yield f"{block}.ffn_up.weight", (N_FF, N_EMBD)
    yield f"{block}.ffn_down.weight", (N_EMBD, N_FF)


def _norms(block: str, *names: str) -> Shapes:
    for name in names:
        yield f"{block}.{name}.weight", (N_EMBD,)


def _llama() -> Shapes:
    for i in range(N_LAYER):
        yield from _attention(f"blk.{i}")
        yield from _gated(f"blk.{i}")
        yield from _norms(f"blk.{i}", "attn_norm", "ffn_norm")


def _gemma3() -> Shapes:
    for i in range(N_LAYER):
        yield from _attention(f"blk.{i}")
        yield from _gated(f"blk.{i}")
        yield from _norms(f"blk.{i}", "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        yield f"blk.{i}.attn_q_norm.weight", (HEAD,)
        yield f"blk.{i}.attn_k_norm.weight", (HEAD,)


def _phi3() -> Shapes:
    for i in range(N_LAYER):
        yield f"blk.{i}.attn_qkv.weight", ((N_HEAD + 2 * N_HEAD_KV) * HEAD, N_EMBD)
        yield f"blk.{i}.attn_output.weight", (N_EMBD, N_EMBD)
        yield f"blk.{i}.ffn_up.weight", (2 * N_FF, N_EMBD)
        yield f"blk.{i}.ffn_down.weight", (N_EMBD, N_FF)
        yield from _norms(f"blk.{i}", "attn_norm", "ffn_norm")


def _gpt2() -> Shapes:
    yield "position_embd.weight", (N_CTX, N_EMBD)
    yield "output_norm.bias", (N_EMBD,)
    for i in range(N_LAYER):
        for name, rows, columns in (
            ("attn_qkv", 3 * N_EMBD, N_EMBD),
            ("attn_output", N_EMBD, N_EMBD),
            ("ffn_up", N_FF, N_EMBD),
            ("ffn_down", N_EMBD, N_FF),
        ):
            yield f"blk.{i}.{name}.weight", (rows, columns)
            yield f"blk.{i}.{name}.bias", (rows,)
        yield from _norms(f"blk.{i}", "attn_norm", "ffn_norm")
        yield f"blk.{i}.attn_norm.bias", (N_EMBD,)
        yield f"blk.{i}.ffn_norm.bias", (N_EMBD,)


def _mamba() -> Shapes:
    inner, state, rank, kernel = 2 * N_EMBD, 16, 4, 4
    for i in range(N_LAYER):
        yield from _norms(f"blk.{i}", "attn_norm")
        yield f"blk.{i}.ssm_in.weight", (2 * inner, N_EMBD)
        yield f"blk.{i}.ssm_conv1d.weight", (inner, kernel)
        yield f"blk.{i}.ssm_conv1d.bias", (inner,)
        yield f"blk.{i}.ssm_x.weight", (rank + 2 * state, inner)
        yield f"blk.{i}.ssm_dt.weight", (inner, rank)
        yield f"blk.{i}.ssm_dt.bias", (inner,)
        yield f"blk.{i}.ssm_a", (inner, state)
        yield f"blk.{i}.ssm_d", (inner,)
        yield f"blk.{i}.ssm_out.weight", (N_EMBD, inner)


def _falcon_h1() -> Shapes:
    inner, state, heads, groups, kernel = 64, 16, 4, 1, 4
    width = inner + 2 * groups * state
    for i in range(N_LAYER):
        yield from _attention(f"blk.{i}")
        yield from _gated(f"blk.{i}")
        yield from _norms(f"blk.{i}", "attn_norm")
        yield f"blk.{i}.ffn_norm", (N_EMBD,)  # no suffix, by the loader
        yield f"blk.{i}.ssm_in.weight", (inner + width + heads, N_EMBD)
        yield f"blk.{i}.ssm_conv1d.weight", (width, kernel)
        yield f"blk.{i}.ssm_conv1d.bias", (width,)
        yield f"blk.{i}.ssm_dt.bias", (heads,)
        yield f"blk.{i}.ssm_a", (heads, 1)
        yield f"blk.{i}.ssm_d", (heads, 1)
        yield f"blk.{i}.ssm_norm.weight", (groups, inner // groups)
        yield f"blk.{i}.ssm_out.weight", (N_EMBD, inner)


def _rwkv7() -> Shapes:
    rank = 8
    yield "token_embd_norm.weight", (N_EMBD,)
    yield "token_embd_norm.bias", (N_EMBD,)
    yield "output_norm.bias", (N_EMBD,)
    for i in range(N_LAYER):
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            yield f"blk.{i}.{name}.weight", (N_EMBD,)
            yield f"blk.{i}.{name}.bias", (N_EMBD,)
        for name in "wav":
            yield f"blk.{i}.time_mix_{name}0.weight", (N_EMBD,)
            yield f"blk.{i}.time_mix_{name}1.weight", (rank, N_EMBD)
            yield f"blk.{i}.time_mix_{name}2.weight", (N_EMBD, rank)
        yield f"blk.{i}.time_mix_g1.weight", (rank, N_EMBD)
        yield f"blk.{i}.time_mix_g2.weight", (N_EMBD, rank)
        yield f"blk.{i}.time_mix_lerp_fused.weight", (6, 1, 1, N_EMBD)
        for name in ("k_k", "k_a", "r_k"):
            yield f"blk.{i}.time_mix_{name}.weight", (N_EMBD,)
        for name in ("key", "value", "receptance", "output"):
            yield f"blk.{i}.time_mix_{name}.weight", (N_EMBD, N_EMBD)
        yield f"blk.{i}.channel_mix_lerp_k.weight", (1, 1, N_EMBD)
        yield f"blk.{i}.channel_mix_key.weight", (N_FF, N_EMBD)
        yield f"blk.{i}.channel_mix_value.weight", (N_EMBD, N_FF)


_HEADS = {"attention.head_count": N_HEAD, "attention.head_count_kv": N_HEAD_KV}
_RMS = {"attention.layer_norm_rms_epsilon": 1e-5}
_LN = {"attention.layer_norm_epsilon": 1e-5}
_KEY = {"attention.key_length": HEAD, "attention.value_length": HEAD}
_NO_HEADS = {"attention.head_count": 0}

CASES = {
    "smollm": Case("llama", "smollm", _llama, _HEADS | _RMS),
    "mistral": Case("llama", "sentencepiece", _llama, _HEADS | _RMS, ROLES),
    "gemma3": Case(
        "gemma3", "sentencepiece", _gemma3, _HEADS | _RMS | _KEY | {"attention.sliding_window": 32}, ROLES
    ),
    "phi3": Case("phi3", "sentencepiece", _phi3, _HEADS | _RMS | {"rope.dimension_count": HEAD}, ROLES),
    "gpt2": Case("gpt2", "gpt-2", _gpt2, {"attention.head_count": N_HEAD} | _LN, None),
    "mamba": Case(
        "mamba",
        "olmo",
        _mamba,
        _NO_HEADS
        | _RMS
        | {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.time_step_rank": 4},
    ),
    "falcon-h1": Case(
        "falcon-h1",
        "falcon-h1",
        _falcon_h1,
        _HEADS
        | _RMS
        | _KEY
        | {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16, "ssm.time_step_rank": 4}
        | {"ssm.group_count": 1},
    ),
    "rwkv7": Case(
        "rwkv7",
        "gpt-2",
        _rwkv7,
        _NO_HEADS
        | _LN
        | {"wkv.head_size": N_EMBD, "attention.decay_lora_rank": 8, "attention.iclr_lora_rank": 8}
        | {
            "attention.value_residual_mix_lora_rank": 8,
            "attention.gate_lora_rank": 8,
            "token_shift_count": 2,
        },
    ),
}


def write(path: Path, case: Case, *, seed: int = 0, **extra: int | float | bool) -> Path:
    """Write one; `extra` are keys of the architecture over the case's own. Returns `path`."""
    writer = gguf.GGUFWriter(path, case.architecture)
    writer.add_name("Nonsense")  # llama.cpp goes by the names of some models
    writer.add_file_type(0)
    writer.add_block_count(N_LAYER)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    for key, value in {**case.keys, **extra}.items():
        kind = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
        kind(f"{case.architecture}.{key}", value)
    n_vocab = _sentencepiece(writer) if case.tokenizer == "sentencepiece" else _bpe(writer, case.tokenizer)
    if case.template:
        writer.add_chat_template(case.template)
    rng = np.random.default_rng(seed)
    ends = (("token_embd.weight", (n_vocab, N_EMBD)), ("output.weight", (n_vocab, N_EMBD)))
    for name, shape in (*ends, ("output_norm.weight", (N_EMBD,)), *case.tensors()):
        writer.add_tensor(name, _values(name, shape, rng))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith("ssm_a"):
        return -np.exp(noise)
    if "norm" in name and not name.endswith("bias"):
        return 1 + np.float32(0.1) * noise
    return noise / np.float32(shape[-1] ** 0.5) if len(shape) == 2 else np.float32(0.1) * noise


def _bpe(writer: gguf.GGUFWriter, pre: str) -> int:
    words = ["th", "the", "er", "in", "Ġ" + "t", "an"]
    special = ["<|im_start|>", "<|im_end|>", "<unused>"]
    tokens = [*byte_tokens(), *words, *special]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 3) + [3, 3, 4])
    writer.add_token_merges(["t h", "th e", "e r", "i n", "Ġ t", "a n"])
    writer.add_eos_token_id(len(tokens) - 2)
    writer.add_bos_token_id(len(tokens) - 3)
    writer.add_add_bos_token(False)
    return len(tokens)


def _sentencepiece(writer: gguf.GGUFWriter) -> int:
    control = ["<unk>", "<s>", "</s>"]
    roles = ["<|user|>", "<|assistant|>", "<|system|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'-", "▁", "ö", "你"]
    words = ["th", "▁th", "he", "▁the", "in", "er", "▁a", "an"]
    pieces = [*letters, *words]
    tokens = [*control, *(f"<0x{i:02X}>" for i in range(256)), *pieces, *roles]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))][::-1] + [0.0] * 3)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(pieces) + [4] * 3)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    return len(tokens)


def _bert() -> Shapes:
    yield "position_embd.weight", (N_CTX, N_EMBD)


BERT = Case("bert", "smollm", _bert, {"attention.head_count": N_HEAD, "attention.causal": False} | _LN, None)


def split(path: Path, stem: Path) -> None:
    """Write a model as two files, `stem`-0000N-of-00002.gguf: keys in the first, tensors in both."""
    reader = gguf.GGUFReader(path)
    tensors = list(reader.tensors)
    for number, share in enumerate((tensors[:5], tensors[5:])):
        writer = gguf.GGUFWriter(stem.with_name(f"{stem.name}-{number + 1:05}-of-00002.gguf"), "llama")
        if number == 0:
            for name, field in reader.fields.items():
                if not name.startswith(("GGUF.", "general.architecture")):
                    writer.add_key_value(name, field.contents(), field.types[0], *field.types[1:2])
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(tensors))
        for tensor in share:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
