"""Texts as vectors: a model's hidden states, pooled and normalised.

Knows sessions and numpy; the hidden states are those after the final norm, the same in every engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from edgellm.session import Session

    Vectors = npt.NDArray[np.float32]

Pooling = Literal["mean", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def embed(
    session: Session, texts: Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True
) -> Vectors:
    """One vector for each text, [len(texts), n_embd] in float32.

    `mean` is the mean over the text's tokens, `last` the last token's state; `normalize` makes each vector
    one long. Control tokens written out in a text are plain text. Raises UsageError for a text without tokens,
    EngineError for one that does not fit the context or a model that gives no hidden states.
    """
    import numpy as np

    if pooling not in POOLINGS:
        raise UsageError(f"there is no pooling {pooling!r}; there are: {', '.join(POOLINGS)}")
    rows = [pooled(session, _tokens(session, text), pooling) for text in texts]
    if not rows:
        raise UsageError("there is no text to embed")
    found: Vectors = np.stack(rows)
    if normalize:
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return found


def pooled(session: Session, tokens: Sequence[int], pooling: Pooling) -> Vectors:
    """One vector [n_embd] for a run of tokens, evaluated from an empty cache; not normalised."""
    session.rewind(0)
    if pooling == "last":
        if len(tokens) > 1:
            session.eval(tokens[:-1])
        last: Vectors = session.hidden(tokens[-1:])[0]
        return last
    mean: Vectors = session.hidden(tokens).mean(axis=0)
    return mean


def _tokens(session: Session, text: str) -> list[int]:
    tokens = session.tokenize(text, special=False, add_bos=session.info.add_bos)
    if not tokens:
        raise UsageError("an empty text has no tokens, so nothing to embed")
    return tokens
