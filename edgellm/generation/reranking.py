"""Documents in the order of their relevance to a query, by a model that was trained to say yes or no.

A document's score is the probability of "yes" after the model's own prompt: by the classifier of the file, or by the
logits of the two tokens. What the prompts of all documents have in common is evaluated once. Source: the model card
of Qwen3-Reranker.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.errors import EngineError, UsageError, option
from edgellm.formats.purpose import (
    QWEN3_RERANK,
    QWEN3_TASK,
    RERANK_LABELS,
    Reranking,
    ranks,
    reranking_of,
)
from edgellm.session import reuse_prefix

if TYPE_CHECKING:
    from edgellm.session import Session

_CONTROL = re.compile(r"<\|[^|<>]*\|>\s*")
_PLACES = re.compile(r"\{(query|document|instruct)\}")


@dataclass(frozen=True)
class Ranked:
    """One document with its score, and its place among those given."""

    index: int
    score: float  # the probability of "yes": 0 to 1
    document: str


def rerank(
    session: Session,
    query: str,
    documents: Sequence[str],
    *,
    instruct: str | None = None,
    top_n: int | None = None,
    truncate: bool = False,
) -> list[Ranked]:
    """`documents` from the most relevant to `query` to the least, the first `top_n` of them.

    `instruct` is a task in words that takes the place of the model's own ("Given a web search query, ..."). A
    document that does not fit is cut at its end with `truncate`. Control tokens written out in texts are plain text.
    Raises UsageError for a model that is no reranker, EngineError for a document that does not fit.
    """
    prompt = _Prompt(session, _manner_of(session), query, instruct)
    scores = [prompt.score(document, place, truncate) for place, document in enumerate(documents, 1)]
    if not scores:
        raise UsageError("there is no document to rank")
    found = [Ranked(i, score, text) for i, (score, text) in enumerate(zip(scores, documents, strict=True))]
    return sorted(found, key=lambda one: -one.score)[:top_n]


def _manner_of(session: Session) -> Reranking:
    """How this model is asked. A file whose name alone says that it is a reranker is asked as Qwen3-Reranker is."""
    artifact = session.artifact
    found = reranking_of(artifact)
    if found is not None:
        return found
    named = "rerank" in f"{artifact.name} {artifact.path.name}".lower()
    if artifact.architecture != "qwen3" or ranks(artifact) or not named:
        raise UsageError(
            f"{artifact.name} is no reranker that is known here: Qwen3-Reranker is one, converted from its checkpoint "
            "or a GGUF file with rank pooling and a template named rerank"
        )
    ids = [session.tokenize(word, special=False) for word in RERANK_LABELS]
    if any(len(one) != 1 for one in ids):
        raise UsageError(f"{artifact.name} has no tokens {' and '.join(RERANK_LABELS)} to score by")
    return Reranking(QWEN3_RERANK, ids[0][0], ids[1][0])


class _Prompt:
    """One query's prompts, a document filled in.

    The template's control tokens are that, and the text between them is tokenized as one with query and document in
    it: words and what is before them may share a token.
    """

    def __init__(self, session: Session, manner: Reranking, query: str, instruct: str | None) -> None:
        template, name = manner.template, session.artifact.name
        first, last = template.find("{query}"), template.rfind("{document}")
        if not 0 <= first < last:
            raise UsageError(f"the rerank template of {name} has no {{query}} before a {{document}}")
        start = max((m.end() for m in _CONTROL.finditer(template) if m.end() <= first), default=0)
        stop = next((m.start() for m in _CONTROL.finditer(template) if m.start() >= last), len(template))
        self.middle = template[start:stop]
        if instruct is not None:
            if QWEN3_TASK not in self.middle:
                raise UsageError(f"the prompt of {name} has no task to put another one for")
            self.middle = self.middle.replace(QWEN3_TASK, "{instruct}")
        self.session, self.manner = session, manner
        self.filled = {"query": query, "instruct": instruct or ""}
        info = session.info
        self.head = session.tokenize(template[:start], add_bos=info.add_bos)
        self.tail = session.tokenize(template[stop:])

    def score(self, document: str, place: int, truncate: bool) -> float:
        """The probability of "yes"."""
        filled = {**self.filled, "document": document}
        text = _PLACES.sub(lambda match: filled[match[1]], self.middle)
        asked = self.session.tokenize(text, special=False)
        n_ctx = self.session.info.n_ctx
        room = n_ctx - len(self.head) - len(self.tail)
        if len(asked) > room:
            if not truncate:
                raise EngineError(
                    f"query and document {place} have {len(asked)} tokens, and the context of {n_ctx} has room for "
                    f"{max(room, 0)}: make them shorter, have them cut ({option('truncate')}), or give a larger "
                    f"context ({option('n_ctx')}) if the model has one"
                )
            asked = asked[: max(room, 0)]
        tokens = [*self.head, *asked, *self.tail]
        new = tokens[reuse_prefix(self.session, tokens) :]
        if self.manner.score:
            return self._by_row(new)
        if self.manner.yes is None or self.manner.no is None:
            return self._by_label(new)
        logits = self.session.eval(new)
        return _sigmoid(float(logits[self.manner.yes]) - float(logits[self.manner.no]))

    def _by_row(self, tokens: Sequence[int]) -> float:
        import numpy as np

        if len(tokens) > 1:
            self.session.eval(tokens[:-1])
        state, row = self.session.hidden(tokens[-1:])[0], np.array(self.manner.score, np.float32)
        if row.shape != state.shape:
            raise EngineError(f"the row that scores has {row.size} numbers, and the model {state.size}")
        return _sigmoid(float(row @ state))

    def _by_label(self, tokens: Sequence[int]) -> float:
        found = self.session.classify(tokens)
        if RERANK_LABELS[0] not in found:
            there = ", ".join(map(repr, found))
            raise UsageError(
                f"the classifier's labels are {there}; a reranker's are {' and '.join(RERANK_LABELS)}"
            )
        return found[RERANK_LABELS[0]]


def _sigmoid(x: float) -> float:
    """Softmax of two logits, as the first one's share, from their difference."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
