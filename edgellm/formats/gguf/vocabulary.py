"""What a GGUF header's tokenizer keys must say before llama.cpp may see the file.

Two tokenizers are verified: byte-level BPE with the pre-tokenizers of Qwen and Llama 3. Of any other, the engine
knows how text becomes tokens; only what would crash it is looked for. Sources: src/llama-vocab.cpp (load,
token_to_byte) of llama.cpp.
"""

from __future__ import annotations

import re
from typing import Any

from edgellm.formats.gguf.faults import fail, shown
from edgellm.formats.gguf.header import STOP_IDS_KEY, GgufFile, StringArray

PRE_TOKENIZERS = ("llama-bpe", "llama3", "llama-v3", "qwen2", "qwen35", "deepseek-r1-qwen")
ID_KEYS = ("bos", "eos", "eot", "eom")

_BPE, _SENTENCEPIECE = "gpt2", "llama"
_ENCODERS = ("bert", "t5")  # WordPiece and Unigram: BERT's and T5's families
_BYTE = 6  # enum llama_token_type (llama.h)
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")


def is_verified(file: GgufFile) -> bool:
    """Whether text becomes tokens here as edgellm's own tests have it."""
    return (
        file.get("tokenizer.ggml.model") == _BPE
        and file.get("tokenizer.ggml.pre", "missing") in PRE_TOKENIZERS
    )


def check(file: GgufFile) -> int:
    """The number of tokens. Raises ArtifactError, naming key and value, for what the engine must not be given."""
    model, pre = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre")
    if not isinstance(model, str) or model in ("none", "no_vocab"):
        fail(file, f"tokenizer.ggml.model is {shown(model)}: a model without a tokenizer reads no text")
    if model in _ENCODERS:
        fail(
            file,
            f"tokenizer.ggml.model is {model!r}, an encoder's: only models that go on with a text are run",
        )
    if not isinstance(pre, str) and (model == _BPE or pre is not None):
        fail(file, f"tokenizer.ggml.pre is {shown(pre)}; it names how text is split. Convert the model again")
    tokens, merges = file.get("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.merges")
    if not isinstance(tokens, StringArray) or not len(tokens):
        fail(file, "has no tokenizer.ggml.tokens; convert the model again")
    if not isinstance(merges, StringArray) and (model == _BPE or merges is not None):
        fail(file, "has no tokenizer.ggml.merges; convert the model again")
    if not file.checked:  # of 150,000 tokens, 0.1 s
        _distinct(file, tokens, empty_too=is_verified(file))
    types = _of_each_token(file, "token_type", ("i32",), len(tokens))
    _of_each_token(file, "scores", ("f32", "i32"), len(tokens))
    if model == _SENTENCEPIECE and types is not None:
        _bytes(file, tokens, types)
    _ids(file, len(tokens))
    return len(tokens)


def _of_each_token(file: GgufFile, name: str, kinds: tuple[str, ...], n_vocab: int) -> Any:
    """A list with a value for each token, where there is one; the engine reads as many whatever its length."""
    key = f"tokenizer.ggml.{name}"
    values = file.get(key)
    allowed = [f"arr[{kind}]" for kind in kinds]
    if values is not None and (file.value_types[key] not in allowed or len(values) != n_vocab):
        fail(file, f"{key} must be {n_vocab:,} {' or '.join(kinds)} values; the file is damaged")
    return values


def _bytes(file: GgufFile, tokens: StringArray, types: Any) -> None:
    """SentencePiece's byte tokens, whose number the engine reads out of their name without looking."""
    for index, kind in enumerate(types):
        if kind == _BYTE and not _BYTE_TOKEN.fullmatch(raw := tokens.raw(index)):
            fail(
                file, f"token {index} ({raw[:40]!r}) is typed as a byte, but is none; convert the model again"
            )


def _ids(file: GgufFile, n_vocab: int) -> None:
    for name in ID_KEYS:
        key = f"tokenizer.ggml.{name}_token_id"
        value = file.get(key)
        if value is not None and not (type(value) is int and 0 <= value < n_vocab):
            fail(file, f"{key} is {shown(value)}, not one of the {n_vocab:,} tokens; convert the model again")
    stop = file.get(STOP_IDS_KEY, ())
    if STOP_IDS_KEY in file.value_types and file.value_types[STOP_IDS_KEY] != "arr[i32]":
        fail(file, f"{STOP_IDS_KEY} must be i32 values; convert the model again")
    if len(stop) and not 0 <= min(stop) <= max(stop) < n_vocab:
        fail(file, f"{STOP_IDS_KEY} names ids outside the {n_vocab:,} tokens; convert the model again")


def _distinct(file: GgufFile, tokens: StringArray, *, empty_too: bool) -> None:
    """llama.cpp asserts that no two tokens are the same, and replaces an empty one by `[EMPTY_<id>]`."""
    if b"" not in (distinct := set(tokens.raws())) and len(distinct) == len(tokens):
        return
    seen: set[bytes] = set()
    for index, raw in enumerate(tokens.raws()):
        if raw and raw in seen:
            fail(file, f"token {index} ({raw[:40]!r}) is there twice; convert the model again")
        if not raw and empty_too:
            fail(file, f"token {index} is empty; convert the model again")
        seen.add(raw)
