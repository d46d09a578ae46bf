"""The way from where a grammar stands to a valid end: how an answer is closed before its room runs out.

Three means, the cheapest first, until one finds a way that fits: a walk that closes what is open and gives the
least that is asked for; a walk that leaves a repetition wherever it comes by again; a search, breadth first, over
what may come next. What they find is short, not provably the shortest: of a large vocabulary the search tries those
ids that differ in kind. Knows llguidance's matcher and a vocabulary; knows no engine.
"""

from __future__ import annotations

import heapq
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgellm.session import Session

LONGEST = 512  # ids; a longer way is no way
#: What to write first where it is allowed, outside a string and inside one.
_OUTSIDE = tuple(bytes([byte]) for byte in b'}],:0123456789"[{')
_INSIDE = (b'"',)
_LETTER = b"q"  # begins no JSON literal: where it may come next, a string or free text is open
_CLOSERS = frozenset(b'}]"')  # come by again and again, and still lead on
_SAME = 16  # times the plain walk does the same where the same may follow, before it gives up
_BUDGET = 1500  # states the search looks at: some 20 ms
_ALL = 48  # of so many ids that may come next the search tries all
_KINDS = tuple(bytes([c]) for c in range(32, 127) if not chr(c).isalnum()) + tuple(
    bytes([c]) for c in b"019aeqzAZ"
)  # of more, these
_LITERAL = re.compile(r"[^\W_][\w .:@-]*")  # what a pattern may wait for, as `.*END` does
_MOST_LITERALS = 24


@dataclass(frozen=True)
class Vocabulary:
    """A session's vocabulary for llguidance, and what a way to the end is made of."""

    tokenizer: Any  # llguidance.LLTokenizer
    n_vocab: int
    single: dict[bytes, int]  # ids of one byte
    lengths: npt.NDArray[np.int64]  # bytes of each id; 0 for control tokens and for blank space

    def literals(self, patterns: str) -> list[tuple[int, ...]]:
        """Words in regular expressions, as ids: what they may wait for."""
        words = list(dict.fromkeys(_LITERAL.findall(patterns)))[:_MOST_LITERALS]
        return [tuple(self.tokenizer.tokenize_str(word)) for word in words]


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

        self._ids = {token: i for i, token in enumerate(tokens) if token}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: str | bytes) -> list[int]:
        """Ids that spell `text` and nothing else: some vocabularies put a space before every text."""
        data = text.encode() if isinstance(text, str) else text
        ids: list[int] = self._session.tokenize(data.decode(), special=False)
        return ids if b"".join(self.tokens[i] for i in ids) == data else self._spelled(data) or ids

    def _spelled(self, data: bytes) -> list[int]:
        """The longest tokens from the left; none where the vocabulary lacks a byte."""
        ids, at = [], 0
        while at < len(data):
            ends = range(min(len(data), at + self._longest), at, -1)
            end = next((end for end in ends if data[at:end] in self._ids), None)
            if end is None:
                return []
            ids.append(self._ids[data[at:end]])
            at = end
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


