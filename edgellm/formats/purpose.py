"""What a model is for besides writing text - embedding, reranking - as a converted model's header says it.

GGUF's own keys are llama.cpp's: `<architecture>.pooling_type`, and a template named `rerank`. What they have no room
for stands in keys of edgellm's, as JSON; an ONNX folder's manifest is read into the same keys. Knows headers alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgellm.formats.gguf.classifier import RANK

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

#: `<architecture>.pooling_type` (llama.h, enum llama_pooling_type).
POOLING_IDS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3}
EMBEDDING_KEY, RERANKING_KEY = "edgellm.embedding", "edgellm.reranking"
RERANK_TEMPLATE = "tokenizer.chat_template.rerank"


@dataclass(frozen=True)
class Embedding:
    """How sentence-transformers makes a vector of a text with this model."""

    pooling: Pooling
    prompts: Mapping[str, str] = field(default_factory=dict)  # by name: what goes before a text
    default_prompt: str | None = None  # the name of the one that goes before every text
    include_prompt: bool = True  # whether a mean is taken over the prompt's tokens, too
    max_tokens: int | None = None  # of a text with its prompt and end; None: the context

    def keys(self, architecture: str) -> dict[str, tuple[str, Any]]:
        """GGUF's key-values, with their types."""
        found = {f"{architecture}.pooling_type": ("u32", POOLING_IDS[self.pooling])}
        more = {
            "prompts": dict(self.prompts),
            "default_prompt": self.default_prompt,
            "include_prompt": self.include_prompt,
            "max_tokens": self.max_tokens,
        }
        return found | {EMBEDDING_KEY: ("str", json.dumps(more, ensure_ascii=False))}


#: What Qwen3-Reranker is asked (its model card): the task, which may be another, and the whole prompt.
QWEN3_TASK = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3_RERANK = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    f"<Instruct>: {QWEN3_TASK}\n<Query>: {{query}}\n<Document>: {{document}}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
RERANK_LABELS = ("yes", "no")


@dataclass(frozen=True)
class Reranking:
    """How relevant a document is to a query, asked of a model that was trained to say yes or no."""

    template: str  # the whole prompt, with {query} and {document}
    yes: int | None = None  # token ids; None: the file has an output for the two alone
    no: int | None = None
    score: tuple[
        float, ...
    ] = ()  # instead: a row [n_embd] whose product with the last state is the log-odds of yes

    @property
    def keys(self) -> dict[str, tuple[str, Any]]:
        """Our key for a model that keeps its whole output projection."""
        return {RERANKING_KEY: ("str", json.dumps(vars(self), ensure_ascii=False))}


def embedding_of(artifact: Artifact) -> Embedding | None:
    """What the header says of embedding; None for a model that was not made for it."""
    number = artifact.metadata.get(f"{artifact.architecture}.pooling_type")
    pooling = next((name for name, known in POOLING_IDS.items() if known == number), None)
    if pooling is None:
        return None
    more = _json(artifact.metadata.get(EMBEDDING_KEY))
    prompts, limit = more.get("prompts"), more.get("max_tokens")
    name = more.get("default_prompt")
    return Embedding(
        pooling,
        {str(k): str(v) for k, v in prompts.items()} if isinstance(prompts, dict) else {},
        name if isinstance(name, str) else None,
        more.get("include_prompt") is not False,
        limit if isinstance(limit, int) and limit > 0 else None,
    )


def reranking_of(artifact: Artifact) -> Reranking | None:
    """What the header says of reranking; None for a model that was not made for it."""
    template = artifact.metadata.get(RERANK_TEMPLATE)
    # Of other families llama.cpp gives what the classifier says, and no probability.
    if ranks(artifact) and isinstance(template, str) and artifact.architecture in ("qwen3", "qwen3vl"):
        return Reranking(template)
    said = _json(artifact.metadata.get(RERANKING_KEY))
    template, yes, no = said.get("template"), said.get("yes"), said.get("no")
    if isinstance(template, str) and isinstance(yes, int) and isinstance(no, int):
        return Reranking(template, yes, no)
    row = said.get("score")
    if isinstance(template, str) and isinstance(row, list) and row and all(type(x) is float for x in row):
        return Reranking(template, score=tuple(row))
    return None


def other_than_text(artifact: Artifact) -> str:
    """What the header says that the model was made for instead of writing text; empty for one that writes."""
    if reranking_of(artifact) or ranks(artifact):
        return "reranking"
    return "embedding" if embedding_of(artifact) else ""


def ranks(artifact: Artifact) -> bool:
    """Whether the file ends in a classifier (`cls.output.weight`) whose outputs llama.cpp gives."""
    return bool(artifact.metadata.get(f"{artifact.architecture}.pooling_type") == RANK)


def plain(keys: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Of a converted model's key-values those that say what it is for, without their types."""
    ours = (EMBEDDING_KEY, RERANKING_KEY)
    return {key: value for key, (_, value) in keys.items() if key in ours or key.endswith(".pooling_type")}


def _json(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
