"""The key-values of a converted model: what llama.cpp's converter writes for the same checkpoint, and our own.

Knows GGUF's key names and the numbers behind them; writes no file. Our own keys begin with `edgellm.`, which
other programs ignore. Every difference from llama.cpp's converter (conversion/base.py, llama.py, qwen.py) is
listed with its reason in docs/gguf.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isclose, prod
from pathlib import Path
from typing import Any

from edgellm.convert.checkpoint.model_card import KeyValues, general_keys
from edgellm.convert.checkpoint.model_name import file_stem, size_label
from edgellm.convert.checkpoint.purpose import read_embedding
from edgellm.convert.checkpoint.tokenizer import Vocabulary
from edgellm.formats import purpose
from edgellm.formats.gguf import classifier
from edgellm.formats.gguf.header import STOP_IDS_KEY
from edgellm.models.base import DeltaNetSpec, LayerKind, ModelSpec, Role, TensorSpec
from edgellm.models.rope import yarn_attention_factor
from edgellm.prompt import model_template, normalize

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h

# What transformers fills in when config.json has no head_dim, and llama.cpp's converter then writes.
_HEAD_DIM_ALWAYS = ("llama", "qwen3", "qwen3moe", "qwen3vl", "qwen35", "qwen35moe")
_KIND_NAMES = {"unk": "unknown", "sep": "seperator", "pad": "padding"}  # [sic]: GGUF's spelling


def build_metadata(
    folder: Path,
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    spec: ModelSpec,
    vocabulary: Vocabulary,
    file_type: int,
) -> KeyValues:
    """All key-values of the converted model, in the order llama.cpp's converter writes them."""
    n_params, *parts = count_parameters(spec.tensors)
    keys: KeyValues = {
        "general.architecture": ("str", spec.architecture.name),
        "general.type": ("str", "model"),
    }
    keys |= general_keys(folder, config, generation_config, n_params)
    if n_params:
        keys.setdefault("general.size_label", ("str", size_label(n_params, *parts)))
    arch = spec.architecture.name
    keys |= {f"{arch}.{name}": value for name, value in hyperparameters(spec, config)}
    keys["general.file_type"] = ("u32", file_type)
    if embedding := read_embedding(folder):
        keys |= embedding.keys(arch)
    if spec.tensor(Role.CLS_OUT):
        keys[f"{arch}.pooling_type"] = ("u32", classifier.RANK)
        keys[f"{arch}.classifier.output_labels"] = ("arr[str]", list(purpose.RERANK_LABELS))
        vocabulary = _with_template(vocabulary, "rerank", purpose.QWEN3_RERANK)
    keys["general.quantization_version"] = ("u32", QUANTIZATION_VERSION)
    return keys | dict(_tokenizer(vocabulary, arch)) | _own(vocabulary)


def _with_template(vocabulary: Vocabulary, name: str, text: str) -> Vocabulary:
    special = vocabulary.special
    named = {**special.named_templates, name: text}
    return replace(vocabulary, special=replace(special, named_templates=named))


def count_parameters(tensors: Sequence[TensorSpec]) -> tuple[int, int, int, int]:
    """Values in all tensors; in those shared by all experts; in one expert; and the number of experts.

    An output projection that only repeats a tied embedding does not count.
    """
    tied = _sources(tensors, Role.TOKEN_EMBD)
    total = shared = per_expert = 0
    n_expert: list[int] = []
    for tensor in tensors:
        size = prod(tensor.shape)
        if tensor.role is Role.OUTPUT and tensor.sources == tied:
            continue
        total += size
        if tensor.role in (Role.FFN_GATE_EXPS, Role.FFN_UP_EXPS, Role.FFN_DOWN_EXPS):
            n_expert.append(tensor.shape[0])
            per_expert += size // tensor.shape[0]
        else:
            shared += size
    return total, shared, per_expert, sum(n_expert) // len(n_expert) if n_expert else 0


def _sources(tensors: Sequence[TensorSpec], role: Role) -> object:
    return next((tensor.sources for tensor in tensors if tensor.role is role), None)


