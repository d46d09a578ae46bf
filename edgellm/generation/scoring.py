"""How well a model predicts a text: runs of tokens to evaluate, their logits in bounded memory, log-probabilities.

Knows sessions and numpy; knows no engine, no file and no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.errors import UsageError, option
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


@dataclass(frozen=True)
class Score:
    """What a model said of each token of a text."""

    tokens: tuple[int, ...]
    log_probs: tuple[float | None, ...]  # natural; None for a first token that nothing predicts
    n_bytes: int  # of text that the scored tokens stand for

    def __repr__(self) -> str:
        return f"<edgellm.Score of {len(self.tokens)} tokens, log_prob {self.log_prob:.3f}>"

    @property
    def log_prob(self) -> float:
        """Of the text: the sum over its scored tokens."""
        return math.fsum(self._scored)

    @property
    def perplexity(self) -> float:
        """exp of minus the mean log-probability. Depends on the tokenizer: compare bits per byte across models."""
        return math.exp(-self.log_prob / len(self._scored))

    @property
    def bits_per_byte(self) -> float | None:
        """-log2 of the text's probability over its bytes; None when the scored tokens stand for no text."""
        return -self.log_prob / math.log(2) / self.n_bytes if self.n_bytes else None

    @property
    def _scored(self) -> list[float]:
        return [value for value in self.log_probs if value is not None]


def score(session: Session, text: str, *, after: str = "") -> Score:
    """Score `text` as it follows `after`; control tokens written out in either are plain text.

    Where the model wants a BOS token, that comes first and predicts the first token; elsewhere a text with
    nothing before it has a first token that cannot be scored. Raises UsageError when no token can be.
    """
    before = session.tokenize(after, special=False, add_bos=session.info.add_bos)
    tokens = session.tokenize(text, special=False)
    ids = [*before, *tokens]
    first = max(len(before), 1)
    if len(ids) <= first:
        raise UsageError(f"a text of {len(tokens)} tokens has none that can be scored; give a longer one")
    bos = before[:1] if session.info.add_bos else []
    found: list[float] = []
    for chunk in windows(ids, first, session.info.n_ctx, bos):
        for block in blocks(session, chunk):
            found += target_log_probs(block).tolist()
    n_bytes = sum(len(session.piece(token)) for token in ids[first:])
    return Score(tuple(tokens), (*[None] * (first - len(before)), *found), n_bytes)


def endings(session: Session, text: str, continuations: Sequence[str]) -> list[float]:
    """The natural log-probability of each continuation of `text`, which is read once.

    Raises UsageError where the text, or a continuation, has no token.
    """
    before = session.tokenize(text, special=False, add_bos=session.info.add_bos)
    found = [session.tokenize(each, special=False) for each in continuations]
    if not before or not all(found):
        raise UsageError(f"{text!r} and what may follow it need a token each")
    session.rewind(0)
    first = log_softmax(session.eval_all(before)[-1:])[0]
    sums = []
    for tokens in found:
        likelihoods = [float(first[tokens[0]])]
        if len(tokens) > 1:
            session.rewind(len(before))
            rows = log_softmax(session.eval_all(tokens[:-1]))
            likelihoods += [float(row[token]) for row, token in zip(rows, tokens[1:], strict=True)]
        sums.append(math.fsum(likelihoods))
    return sums


def windows(tokens: Sequence[int], first: int, n_ctx: int, bos: Sequence[int] = ()) -> list[Chunk]:
    """Chunks of at most `n_ctx` that score every token from `first` on once, with at least half a window before it
    where there is so much. `bos` takes the place of a later window's first token.
    """
    if len(tokens) <= n_ctx:
        return [Chunk(tuple(tokens), first)]
    step = n_ctx // 2
    found = []
    for start in range(0, len(tokens) - n_ctx + step, step):
        piece = tuple(tokens[start : start + n_ctx])
        predicted = max(first - start, 1 if start == 0 else n_ctx - step)
        if predicted < len(piece):
            found.append(Chunk((*bos, *piece[len(bos) :]) if start else piece, predicted))
    return found


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
            f"the text has {len(ids)} tokens, fewer than one chunk of {n_tokens}: give a longer text or a "
            f"smaller {option('n_ctx')}"
        )
    starts = range(0, len(ids) - n_tokens + 1, n_tokens)
    pieces = (ids[start : start + n_tokens] for start in starts)
    # The token after position n/2 is the first whose prediction llama-perplexity counts.
    return [Chunk((*(first_id or piece[:1]), *piece[1:]), n_tokens // 2 + 1) for piece in pieces]


def logits(session: Session, tokens: Sequence[int]) -> Iterator[tuple[int, Logits]]:
    """Evaluate `tokens` from an empty cache; yield (position, logits [n, n_vocab]) in calls of bounded size.

    Raises EngineError.
    """
    step = max(_MIN_CALL, CALL_BYTES // (4 * session.info.n_vocab))
    session.rewind(0)
    for start in range(0, len(tokens), step):
        yield start, session.eval_all(tokens[start : start + step])


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
