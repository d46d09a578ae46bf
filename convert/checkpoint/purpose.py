"""What a checkpoint's folder says it is for besides writing text: the files that sentence-transformers reads.

`modules.json` lists what follows the transformer, each with a folder of its own: pooling, normalising, for a
reranker the two tokens whose logits are its score. What changes the vectors and cannot be told to an engine is
refused by name. Sources: sentence-transformers' base/model.py, modules/pooling.py, modules/transformer.py. Knows no
weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from edgellm.convert.checkpoint.folder import Checkpoint, find_file, read_json, read_json_list
from edgellm.convert.checkpoint.safetensors_file import ScoreTensor
from edgellm.convert.checkpoint.tokenizer import Vocabulary
from edgellm.errors import CheckpointError
from edgellm.formats.purpose import Embedding, Pooling
from edgellm.models.base import ModelSpec, Role
from edgellm.models.classifier import SCORE, with_classifier

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
#: Files of the first module's settings, by the ages of the library that wrote them.
SETTINGS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json")
FILES = (MODULES, PROMPTS, *SETTINGS)

#: A pooling's names, new and old, for those that both engines compute.
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_PAIR = re.compile(r"""["']document["']""")  # a role that sentence-transformers gives a reranker's template
_QUESTION = "Judge whether the Document meets the requirements"  # how Qwen3-Reranker's prompt begins
_RERANKER, _CARD_CHARACTERS = "qwen3-reranker", 1 << 20
_ANSWERS = (("true", "yes"), ("false", "no"))  # sentence-transformers' word, the token's
_OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_embedding(folder: Path) -> Embedding | None:
    """How vectors are made with this checkpoint; None where the folder is no embedding model's.

    Raises CheckpointError for files that cannot be understood, and for what no engine does.
    """
    pooling: Mapping[str, Any] | None = None
    for kind, config in modules(folder):
        if kind == "Pooling":
            pooling = config
        elif kind not in ("Transformer", "Normalize", "LogitScore"):
            _refuse(folder, f"names the module {kind!r}, which changes what the model gives")
    if pooling is None:
        return None
    if not pooling:
        _refuse(folder, "names a pooling whose config.json is not there")
    said = read_json(folder, PROMPTS) or {}
    prompts = said.get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    name = said.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise CheckpointError(f"{folder / PROMPTS}: default_prompt_name {name!r} is none of its prompts")
    return Embedding(
        pooling=_pooling(folder, pooling),
        prompts={str(key): str(text) for key, text in prompts.items()},
        default_prompt=name,
        include_prompt=pooling.get("include_prompt") is not False,
        max_tokens=_max_tokens(folder),
    )


def is_embedding(folder: Path) -> bool:
    """Whether vectors are what the checkpoint was made for. Raises as `read_embedding` does."""
    return read_embedding(folder) is not None


def modules(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Class name and config of each module of modules.json; none where there is no such file."""
    for entry in read_json_list(folder, MODULES) or ():
        kind, path = (entry.get(key) for key in ("type", "path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            _refuse(folder, f"has the entry {str(entry)[:60]}, which is no module")
        if path and (Path(path).name != path or "\\" in path or (folder / path).is_symlink()):
            _refuse(folder, f"names the folder {path!r}, outside the checkpoint")
        config = read_json(folder / path, "config.json") if path else None  # git keeps no empty folder
        yield kind.rpartition(".")[2], config or {}


def with_purpose(
    checkpoint: Checkpoint, spec: ModelSpec, vocabulary: Vocabulary
) -> tuple[Checkpoint, ModelSpec]:
    """A reranker's checkpoint and spec with the classifier that scores; any other's as they are.

    Raises CheckpointError for a checkpoint that rates texts and is no reranker, as far as its folder tells.
    """
    folder, config = checkpoint.dir, checkpoint.config
    if spec.tensor(Role.CLS_OUT) is None:
        rows = reranker_rows(folder, config, vocabulary.tokens)
        if rows:
            _check_prompt(folder, vocabulary)
        return checkpoint, with_classifier(spec, rows) if rows else spec
    _check_prompt(folder, vocabulary)
    if not _is_named_reranker(folder, config):
        raise CheckpointError(
            f"{folder} rates texts with one score ({config['architectures'][0]}), as reward models and rerankers do: "
            "only Qwen3-Rerankers are converted, told by the folder's name or the heading of README.md"
        )
    rows_of_score = {SCORE: ScoreTensor.of(checkpoint.tensors[SCORE])}
    return replace(checkpoint, tensors={**checkpoint.tensors, **rows_of_score}), spec


def _check_prompt(folder: Path, vocabulary: Vocabulary) -> None:
    """Raise CheckpointError where a chat template asks about a query and a document otherwise than Qwen3-Reranker's."""
    template = vocabulary.special.chat_template or ""
    if _PAIR.search(template) and _QUESTION not in template:
        raise CheckpointError(
            f"{folder} is a reranker with a prompt of its own (its chat template, for query and document), and only "
            "Qwen3-Reranker's is known"
        )


def reranker_rows(folder: Path, config: Mapping[str, Any], tokens: Sequence[str]) -> tuple[int, int] | None:
    """The ids of the tokens by whose logits a Qwen3-Reranker scores, yes and no; None where the folder is none's.

    Told by its name, as in llama.cpp's converter (conversion/qwen.py), or by sentence-transformers' module. Raises
    CheckpointError for a vocabulary without the two.
    """
    listed = dict(modules(folder))
    scorer, named = listed.get("LogitScore"), "Pooling" not in listed and _is_named_reranker(folder, config)
    if config.get("model_type") != "qwen3" or (scorer is None and not named):
        return None
    rows = []
    for which, word in _ANSWERS:
        row = (scorer or {}).get(f"{which}_token_id", tokens.index(word) if word in tokens else None)
        if type(row) is not int or not 0 <= row < len(tokens):
            raise CheckpointError(
                f"{folder} is a reranker, but its vocabulary has no token {word!r} to score by ({row!r}): copy the "
                "model's own tokenizer files"
            )
        rows.append(row)
    return rows[0], rows[1]


def _is_named_reranker(folder: Path, config: Mapping[str, Any]) -> bool:
    card = find_file(folder, "README.md")
    text = card.read_text("utf-8", "replace")[:_CARD_CHARACTERS].lower() if card else ""
    home = folder.absolute()
    names = [home.name, str(config.get("_name_or_path", ""))]
    names += [home.parent.parent.name] if home.parent.name == "snapshots" else []  # of a Hugging Face cache
    return f"# {_RERANKER}" in text or any(_RERANKER in name.lower() for name in names)


def _refuse(folder: Path, what: str) -> NoReturn:
    raise CheckpointError(
        f"{folder / MODULES} {what}: remove {MODULES} to convert the language model without it"
    )


def _pooling(folder: Path, config: Mapping[str, Any]) -> Pooling:
    """The one way of pooling. No mode said at all means the mean, as in sentence-transformers."""
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_MODES.items() if config.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, Sequence) or len(modes) != 1 or modes[0] not in _POOLINGS:
        _refuse(
            folder, f"asks for pooling {modes!r}, but the engines know {', '.join(_POOLINGS)}, one at a time"
        )
    return _POOLINGS[modes[0]]


def _max_tokens(folder: Path) -> int | None:
    for name in SETTINGS:
        if find_file(folder, name):
            value = (read_json(folder, name) or {}).get("max_seq_length")
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
    return None
