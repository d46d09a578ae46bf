"""The way from where a grammar stands to a valid end: how an answer is closed before its room runs out.

The way is found by walking, not by search: close what is open, give the least that is asked for, and prefer one
id that ends to several. It is short, not provably the shortest, and there may be none (a pattern that only long
detours satisfy). Knows llguidance's matcher and a vocabulary; knows no engine.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.session import Session

_LONGEST = 512  # ids; a longer way is no way
#: What to write first where it is allowed, outside a string and inside one.
_OUTSIDE = tuple(bytes([byte]) for byte in b'}],:0123456789"[{')
_INSIDE = (b'"',)
_LETTER = b"q"  # begins no JSON literal: where it may come next, a string or free text is open


@dataclass(frozen=True)
class Vocabulary:
    """A session's vocabulary for llguidance, and what a way to the end is made of."""

    tokenizer: Any  # llguidance.LLTokenizer
    n_vocab: int
    single: dict[bytes, int]  # ids of one byte
    lengths: npt.NDArray[np.int64]  # bytes of each id; 0 for control tokens and for blank space


class _Wrapper:
    """What LLTokenizer asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, session: Session, tokens: list[bytes]) -> None:
        self._session = weakref.proxy(session)  # what is kept with a session must not keep it alive
        self.eos_token_id = min(session.info.eos_ids)
        self.special_token_ids = [i for i, token in enumerate(tokens) if not token]
        # A first byte that no UTF-8 text holds keeps control tokens out of every grammar.
        self.tokens = [token or b"\xff<%d>" % i for i, token in enumerate(tokens)]

    def __call__(self, text: str | bytes) -> list[int]:
        ids: list[int] = self._session.tokenize(
            text if isinstance(text, str) else text.decode(), special=False
        )
        return ids


def vocabulary(session: Session) -> Vocabulary:
    """Read the vocabulary of `session`."""
    import llguidance
    import numpy as np

    n_vocab = session.info.n_vocab
    tokens = [session.piece(i) for i in range(n_vocab)]
    wrapper: Any = _Wrapper(session, tokens)
    library = llguidance.LLTokenizer(wrapper, n_vocab=n_vocab, eos_token=sorted(session.info.eos_ids))
    single = {token: i for i, token in reversed(list(enumerate(tokens))) if len(token) == 1}
    lengths = np.array([0 if token.isspace() else len(token) for token in tokens], np.int64)
    return Vocabulary(library, n_vocab, single, lengths)


def shortest_way(matcher: Any, vocabulary: Vocabulary, mask: npt.NDArray[np.int32]) -> Sequence[int] | None:
    """Ids that lead from where `matcher` stands to a valid end, none if it is there; None where no way is found.

    `mask` is scratch memory. The matcher is left as it was.
    """
    walker = matcher.deep_copy()
    way: list[int] = []
    while not walker.is_accepting():
        step = walker.compute_ff_tokens() or [_choose(walker, vocabulary, mask)]
        way += step
        if len(way) > _LONGEST or step[0] < 0 or not walker.consume_tokens(step):
            return None
    return way


def _choose(walker: Any, vocabulary: Vocabulary, mask: npt.NDArray[np.int32]) -> int:
    """The id to write next; -1 where none is allowed."""
    import numpy as np

    walker.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    bits, single = mask.data.cast("B"), vocabulary.single  # far quicker to ask than numpy, bit by bit

    def may(token: int) -> bool:
        return bool(bits[token >> 3] >> (token & 7) & 1)

    for byte in _INSIDE if may(single.get(_LETTER, 0)) else _OUTSIDE:
        if (token := single.get(byte, -1)) >= 0 and may(token):
            return token
    for token in single.values():
        if may(token) and _ends(walker, token):
            return token
    allowed = np.unpackbits(mask.view(np.uint8), bitorder="little", count=vocabulary.n_vocab)
    longest = int(np.argmax(np.where(allowed, vocabulary.lengths, -1)))
    return longest if allowed[longest] else -1


def _ends(walker: Any, token: int) -> bool:
    """Whether `token` completes the answer."""
    done = walker.consume_token(token) and walker.is_accepting()
    walker.rollback(1)
    return bool(done)
