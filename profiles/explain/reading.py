"""What a model says of each token of a text: log-probability, entropy, the likeliest other tokens.

Knows sessions; knows no page. Probabilities are the model's own, log-softmax of its logits in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.errors import UsageError
from edgellm.generation.scoring import Block, blocks, windows

if TYPE_CHECKING:
    from edgellm.session import Session

#: Rivals told of each token.
N_RIVALS = 5


@dataclass(frozen=True)
class Rival:
    """Another token that might have come."""

    text: str
    log_prob: float  # natural logarithm


@dataclass(frozen=True)
class Token:
    """One token of the text; what is None of a first token, which nothing predicts."""

    id: int
    start: int  # of its bytes in the UTF-8 text
    end: int
    log_prob: float | None  # natural logarithm
    rank: int | None  # 1: the likeliest
    entropy_bits: float | None  # of the whole distribution it came from
    rivals: tuple[Rival, ...] = ()  # the likeliest others, likeliest first


@dataclass(frozen=True)
class Reading:
    """A text as one model reads it."""

    model: str
    quantization: str
    tokens: tuple[Token, ...]

    @property
    def bits_per_byte(self) -> float | None:
        """Over the tokens that were predicted; None where none stands for text."""
        scored = [token for token in self.tokens if token.log_prob is not None]
        n_bytes = sum(token.end - token.start for token in scored)
        bits = -math.fsum(token.log_prob or 0.0 for token in scored) / math.log(2)
        return bits / n_bytes if n_bytes else None


def read(session: Session, text: str, report: Callable[[int], None] | None = None) -> Reading:
    """The text as `session` reads it; control tokens written out in it are plain text.

    Raises UsageError for a text without tokens, or one whose tokens do not spell it; EngineError.
    """
    bos = session.tokenize("", special=False, add_bos=True) if session.info.add_bos else []
    ids = session.tokenize(text, special=False)
    pieces = [session.piece(token) for token in ids]
    if not ids:
        raise UsageError("the text is empty: there is nothing to explain")
    if b"".join(pieces) != text.encode():
        raise UsageError(
            f"the tokens of {session.artifact.name} do not spell the text: it changes what it reads"
        )
    said: list[Token] = []
    at = 0
    if not bos:
        said.append(Token(ids[0], 0, len(pieces[0]), None, None, None))
        at = len(pieces[0])
    first = max(len(bos), 1)
    for chunk in windows([*bos, *ids], first, session.info.n_ctx, bos):
        for block in blocks(session, chunk):
            for row in range(len(block.targets)):
                said.append(_token(session, block, row, at))
                at = said[-1].end
            if report:
                report(len(said))
    artifact = session.artifact
    return Reading(artifact.name, artifact.quantization, tuple(said))


def _token(session: Session, block: Block, row: int, start: int) -> Token:
    import numpy as np

    log_probs, target = block.log_probs[row], int(block.targets[row])
    likeliest = np.argpartition(-log_probs, N_RIVALS)[: N_RIVALS + 1]
    likeliest = likeliest[np.argsort(-log_probs[likeliest], kind="stable")]
    others = [int(token) for token in likeliest if token != target][:N_RIVALS]
    probs = np.exp(log_probs)
    bits = float(-(probs[probs > 0] * log_probs[probs > 0]).sum() / math.log(2))
    return Token(
        id=target,
        start=start,
        end=start + len(session.piece(target)),
        log_prob=float(log_probs[target]),
        rank=int((log_probs > log_probs[target]).sum()) + 1,
        entropy_bits=bits,
        rivals=tuple(
            Rival(session.piece(other).decode("utf-8", "replace"), float(log_probs[other]))
            for other in others
        ),
    )
