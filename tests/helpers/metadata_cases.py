"""Checkpoints whose metadata is held against llama.cpp's converter, and what "equal" means there.

Shared by the test (against the golden file) and bench/metadata_parity.py (against the converter itself).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import embedders
import tensor_files
import tinymodels
import towers

from edgellm.convert.checkpoint.folder import read_json
from edgellm.convert.checkpoint.purpose import is_embedding, reranker_rows
from edgellm.convert.checkpoint.tokenizer import read_tokenizer, recognise
from edgellm.convert.gguf.metadata import build_metadata
from edgellm.convert.gguf.writer import encode
from edgellm.formats.nested_config import language_model
from edgellm.models.classifier import with_classifier
from edgellm.models.registry import spec_of

F16 = 1  # general.file_type both sides are asked for

#: Keys that differ on purpose; docs/gguf.md gives the reasons, and a test holds this list against it.
OURS_ALONE = (
    "edgellm.embedding",
    "edgellm.tokenizer.eos_token_ids",
    "edgellm.tokenizer.lstrip_ids",
    "edgellm.tokenizer.names",
    "edgellm.tokenizer.normalizer",
    "edgellm.tokenizer.rstrip_ids",
    "llama.pooling_type",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eot_token_id",
)

CARD = """---
license: other
license_name: some-license
license_link: https://example.org/LICENSE
base_model:
- Some-Org/Some-Model-1.5B-Base
- https://huggingface.co/another-org/another-model-v2-7b
datasets: [some-org/dialogues-v1, https://example.org/data]
language:
- en
- zh
- no
tags:
- chat
- small
pipeline_tag: text-generation
model_creator: Somebody
---
# A card
"""
SETTINGS = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "min_p": 0}


def write_tiny(root: Path) -> list[Path]:
    """Every tiny case, and folders that say more about themselves than weights and a tokenizer."""
    folders = [
        tinymodels.write(tiny, root / name) for name, tiny in (tinymodels.CASES | tinymodels.HYBRIDS).items()
    ]
    named = tinymodels.write(tinymodels.CASES["qwen3"], root / "Tiny-Qwen3-0.1M-Instruct-v2")
    (named / "README.md").write_text(CARD, encoding="utf-8")
    _update(named / "generation_config.json", SETTINGS)
    spaced = tinymodels.write(tinymodels.CASES["llama"], root / "llama with spaces")
    _update(spaced / "tokenizer_config.json", {"add_prefix_space": False, "add_eos_token": False})
    padded = tinymodels.write(tinymodels.variant("qwen2", n_vocab=400), root / "padded-chat-128k")
    more_tokens(padded)
    distill = tinymodels.write(tinymodels.variant("qwen2", tied=True), root / "r1-distill-qwen-1.5b")
    _distill(distill)
    ending = tinymodels.write(tinymodels.CASES["llama-bias"], root / "adds-its-own-end")
    _own_end(ending)
    vectors = [
        embedders.write(root / "tiny-embedding-last"),
        embedders.write(root / "tiny-embedding-mean", mode="mean", old_keys=False, default_prompt="query"),
        embedders.write(root / "tiny-embedding-cls", tinymodels.variant("llama"), mode="cls", ends=False),
    ]
    ranking = [
        embedders.write_reranker(root / "tiny-reranker"),
        embedders.write_reranker(
            root / "Tiny-Qwen3-Reranker-Untied", tinymodels.variant("qwen3-f32"), card=False
        ),
    ]
    seeing = [towers.write(name, root / f"tiny-{name}") for name in towers.CASES]
    return [*folders, named, spaced, padded, distill, ending, *vectors, *ranking, *seeing]


def _distill(folder: Path) -> None:
    """A tokenizer as DeepSeek-R1's distills have it: bos by template, tokens as objects, templates by name."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    bos = tokenizer["added_tokens"][0]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [level, _template(bos, None)]}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": []}
    tensor_files.write_json(folder / "tokenizer.json", tokenizer)
    template = tinymodels.TEMPLATES["qwen"]
    templates = [{"name": "default", "template": template}, {"name": "tool use", "template": template + "!"}]
    changes = {
        "bos_token": {"__type": "AddedToken", "content": bos["content"], "special": True},
        "add_bos_token": True,
        "add_eos_token": False,
        "chat_template": templates,
    }
    _update(folder / "tokenizer_config.json", changes)


def _own_end(folder: Path) -> None:
    """A post-processor that ends every text with another token than tokenizer_config.json's eos."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    bos, end = tokenizer["added_tokens"][:2]
    tokenizer["post_processor"] = _template(bos, end)
    tensor_files.write_json(folder / "tokenizer.json", tokenizer)


def _template(bos: Mapping[str, Any], eos: Mapping[str, Any] | None) -> dict[str, Any]:
    def special(token: Mapping[str, Any]) -> dict[str, Any]:
        return {"SpecialToken": {"id": token["content"], "type_id": 0}}

    tail = [special(eos)] if eos else []
    single = [special(bos), {"Sequence": {"id": "A", "type_id": 0}}, *tail]
    ids = {
        token["content"]: {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}
        for token in (bos, eos)
        if token
    }
    pair = [*single, special(bos), {"Sequence": {"id": "B", "type_id": 1}}, *tail]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids}


def more_tokens(folder: Path) -> None:
    """Added tokens of every kind, a template in its own file, and a ByteLevel post-processor."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    first = max(token["id"] for token in tokenizer["added_tokens"]) + 1
    for index, (text, special) in enumerate(
        (("<tool_call>", False), ("<|looks_special|>", False), ("<｜User｜>", False), ("[CTRL]", True))
    ):
        entry = dict(tokenizer["added_tokens"][0], id=first + index, content=text, special=special)
        tokenizer["added_tokens"].append(entry)
    tokenizer["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    tensor_files.write_json(folder / "tokenizer.json", tokenizer)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["added_tokens_decoder"]
    (folder / "chat_template.jinja").write_text(settings.pop("chat_template"), encoding="utf-8")
    tensor_files.write_json(folder / "tokenizer_config.json", settings)


def _update(path: Path, changes: Mapping[str, Any]) -> None:
    tensor_files.write_json(path, json.loads(path.read_text(encoding="utf-8")) | dict(changes))


def our_metadata(folder: Path) -> dict[str, tuple[str, Any]]:
    """What edgellm writes for a checkpoint, or for a config and a tokenizer whose weights are imagined."""
    config = language_model(read_json(folder, "config.json") or {})
    generation_config = read_json(folder, "generation_config.json") or {}
    spec = spec_of(config, shapes_of(folder, config), headless=is_embedding(folder))
    vocabulary = read_tokenizer(folder, config, generation_config, spec.n_vocab)
    if rows := reranker_rows(folder, config, vocabulary.tokens):
        spec = with_classifier(spec, rows)
    return build_metadata(folder, config, generation_config, spec, vocabulary, F16)


def shapes_of(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if not any(folder.glob("*.safetensors")):
        return imagined_shapes(config)
    from edgellm.convert.checkpoint.folder import Checkpoint

    with Checkpoint.open(folder) as checkpoint:
        return checkpoint.shapes


def imagined_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors a checkpoint with this config.json would have."""
    config = language_model(config)
    tiny = tinymodels.Tiny(
        model_type=config["model_type"],
        n_layer=config["num_hidden_layers"],
        n_embd=config["hidden_size"],
        n_ff=config.get("intermediate_size", 0),
        n_head=config["num_attention_heads"],
        n_head_kv=config["num_key_value_heads"],
        head_dim=config.get("head_dim"),
        n_vocab=config["vocab_size"],
        tied=config["tie_word_embeddings"],
        attention_bias=config["model_type"] == "llama" and config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        n_expert=config.get("num_experts", 0),
        n_ff_expert=config.get("moe_intermediate_size", 0),
        n_ff_shared=config.get("shared_expert_intermediate_size", 0),
        n_k_heads=config.get("linear_num_key_heads", 0),
        n_v_heads=config.get("linear_num_value_heads", 0),
        net_head_dim=config.get("linear_key_head_dim", 0),
        full_attention_interval=config.get("layer_types", ["full_attention"]).index("full_attention") + 1,
    )
    return tinymodels.shapes(tiny)


def pre_tokenizer(folder: Path) -> str:
    return recognise(read_json(folder, "tokenizer.json") or {}, folder)[0].name


def summary(keys: Mapping[str, tuple[str, Any]]) -> dict[str, list[Any]]:
    """Key -> [type, value]; arrays and long texts as length and SHA-256 of their bytes, floats as float32 in hex."""
    return {key: [kind, _summed(kind, value)] for key, (kind, value) in sorted(keys.items())}


def _summed(kind: str, value: Any) -> Any:
    if kind.startswith("arr[") or (kind == "str" and len(value) > 100):
        return {"n": len(value), "sha256": hashlib.sha256(encode(kind, value)).hexdigest()}
    return encode(kind, value)[4:].hex() if kind == "f32" else value


def differences(theirs: Mapping[str, list[Any]], ours: Mapping[str, list[Any]]) -> list[str]:
    """One line for each key that differs and should not."""
    lines = []
    for key in sorted(theirs.keys() | ours.keys()):
        if key in theirs and theirs[key] != ours.get(key):
            lines.append(f"{key}: llama.cpp {theirs[key]}, edgellm {ours.get(key)}")
        elif key not in theirs and key not in OURS_ALONE:
            lines.append(f"{key}: edgellm alone {ours[key]}")
    return lines
