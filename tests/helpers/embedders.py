"""Tiny checkpoints laid out as embedding models on the hub are: Qwen3-Embedding's files, with random weights.

The layout is that of Qwen/Qwen3-Embedding-0.6B: tensors without `model.`, no head, class Qwen3ForCausalLM, a
post-processor that ends every text with <|endoftext|>, and sentence-transformers' files around it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensor_files
import tinymodels
from tensor_files import write_json
from tinymodels import Tiny

PROMPTS = {
    "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
    "document": "",
}
OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def write(
    folder: Path,
    tiny: Tiny | None = None,
    *,
    mode: str = "lasttoken",
    old_keys: bool = True,  # of the pooling's config, as sentence-transformers before 5 wrote it
    ends: bool = True,
    prompts: dict[str, Any] | None = None,
    default_prompt: str | None = None,
    include_prompt: bool = True,
    max_seq_length: int | None = None,
) -> Path:
    """A checkpoint of `tiny` (Qwen3, tied) whose vectors are pooled by `mode`, sentence-transformers' word."""
    tiny = tiny or tinymodels.variant("qwen3", n_ctx_train=256)
    tinymodels.write(tiny, folder)
    values = {name.removeprefix("model."): value for name, value in tinymodels.tensors(tiny).items()}
    values.pop("lm_head.weight", None)
    tensor_files.write_shards(
        folder, {name: (tiny.dtype, value) for name, value in values.items()}, tiny.n_shards
    )
    if ends:
        end_texts(folder)
    write_modules(folder, ["Pooling", "Normalize"])
    pooling: dict[str, Any] = {"include_prompt": include_prompt}
    if old_keys:
        pooling |= {"word_embedding_dimension": tiny.n_embd}
        pooling |= {key: name == mode for key, name in OLD_FLAGS.items()}
    else:
        pooling |= {"embedding_dimension": tiny.n_embd, "pooling_mode": mode}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    said = {"prompts": PROMPTS if prompts is None else prompts, "default_prompt_name": default_prompt}
    write_json(folder / "config_sentence_transformers.json", said | {"similarity_fn_name": "cosine"})
    if max_seq_length:
        settings = {"max_seq_length": max_seq_length, "do_lower_case": False}
        write_json(folder / "sentence_bert_config.json", settings)
    return folder


def write_modules(folder: Path, kinds: list[str]) -> None:
    """modules.json: the transformer, then a folder for each of `kinds`."""
    paths = [("Transformer", "")] + [(kind, f"{i}_{kind}") for i, kind in enumerate(kinds, 1)]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(paths)
    ]
    (folder / "modules.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
    for kind, path in paths[1:]:
        if kind != "Normalize":  # has no file, and git keeps no empty folder
            (folder / path).mkdir(exist_ok=True)


def end_texts(folder: Path) -> None:
    """Have the post-processor end every text with <|endoftext|>, as Qwen3-Embedding's does."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    end = tokenizer["added_tokens"][0]
    special = {"SpecialToken": {"id": end["content"], "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    template = {
        "type": "TemplateProcessing",
        "single": [first, special],
        "pair": [first, special, second, special],
        "special_tokens": {
            end["content"]: {"id": end["content"], "ids": [end["id"]], "tokens": [end["content"]]}
        },
    }
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [level, template]}
    write_json(folder / "tokenizer.json", tokenizer)


def write_reranker(folder: Path, tiny: Tiny | None = None, *, card: bool = True) -> Path:
    """A Qwen3ForCausalLM that scores by "yes" and "no", as Qwen/Qwen3-Reranker-0.6B is laid out."""
    tinymodels.write(tiny or tinymodels.variant("qwen3", n_ctx_train=1024), folder)
    add_words(folder, ["yes", "no"])
    if card:
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-0.1M\n", "utf-8")
    return folder


def write_scorer(folder: Path, tiny: Tiny | None = None, *, card: bool = True, n_labels: int = 1) -> Path:
    """The same reranker with the difference of its two rows for a head, as community conversions have it."""
    tiny = tiny or tinymodels.variant("qwen3", n_ctx_train=1024)
    write_reranker(folder, tiny, card=card)
    vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    values = tinymodels.tensors(tiny)
    head = values.pop("lm_head.weight", values["model.embed_tokens.weight"])
    row = head[vocab["yes"] : vocab["yes"] + 1] - head[vocab["no"]]
    stored = {name: (tiny.dtype, value) for name, value in values.items()}
    tensor_files.write_shards(folder, stored | {"score.weight": ("F32", row.repeat(n_labels, axis=0))})
    labels = {str(i): f"LABEL_{i}" for i in range(n_labels)}
    classes = {"architectures": ["Qwen3ForSequenceClassification"], "id2label": labels}
    write_json(folder / "config.json", tinymodels.config(tiny) | classes | {"pad_token_id": 300})
    return folder


def add_words(folder: Path, words: list[str]) -> None:
    """Make tokens of `words`, in the place of the last that the tiny tokenizer learned."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] in model["vocab"]:
                continue
            last = model["merges"].pop(
                next(i for i in reversed(range(len(model["merges"]))) if _is_leaf(model, i))
            )
            model["vocab"][word[:end]] = model["vocab"].pop("".join(last))
            model["merges"].insert(0, [word[: end - 1], word[end - 1 : end]])
    write_json(folder / "tokenizer.json", tokenizer)


def _is_leaf(model: dict[str, Any], place: int) -> bool:
    """Whether no other merge builds on this one."""
    made = "".join(model["merges"][place])
    return len(made) > 2 and all(made not in pair for pair in model["merges"])