class Pathfinder:
    """Finds ways for one grammar. `mask` is scratch memory, `literals` are `Vocabulary.literals` of its patterns."""

    def __init__(
        self, vocabulary: Vocabulary, mask: npt.NDArray[np.int32], literals: Sequence[tuple[int, ...]]
    ) -> None:
        self._vocabulary, self._mask, self._literals = vocabulary, mask, literals
        self._bits = mask.data.cast("B")  # far quicker to ask than numpy, bit by bit
        self._means: list[Callable[[Any, int], Sequence[int] | None]] = [
            self._close,
            self._leave,
            self._search,
        ]

    def way(self, matcher: Any, room: int, *, thorough: bool = True) -> Sequence[int] | None:
        """At most `room` ids that lead from where `matcher` stands to a valid end, none if it is there.

        None where none are found. The matcher is left as it was. Where it is not essential (not `thorough`), there
        is no search, unless that is what this grammar needs.
        """
        for i, find in enumerate(self._means):
            if i and find == self._search and not thorough:
                continue
            if (found := find(matcher, min(room, LONGEST))) is not None:
                self._means.insert(0, self._means.pop(i))  # what led on here will do so again
                return found
        return None

    def shortest(self, matcher: Any) -> Sequence[int] | None:
        """The shortest way that any of the means finds."""
        ways = [find(matcher, LONGEST) for find in self._means]
        return min((way for way in ways if way is not None), key=len, default=None)

    def _close(self, matcher: Any, most: int) -> Sequence[int] | None:
        return self._walk(matcher, most, leaving=False)

    def _leave(self, matcher: Any, most: int) -> Sequence[int] | None:
        return self._walk(matcher, most, leaving=True)

    def _walk(self, matcher: Any, most: int, *, leaving: bool) -> Sequence[int] | None:
        walker = matcher.deep_copy()
        way: list[int] = []
        used: Counter[tuple[int, object]] = Counter()
        while not walker.is_accepting():
            step = walker.compute_ff_tokens() or [self._choose(walker, used, leaving=leaving)]
            way += step
            if len(way) > most or step[0] < 0 or not walker.consume_tokens(step):
                return None
        return way

    def _choose(self, walker: Any, used: Counter[tuple[int, object]], *, leaving: bool) -> int:
        """The id to write next; -1 where none is allowed, or where the plain walk goes round in a circle.

        `used` counts what kind was written where the same may follow: a walk that leaves repetitions takes what
        it took least.
        """
        here = self._look(walker)
        best: tuple[int, int, object] | None = None
        for kind, token in self._options(walker):
            n = 0 if kind in _CLOSERS else used[here, kind]
            if best is None or n < best[0]:
                best = n, token, kind
            if not n or not leaving:
                break
        if best is None or (best[0] > _SAME and not leaving):
            return -1
        used[here, best[2]] += 1
        return best[1]

    def _options(self, walker: Any) -> Iterator[tuple[object, int]]:
        """What may come next, with its kind, the most promising first."""
        import numpy as np

        single = self._vocabulary.single
        preferred = _INSIDE if self._may(single.get(_LETTER, 0)) else _OUTSIDE
        for byte in preferred:
            if (token := single.get(byte, -1)) >= 0 and self._may(token):
                yield _kind(byte), token
        others = [(byte, token) for byte, token in single.items() if self._may(token)]
        for _, token in others:
            if _ends(walker, token):
                yield "end", token
                break
        allowed = self._allowed()
        longest = int(np.argmax(np.where(allowed, self._vocabulary.lengths, -1)))
        if allowed[longest]:
            yield "longest", longest
        yield from {_kind(byte): token for byte, token in others if byte not in preferred}.items()

    def _search(self, matcher: Any, most: int) -> Sequence[int] | None:
        """The shortest way of at most `most` ids, over ids of every kind. States that allow the same are one."""
        heap: list[tuple[int, int, Any, tuple[int, ...]]] = [(0, 0, matcher.deep_copy(), ())]
        seen: set[tuple[int, int, object]] = set()
        looked = 0
        while heap:
            length, _, state, way = heapq.heappop(heap)
            if state.is_accepting():
                return way
            for step, literal in self._steps(state):
                looked += 1
                after = state.deep_copy()
                if looked > _BUDGET:
                    return None
                if length + len(step) > most or not after.consume_tokens(list(step)):
                    continue
                key = length + len(step), self._look(after) + after.is_accepting(), step if literal else None
                if key not in seen:
                    seen.add(key)
                    heapq.heappush(heap, (length + len(step), looked, after, (*way, *step)))
        return None

    def _steps(self, state: Any) -> list[tuple[tuple[int, ...], bool]]:
        """What the search tries from a state, and whether it is one of the literals."""
        import numpy as np

        if forced := state.compute_ff_tokens():
            return [(tuple(forced), False)]
        self._look(state)
        allowed = np.flatnonzero(self._allowed())
        chosen: list[int] = allowed.tolist()
        if len(chosen) > _ALL:
            single = self._vocabulary.single
            may = {byte: token for byte, token in single.items() if self._may(token)}
            ending = [token for token in may.values() if _ends(state, token)][:1]
            longest = int(allowed[np.argmax(self._vocabulary.lengths[allowed])])
            chosen = [*ending, *(may[byte] for byte in _KINDS if byte in may), longest]
        literals = [ids for ids in self._literals if state.validate_tokens(list(ids)) == len(ids)]
        return [*(((token,), False) for token in chosen), *((ids, True) for ids in literals)]

    def _look(self, state: Any) -> int:
        """Fill the mask; what it says, as one number."""
        state.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        return hash(self._mask.tobytes())

    def _allowed(self) -> npt.NDArray[np.uint8]:
        import numpy as np

        return np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocabulary.n_vocab)

    def _may(self, token: int) -> bool:
        """Whether the mask allows an id."""
        return bool(self._bits[token >> 3] >> (token & 7) & 1)


def _kind(byte: bytes) -> object:
    """What is one and the same where a repetition is concerned."""
    if byte.isdigit():
        return "digit"
    if byte.isalpha():
        return "lower" if byte.islower() else "upper"
    return byte[0] if byte < b"\x80" else "beyond ASCII"


def _ends(walker: Any, token: int) -> bool:
    """Whether `token`, which is allowed, completes the answer."""
    done = walker.consume_token(token) and walker.is_accepting()
    walker.rollback(1)
    return bool(done)
