"""How well a model predicts a text: runs of tokens to evaluate, their logits in bounded memory, log-probabilities.

Knows sessions and numpy; knows no engine, no file and no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.errors import EngineError, UsageError
from edgellm.session import Session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.session import Logits

    Float64s = npt.NDArray[np.float64]

#: Bytes of float32 logits asked of an engine in one call.
CALL_BYTES = 64 << 20
#: Bytes of float64 log-probabilities worked on at a time.
BLOCK_BYTES = 32 << 20
#: llama.cpp's importance matrix tool looks at no batch smaller than this, so no call is.
_MIN_CALL = 16


@dataclass(frozen=True)
class Chunk:
    """One sequence to evaluate from an empty cache; `tokens[first:]` are predicted and scored, `first` >= 1."""

    tokens: tuple[int, ...]
    first: int

    @property
    def n_scored(self) -> int:
        """Tokens whose prediction counts."""
        return len(self.tokens) - self.first


@dataclass(frozen=True)
class Block:
    """Scored positions of one chunk: row i of `log_probs` is what the model said of token `targets[i]`."""

    chunk: int  # index of the chunk
    start: int  # index of the first target within the chunk's scored tokens
    targets: npt.NDArray[np.int64]  # [n]
    log_probs: Float64s  # [n, n_vocab], natural logarithm


def text_chunks(session: Session, text: str, n_tokens: int, *, special: bool = False) -> list[Chunk]:
    """Cut a text into chunks of `n_tokens`, the second half of each scored; a shorter rest is left out.

    This is what llama-perplexity does (llama.cpp, tools/perplexity): every scored token has at least half a
    chunk of context, and where the model wants a BOS token, it takes the place of each chunk's first token.
    With `special`, control tokens written out in the text become their ids.
    Raises UsageError when the text does not fill one chunk.
    """
    add_bos = session.info.add_bos
    ids = session.tokenize(text, special=special, add_bos=add_bos)
    first_id = ids[:1] if add_bos else []
    if len(ids) < n_tokens:
        raise UsageError(
            f"the text has {len(ids)} tokens, fewer than one chunk of {n_tokens}: give a longer text or a smaller -c"
        )
    starts = range(0, len(ids) - n_tokens + 1, n_tokens)
    pieces = (ids[start : start + n_tokens] for start in starts)
    # The token after position n/2 is the first whose prediction llama-perplexity counts.
    return [Chunk((*(first_id or piece[:1]), *piece[1:]), n_tokens // 2 + 1) for piece in pieces]


def logits(session: Session, tokens: Sequence[int]) -> Iterator[tuple[int, Logits]]:
    """Evaluate `tokens` from an empty cache; yield (position, logits [n, n_vocab]) in calls of bounded size.

    Raises EngineError when a logit is not finite.
    """
    import numpy as np

    step = max(_MIN_CALL, CALL_BYTES // (4 * session.info.n_vocab))
    session.rewind(0)
    for start in range(0, len(tokens), step):
        values = session.eval_all(tokens[start : start + step])
        if not np.isfinite(values.sum()) and not np.isfinite(values).all():
            raise EngineError(
                f"{session.artifact.name} gave a logit that is NaN or infinite; its weights are damaged"
            )
        yield start, values


def blocks(session: Session, chunk: Chunk, index: int = 0) -> Iterator[Block]:
    """Evaluate one chunk; yield the log-probabilities of its scored positions, a bounded number at a time."""
    import numpy as np

    rows = max(1, BLOCK_BYTES // (8 * session.info.n_vocab))
    for position, values in logits(session, chunk.tokens):
        last = min(len(values), len(chunk.tokens) - 1 - position)  # the last token predicts nothing
        for low in range(max(0, chunk.first - 1 - position), last, rows):
            high = min(low + rows, last)
            targets = np.array(chunk.tokens[position + low + 1 : position + high + 1])
            start = position + low + 1 - chunk.first
            yield Block(index, start, targets, log_softmax(values[low:high]))


def log_softmax(values: Logits) -> Float64s:
    """Logits [n, n_vocab] to natural log-probabilities, in float64."""
    import numpy as np

    shifted = values.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def target_log_probs(block: Block) -> Float64s:
    """The log-probability of each target, [n]."""
    import numpy as np

    found: Float64s = np.take_along_axis(block.log_probs, block.targets[:, None], axis=1)[:, 0]
    return found
