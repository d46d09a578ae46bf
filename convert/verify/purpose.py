"""What a converted model says it is for, against the checkpoint's own files, read once more.

Follows sentence-transformers' base/model.py and sentence_transformer/modules/pooling.py; shares nothing with
convert/checkpoint/purpose.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.errors import CheckFailedError
from edgellm.formats.artifact import Artifact
from edgellm.formats.purpose import Embedding, embedding_of, ranks, reranking_of

if TYPE_CHECKING:
    from edgellm.convert.verify.original import Original

#: Qwen3-Reranker's prompt by its model card, white space made one.
_CARD = (
    "<|im_start|>system Judge whether the Document meets the requirements based on the Query and the Instruct provided."
    ' Note that the answer can only be "yes" or "no".<|im_end|> <|im_start|>user <Instruct>: Given a web search query,'
    " retrieve relevant passages that answer the query <Query>: {query} <Document>: {document}<|im_end|>"
    " <|im_start|>assistant <think> </think> "
)


def check(artifact: Artifact, folder: Path, original: Original) -> tuple[str, ...]:
    """Everything a model is for besides writing text, as facts to tell. Raises CheckFailedError."""
    facts = (check_embedding(artifact, folder), check_reranking(artifact, folder, original))
    return tuple(fact for fact in facts if fact)


def check_embedding(artifact: Artifact, folder: Path) -> str | None:
    """Pooling, prompts and limits. Gives a fact to tell; None for a model that is not for embedding."""
    found, expected = embedding_of(artifact), _expected(folder)
    said = None if found is None else vars(found) | {"prompts": dict(found.prompts)}
    if said != expected:
        raise CheckFailedError(f"the check of the pooling failed: the file says {said}, not {expected}")
    return f"pooling {found.pooling}" if found else None


def check_reranking(artifact: Artifact, folder: Path, original: Original) -> str | None:
    """The prompt, and what scores. Gives a fact to tell; None for a model that is no reranker."""
    rows, found = answers(folder), reranking_of(artifact)
    if (rows is None) != (found is None):
        raise CheckFailedError(f"the check of the purpose failed: reranking {found} of a folder with {rows}")
    if rows is None or found is None:
        return None
    said: tuple[Any, ...] = (found.yes, found.no, *found.score)
    expected: tuple[Any, ...] = (None, None)
    if not ranks(artifact):  # whose classifier is a tensor, and checked as such
        expected = rows if rows else (None, None, *map(float, original.tensors["score.weight"].rows(0, 1)[0]))
    if said != expected or re.sub(r"\s+", " ", found.template) != _CARD:
        raise CheckFailedError(
            f"the check of the purpose failed: it ranks by {str(found)[:200]}, not by {rows}"
        )
    return f"ranks by tokens {rows[0]} and {rows[1]}" if rows else "ranks by a row of scores"


def answers(folder: Path) -> tuple[int, int] | tuple[()] | None:
    """Of a Qwen3 reranker, the ids of yes and no: as its module says, else as its vocabulary has them.

    None for a folder that is no reranker's, and no ids for one with a row of scores of its own.
    """
    kinds = {
        str(module["type"]).split(".")[-1]: module["path"] for module in _load(folder / "modules.json", [])
    }
    config, card = _load(folder / "config.json", {}), folder / "README.md"
    places = [folder.resolve().name, folder.resolve().parent.parent.name, str(config.get("_name_or_path"))]
    heading = card.is_file() and "# qwen3-reranker" in card.read_text("utf-8", "replace").lower()
    named = heading or re.search("qwen3-reranker", " ".join(places), re.IGNORECASE)
    if "SequenceClassification" in str(config.get("architectures")):
        return ()
    if config.get("model_type") != "qwen3" or not (
        "LogitScore" in kinds or (named and "Pooling" not in kinds)
    ):
        return None
    said = _load(folder / kinds["LogitScore"] / "config.json", {}) if "LogitScore" in kinds else {}
    vocab = _load(folder / "tokenizer.json", {})["model"]["vocab"]
    return said.get("true_token_id", vocab.get("yes")), said.get("false_token_id", vocab.get("no"))


def _expected(folder: Path) -> dict[str, Any] | None:
    listed = _load(folder / "modules.json", [])
    kinds = {str(module["type"]).split(".")[-1]: folder / module["path"] for module in listed}
    if "Pooling" not in kinds:
        return None
    pooling = _load(kinds["Pooling"] / "config.json", {})
    flags = [key for key in pooling if key.startswith("pooling_mode_") and pooling[key]]
    mode = pooling.get("pooling_mode", flags[0] if flags else "mean")
    said = _load(folder / "config_sentence_transformers.json", {})
    settings: Mapping[str, Any] = {}
    for kind in ("bert", "roberta", "distilbert"):
        settings = settings or _load(folder / f"sentence_{kind}_config.json", {})
    return vars(
        Embedding(
            pooling="last" if "last" in str(mode) else "cls" if "cls" in str(mode) else "mean",
            prompts=said.get("prompts") or {},
            default_prompt=said.get("default_prompt_name"),
            include_prompt=pooling.get("include_prompt", True),
            max_tokens=settings.get("max_seq_length"),
        )
    )


def _load(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
