"""Texts as vectors: a model's hidden states, pooled and normalised as its file says.

Knows sessions and numpy; the hidden states are those after the final norm, the same in every engine. What is put
before a text, and where it ends, is as in sentence-transformers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.errors import EngineError, UsageError, option
from edgellm.formats.purpose import POOLINGS, Embedding, Pooling, embedding_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from edgellm.formats.artifact import Artifact
    from edgellm.session import Session

    Vectors = npt.NDArray[np.float32]

_UNSAID: Pooling = "mean"  # for a model that was not made for embedding
#: How Qwen3-Embedding's card, and others after it, tell a model its task. The space before a query is the model's.
_INSTRUCTION = "Instruct: {}\nQuery:"
_QUERY = re.compile(r"\AInstruct: .*\nQuery: \Z", re.DOTALL)


@dataclass(frozen=True)
class Manner:
    """How texts become vectors."""

    pooling: Pooling
    prompt: str = ""  # goes before every text
    include_prompt: bool = True  # whether a mean is taken over it, too
    max_tokens: int | None = None  # of a text with all that is put around it
    remark: str = ""  # what of this the file says, for people


def manner_of(
    artifact: Artifact,
    *,
    pooling: Pooling | None = None,
    prompt_name: str | None = None,
    instruct: str | None = None,
) -> Manner:
    """What the model's file says, with what is asked for in its place.

    `pooling` None is the file's, else the mean: over the text's tokens; `last` is the last token's state, `cls` the
    first's. `prompt_name` picks one of the file's prompts, `instruct` is a task in words, for queries. Raises
    UsageError.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise UsageError(f"there is no pooling {pooling!r}; there are: {', '.join(POOLINGS)}")
    if prompt_name is not None and instruct is not None:
        raise UsageError("prompt_name and instruct exclude each other: give one")
    said = embedding_of(artifact)
    known = said or Embedding(_UNSAID)
    name = prompt_name if prompt_name is not None or instruct is not None else known.default_prompt
    if name is not None and name not in known.prompts:
        there = ", ".join(known.prompts) or "none"
        raise UsageError(f"{artifact.name} has no prompt named {name!r}; there are: {there}")
    prompt = "" if name is None else known.prompts[name]
    if instruct is not None:
        spaced = any(map(_QUERY.match, known.prompts.values()))
        prompt = _INSTRUCTION.format(instruct) + (" " if spaced else "")
    source = "as asked" if pooling else "as the model's file says" if said else "for the file names none"
    remark = f"pooling {pooling or known.pooling}, {source}" + (f"; prompt {prompt!r}" if prompt else "")
    return Manner(pooling or known.pooling, prompt, known.include_prompt, known.max_tokens, remark)


def embed(
    session: Session,
    texts: Sequence[str],
    manner: Manner,
    *,
    normalize: bool = True,
    dimensions: int | None = None,
    truncate: bool = False,
) -> Vectors:
    """One vector for each text, [len(texts), n_embd] in float32.

    `manner` is `manner_of`'s for this model. `dimensions` keeps the first so many numbers (Matryoshka); `normalize`
    makes each vector one long after that. A text that does not fit is cut at its end with `truncate`, where the
    model's end token still follows. Control tokens written out in a text are plain text. Raises UsageError for a text
    without tokens, EngineError for a text that does not fit or a model that gives no hidden states.
    """
    import numpy as np

    skip = 0
    if manner.prompt and not manner.include_prompt:
        skip = len(session.tokenize(manner.prompt, special=False, add_bos=session.info.add_bos))
    rows = [_vector(session, text, place, manner, skip, truncate) for place, text in enumerate(texts, 1)]
    if not rows:
        raise UsageError("there is no text to embed")
    found: Vectors = np.stack(rows)
    if dimensions is not None:
        if not 0 < dimensions <= found.shape[1]:
            raise UsageError(
                f"{dimensions} dimensions of {found.shape[1]} cannot be kept: give 1 or more, at most all"
            )
        found = found[:, :dimensions]
    if normalize:
        found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return found


def pooled(session: Session, tokens: Sequence[int], pooling: Pooling, skip: int = 0) -> Vectors:
    """One vector [n_embd] for a run of tokens, evaluated from an empty cache; not normalised.

    The first `skip` tokens are read and take no part in it.
    """
    session.rewind(0)
    if pooling == "mean":
        mean: Vectors = session.hidden(tokens)[skip:].mean(axis=0)
        return mean
    wanted = skip if pooling == "cls" else len(tokens) - 1  # what comes after it cannot change it
    if wanted:
        session.eval(tokens[:wanted])
    state: Vectors = session.hidden(tokens[wanted : wanted + 1])[0]
    return state


def _vector(session: Session, text: str, place: int, manner: Manner, skip: int, truncate: bool) -> Vectors:
    if not text:
        raise UsageError("an empty text has no tokens, so nothing to embed")
    info = session.info
    tokens = session.tokenize(manner.prompt + text, special=False, add_bos=info.add_bos)
    end = [] if info.closing_id is None else [info.closing_id]
    limit = min(info.n_ctx, manner.max_tokens or info.n_ctx)
    if len(tokens) + len(end) > limit:
        if not truncate:
            raise EngineError(
                f"the {len(tokens) + len(end)} tokens of text {place} do not fit the context of {limit}: make it "
                f"shorter, have it cut ({option('truncate')}), or give a larger context ({option('n_ctx')}) if the "
                "model has one"
            )
        tokens = tokens[: limit - len(end)]
    return pooled(session, tokens + end, manner.pooling, min(skip, len(tokens) + len(end) - 1))
