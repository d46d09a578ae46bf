"""What is asked of an engine beside answers: ids of a text, a rendered prompt, vectors, ranks.

Those in `EVALUATING` are generators that the engine's thread steps between evaluations of answers; the others need no
evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from edgellm.serving.job import Job

if TYPE_CHECKING:
    from edgellm.backends.batching.engine import Engine
    from edgellm.serving.answering import Desk


def tokenize(desk: Desk, text: str, special: bool, add_bos: bool) -> list[int]:
    """Ids of a text."""
    return desk.tokenizer.tokenize(text, special=special, add_bos=add_bos)


def pieces(desk: Desk, tokens: Sequence[int]) -> list[bytes]:
    """The bytes of ids."""
    return [desk.tokenizer.piece(token) for token in tokens]


def render(desk: Desk, job: Job) -> tuple[str, list[int]]:
    """A job's prompt as text and as ids."""
    return desk.render(job)


def embed(
    engine: Engine, texts: Sequence[str], manner: dict[str, Any], settings: dict[str, Any]
) -> Generator[None, None, tuple[list[list[float]], list[int]]]:
    """Vectors of texts, and how many tokens each has; a text a step."""
    from edgellm.generation import embedding

    found: list[list[float]] = []
    lengths: list[int] = []
    with engine.alone() as session:
        how = embedding.manner_of(session.artifact, **manner)
        for text in texts:
            found += embedding.embed(session, [text], how, **settings).tolist()
            lengths.append(len(session.tokens))
            yield
    return found, lengths


def rerank(
    engine: Engine, query: str, documents: Sequence[str], settings: dict[str, Any]
) -> Generator[None, None, tuple[list[tuple[int, float]], int]]:
    """Documents by relevance: place and score; and the tokens of all prompts."""
    from edgellm.generation import reranking

    with engine.alone() as session:
        found, n_tokens = [], 0
        for i, document in enumerate(documents):
            (one,) = reranking.rerank(session, query, [document], **settings)
            found.append((i, one.score))
            n_tokens += len(session.tokens)
            yield
    return sorted(found, key=lambda one: -one[1]), n_tokens


PLAIN: dict[str, Callable[..., Any]] = {"tokenize": tokenize, "pieces": pieces, "render": render}
EVALUATING: dict[str, Callable[..., Generator[None, None, Any]]] = {"embed": embed, "rerank": rerank}