def hyperparameters(spec: ModelSpec, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The architecture's own keys, without its name before them: (key, (value type, value))."""
    yield "block_count", ("u32", spec.n_layer + spec.n_layer_nextn)
    yield "context_length", ("u32", spec.n_ctx_train)
    yield "embedding_length", ("u32", spec.n_embd)
    if spec.n_ff:
        yield "feed_forward_length", ("u32", spec.n_ff)
    yield "attention.head_count", ("u32", spec.n_head)
    yield "attention.head_count_kv", ("u32", spec.n_head_kv)
    yield from _rope_scaling(spec)
    if spec.rope_sections:
        yield "rope.dimension_sections", ("arr[i32]", [*spec.rope_sections, 0])
    yield "rope.freq_base", ("f32", spec.rope_theta)
    yield "attention.layer_norm_rms_epsilon", ("f32", spec.rms_eps)
    if spec.moe:
        yield "expert_count", ("u32", spec.moe.n_expert)
        yield "expert_used_count", ("u32", spec.moe.n_expert_used)
    arch = spec.architecture.name
    if arch in _HEAD_DIM_ALWAYS or config.get("head_dim") is not None:
        yield "attention.key_length", ("u32", spec.head_dim)
        yield "attention.value_length", ("u32", spec.head_dim)
    if arch == "llama":
        yield "vocab_size", ("u32", spec.n_vocab)
        yield "rope.dimension_count", ("u32", spec.head_dim)
    if spec.moe:
        yield "expert_feed_forward_length", ("u32", spec.moe.n_ff_expert)
        if spec.moe.n_ff_shared:
            yield "expert_shared_feed_forward_length", ("u32", spec.moe.n_ff_shared)
    yield from _beside(spec, config)
    if spec.delta_net:
        yield from _delta_net(spec, spec.delta_net, config)


def _beside(spec: ModelSpec, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What goes with the layers: those that a picture is added to again, and the block behind the last."""
    if spec.architecture.name == "qwen3vl":
        seen = (config.get("vision_config") or {}).get("deepstack_visual_indexes") or ()
        yield "n_deepstack_layers", ("u32", len(seen))
    if spec.n_layer_nextn:
        yield "nextn_predict_layers", ("u32", spec.n_layer_nextn)


def _delta_net(
    spec: ModelSpec, net: DeltaNetSpec, config: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, Any]]]:
    yield "ssm.conv_kernel", ("u32", net.conv_kernel)
    yield "ssm.state_size", ("u32", net.head_dim)
    yield "ssm.group_count", ("u32", net.n_k_heads)
    yield "ssm.time_step_rank", ("u32", net.n_v_heads)
    yield "ssm.inner_size", ("u32", net.n_v)
    blocks = range(spec.n_layer + spec.n_layer_nextn)
    recurrent = [spec.kind(block) is LayerKind.DELTA_NET for block in blocks]
    yield "attention.recurrent_layers", ("arr[bool]", recurrent)
    every = config.get("full_attention_interval", spec.architecture.full_attention_interval)
    yield "full_attention_interval", ("u32", every)
    yield "rope.dimension_count", ("u32", spec.n_rotary)


def _rope_scaling(spec: ModelSpec) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Linear and yarn are keys; llama3 is the tensor `rope_freqs.weight`."""
    scaling = spec.rope_scaling
    if scaling is None or scaling.kind == "llama3":
        return
    yield "rope.scaling.type", ("str", scaling.kind)
    yield "rope.scaling.factor", ("f32", scaling.factor)
    if scaling.kind != "yarn":
        return
    yield "rope.scaling.original_context_length", ("u32", scaling.original_max_position_embeddings)
    for key, value in (
        ("attn_factor", scaling.attention_factor),
        ("beta_fast", scaling.beta_fast),
        ("beta_slow", scaling.beta_slow),
    ):
        if value is not None:
            yield f"rope.scaling.yarn_{key}", ("f32", value)
    # llama.cpp computes the usual magnitude from the factor and multiplies it by this key (llama-context.cpp).
    usual = yarn_attention_factor(scaling.factor)
    if scaling.attention_factor is not None and not isclose(scaling.attention_factor, usual, rel_tol=1e-4):
        yield "rope.scaling.attn_factor", ("f32", scaling.attention_factor / usual)


def _tokenizer(vocabulary: Vocabulary, architecture: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    special = vocabulary.special
    if architecture == "llama" and vocabulary.add_space_prefix is not None:
        yield "tokenizer.ggml.add_space_prefix", ("bool", bool(vocabulary.add_space_prefix))
    yield "tokenizer.ggml.model", ("str", "gpt2")
    yield "tokenizer.ggml.pre", ("str", vocabulary.pre)
    yield "tokenizer.ggml.tokens", ("arr[str]", vocabulary.tokens)
    yield "tokenizer.ggml.token_type", ("arr[i32]", vocabulary.types)
    yield "tokenizer.ggml.merges", ("arr[str]", vocabulary.merges)
    for kind, index in special.ids.items():
        if kind != "cls":  # GGUF has a key for it that llama.cpp's converter never writes
            yield f"tokenizer.ggml.{_KIND_NAMES.get(kind, kind)}_token_id", ("u32", index)
    for kind, value in special.add.items():
        yield f"tokenizer.ggml.add_{kind}_token", ("bool", value)
    if special.named_templates:
        yield "tokenizer.chat_templates", ("arr[str]", list(special.named_templates))
        for name, template in special.named_templates.items():
            yield f"tokenizer.chat_template.{name}", ("str", template)
    if special.chat_template is not None:
        yield "tokenizer.chat_template", ("str", special.chat_template)


def _own(vocabulary: Vocabulary) -> KeyValues:
    """What the tokenizer does and GGUF has no key for."""
    strips = {
        normalize.LSTRIP_KEY: [index for index, token in vocabulary.added.items() if token.lstrip],
        normalize.RSTRIP_KEY: [index for index, token in vocabulary.added.items() if token.rstrip],
    }
    return {
        STOP_IDS_KEY: ("arr[i32]", vocabulary.special.stop_ids),
        normalize.KEY: ("str", vocabulary.normalizer or "none"),
        **{key: ("arr[i32]", sorted(ids)) for key, ids in strips.items() if ids},
        model_template.NAMES_KEY: ("str", json.dumps(vocabulary.special.names, ensure_ascii=False)),
    }


def default_stem(keys: KeyValues, encoding: str) -> str:
    """The file name, without ending, that GGUF's convention gives a model with these key-values."""

    def text(key: str) -> str | None:
        value = keys.get(f"general.{key}")
        return None if value is None else str(value[1])

    return file_stem(
        text("name"), text("basename"), text("size_label"), text("finetune"), text("version"), encoding
    )
