"""Random changes to a good GGUF file: to its bytes, or to its fields with the file staying well-formed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from hostile_gguf import ARCH, INFINITY, NAN, RawFile

from edgellm.convert.gguf.writer import encode


def random_mutants(good: bytes, header_bytes: int, n: int, seed: int) -> Iterator[bytes]:
    """`n` copies of a file with a few bytes of its header changed, cut, repeated or replaced by wild numbers."""
    rng = random.Random(seed)
    for _ in range(n):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            at = rng.randrange(header_bytes)
            rng.choice((_flip, _byte, _wild, _wild, _cut, _repeat))(rng, data, at)
        yield bytes(data)


def _flip(rng: random.Random, data: bytearray, at: int) -> None:
    data[at % len(data)] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, at: int) -> None:
    data[at % len(data)] = rng.randrange(256)


def _wild(rng: random.Random, data: bytearray, at: int) -> None:
    value = rng.choice(
        (0, 1, 0x7F, 0xFF, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 64) - 1)
    )
    size = rng.choice((1, 2, 4, 8))
    data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _cut(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.randrange(1, 32)]


def _repeat(rng: random.Random, data: bytearray, at: int) -> None:
    piece = data[at : at + rng.randrange(1, 64)]
    data[at:at] = piece


_SCALARS = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64", "f64")
_INTEGERS = (0, 1, 2, 3, 7, 8, 24, 63, 64, 65, 100, 127, 128, 255, 319, 320, 512, 4096, 32767, 65535, 1 << 20)
_LIMITS = {"u8": (0, 255), "i8": (-128, 127), "u16": (0, 65535), "i16": (-(1 << 15), (1 << 15) - 1)}
_FLOATS = (0.0, -0.0, 1e-45, 1e-6, 0.5, 1.0, 1e4, 1e30, 3e38, NAN, INFINITY, -1.0)
_WORDS = (
    "",
    "a",
    "linear",
    "yarn",
    "longrope",
    "none",
    "gpt2",
    "llama",
    "qwen2",
    "llama-bpe",
    "\0",
    "x" * 5000,
)
_HPARAMS = (
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.finetuned",
    "rope.dimension_count",
    "rope.dimension_sections",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.causal",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.logit_softcapping",
    "attention.key_length_swa",
    "embedding_length_out",
    "expert_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "expert_weights_scale",
    "pooling_type",
    "classifier.output_labels",
    "residual_scale",
    "logit_scale",
    "vocab_size",
    "tensor_data_layout",
)
_OTHERS = (
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.suppress_tokens",
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.precompiled_charsmap",
    "general.tensor_extra.name",
    "general.tensor_extra.prec_a4",
    "split.no",
    "split.count",
    "split.tensors.count",
    "adapter.type",
)
_MORE_KEYS = (*(f"{ARCH}.{name}" for name in _HPARAMS), *_OTHERS)


def field_mutants(raw: RawFile, n: int, seed: int) -> Iterator[bytes]:
    """`n` well-formed files in which a few values, types, names or tensors are not what they were."""
    rng = random.Random(seed)
    for _ in range(n):
        mutant = raw
        for _ in range(rng.choice((1, 1, 2, 3))):
            mutant = rng.choice(
                (_other_value, _other_value, _other_value, _other_tensor, _lost, _other_tokens)
            )(rng, mutant)
        yield mutant.bytes()


def _other_value(rng: random.Random, raw: RawFile) -> RawFile:
    name = rng.choice([key.decode() for key, _ in raw.keys] + list(_MORE_KEYS))
    return raw.with_key(name, _any_value(rng))


def _any_value(rng: random.Random) -> bytes:
    kind = rng.choice(
        (*_SCALARS, "u32", "u32", "f32", "f32", "str", "arr[u32]", "arr[i32]", "arr[f32]", "arr[str]")
    )
    if not kind.startswith("arr["):
        return encode(kind, _any_scalar(rng, kind))
    element = kind[4:-1]
    return encode(kind, [_any_scalar(rng, element) for _ in range(rng.choice((0, 1, 2, 3, 4, 320, 600)))])


def _any_scalar(rng: random.Random, kind: str) -> object:
    if kind in ("f32", "f64"):
        return rng.choice(_FLOATS)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "str":
        return rng.choice(_WORDS)
    bits = int(kind[1:])
    low, high = _LIMITS.get(
        kind, (0, (1 << bits) - 1) if kind[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    )
    return min(max(rng.choice((*_INTEGERS, low, high)), low), high)


def _other_tensor(rng: random.Random, raw: RawFile) -> RawFile:
    index = rng.randrange(len(raw.tensors))
    tensor = raw.tensors[index]
    change = rng.randrange(4)
    if change == 0:
        return raw.with_tensor(
            index, name=rng.choice((*(t.name for t in raw.tensors), b"rope_freqs.weight", b"cls.weight"))
        )
    if change == 1:
        return raw.with_tensor(index, dims=tuple(reversed(tensor.dims)))
    if change == 2:
        return raw.with_tensor(index, dims=tuple(rng.choice((1, 2, 24, 32, 64, 96, d)) for d in tensor.dims))
    return raw.with_tensor(index, type=rng.choice((0, 1, 2, 8, 24, 25, 26, 27, 28, 30)))


def _lost(rng: random.Random, raw: RawFile) -> RawFile:
    if rng.random() < 0.5:
        return raw.with_key(rng.choice(raw.keys)[0].decode(), None)
    gone = rng.randrange(1, max(2, len(raw.tensors)))
    return replace(raw, tensors=raw.tensors[:gone])


def _other_tokens(rng: random.Random, raw: RawFile) -> RawFile:
    """Tokens and merges that are no text, look special, or are very long."""
    texts = (
        b"\xff\xfe",
        b"\xc3",
        b"<|eot_id|>",
        b"<unused>",
        b"<0x-1>",
        b"\n",
        b" ",
        b"a b",
        b"x" * 70000,
        b"\0",
    )
    name = rng.choice(("tokens", "merges"))
    count = 320 if name == "tokens" else rng.choice((0, 1, 50))
    found = [str(i).encode() for i in range(count)]
    for _ in range(min(count, rng.randrange(6))):
        found[rng.randrange(count)] = rng.choice(texts)
    return raw.with_key(f"tokenizer.ggml.{name}", encode("arr[str]", found))
