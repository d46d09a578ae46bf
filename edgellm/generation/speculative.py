"""Speculative decoding: draft tokens from the text itself (`Lookup`), a smaller model or the model's own extra block.

Every id is drawn from the model's own logits by its own sampler, and a draft token is kept only where it is that very
id. So draft tokens change the speed alone: whatever was drafted before the draw, the id has the distribution of
plain decoding, and greedy answers, seeds and penalties mean what they mean there. (Rejection sampling against a draft
model's distribution would keep more draft tokens at high temperatures, but other ids for the same seed.) What can
differ is rounding: several positions evaluated at once may go through other kernels than one, and where two ids
are equally likely to within it, the other one may be drawn; docs/generation.md says where.

All stop drafting while it does not pay (`draft_length.py`). Knows sessions and ids; knows no engine.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgellm.errors import UsageError, option
from edgellm.generation.draft_length import LENGTHS, DraftLength
from edgellm.machine import devices
from edgellm.session import GREEDY, reuse_prefix

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.session import Drafter, DraftHead, EngineOptions, Session

_SIZES = (4, 3, 2)  # ids that must match before what followed them is a draft token; the longest first
_LONGEST_MATCH = 32  # beyond this a longer match says no more
_REST, _LONGEST_REST = 32, 512  # plain steps until a draft model that did not pay is tried again
_PROBE = 3  # draft tokens of such a try
_DRAFTED = 9  # what a draft token of a model is worth until seen, as the length of a match
_PADDING = 1024  # ids by which vocabularies of one family may differ
_EVERY = 97  # ids: how densely two vocabularies are compared


class Lookup:
    """Prompt lookup: what followed the last time the newest ids stood in prompt or answer.

    The index grows with every id; nothing is searched. Source of the idea: https://github.com/apoorvumang/prompt-lookup-decoding
    """

    def __init__(self, length: DraftLength | None = None) -> None:
        self._length = length or DraftLength()
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # the newest place that follows these ids
        self._source: int | None = None  # the place of the draft token for the next id
        self._match = 0  # ids before it that are those before the end

    def begin(self, session: Session) -> None:
        """Index the sequence, or what it has more than when last seen."""
        tokens = list(session.tokens)
        if tokens[: len(self._ids)] != self._ids:
            self._ids, self._after = [], {}
        self._length.begin()
        for token in tokens[len(self._ids) : -1]:
            self._ids.append(token)
            self._index()
        self._source = None
        self._extend(tokens[-1])

    def take(self, token: int) -> None:
        """Compare with the draft token for it, drafted or not, and index it."""
        if self._source is not None:
            true = self._ids[self._source] == token
            self._length.saw(self._match, true)
            self._source = self._source + 1 if true else None
            self._match += true
        self._extend(token)

    def draft(self, room: int) -> Sequence[int]:
        """The ids after the matching place; where they reach the end, it is taken to repeat itself."""
        source, ids = self._source, self._ids
        if source is None:
            self._length.step(0, 0)
            return ()
        n = self._length.step(min(room, LENGTHS[-1]), self._match)
        found = ids[source : source + n]
        while len(found) < n:
            found += found[: n - len(found)] if len(found) == len(ids) - source else ids[source:]
        return found

    def skip(self) -> None:
        """The next evaluation is no step."""
        self._length.skip()

    def recipe(self) -> Callable[[], Drafter]:
        """A new one."""
        return Lookup

    def _extend(self, token: int) -> None:
        self._ids.append(token)
        if self._source is None:
            self._find()
        self._index()

    def _index(self) -> None:
        ids = self._ids
        n = len(ids)
        for size in _SIZES:
            self._after[tuple(ids[-size:])] = n

    def _find(self) -> None:
        ids = self._ids
        for size in _SIZES:
            place = self._after.get(tuple(ids[-size:]))
            if place is not None and place >= size:
                self._source, n = place, size
                while n < min(_LONGEST_MATCH, place) and ids[place - 1 - n] == ids[-1 - n]:
                    n += 1
                self._match = n
                return


class _Foretold:
    """Draft tokens that cost an evaluation of their own: as many as pay, and none for a while where none do."""

    def __init__(self, length: DraftLength | None) -> None:
        self._length = length or DraftLength()
        self._ids: list[int] = []
        self._draft: list[int] = []
        self._at = 0  # place of the first of them
        self._wait, self._rest = 0, _REST

    def begin(self, session: Session) -> None:
        """Take up the sequence. Raises UsageError, EngineError where this cannot draft for it."""
        self._ids = list(session.tokens)
        self._draft, self._wait = [], 0
        self._length.begin()

    def take(self, token: int) -> None:
        """Compare with the draft token for it, as long as all before it were accepted."""
        place = len(self._ids) - self._at
        if self._draft and place < len(self._draft):
            true = self._draft[place] == token
            self._length.saw(_DRAFTED, true)
            if not true:
                self._draft = self._draft[:place]
        self._ids.append(token)

    def draft(self, room: int) -> Sequence[int]:
        """What is expected next, or nothing while it rests."""
        room = max(self._room(room), 0)
        n = self._length.step(room, _DRAFTED, growing=False)
        if n:
            self._wait, self._rest = 0, _REST
        else:
            n = self._probe(room)
        self._at = len(self._ids)
        self._draft = self._drawn(n) if n else []
        return self._draft

    def skip(self) -> None:
        """The next evaluation is no step."""
        self._length.skip()

    def _room(self, room: int) -> int:
        raise NotImplementedError

    def _drawn(self, n: int) -> list[int]:
        raise NotImplementedError

    def _probe(self, room: int) -> int:
        """Now and then draft nevertheless, ever more rarely, for without draft tokens nothing would be learned."""
        self._wait += 1
        n = min(_PROBE, self._room(_PROBE))
        if self._wait < self._rest or room < n:
            return 0
        self._wait, self._rest = 0, min(2 * self._rest, _LONGEST_REST)
        return self._length.insist(n)


class DraftModel(_Foretold):
    """Draft tokens of a smaller model with the same vocabulary, drawn greedily: its likeliest id is accepted most.

    The model is opened when first needed, and kept.
    """

    def __init__(self, artifact: Artifact, options: EngineOptions, length: DraftLength | None = None) -> None:
        super().__init__(length)
        self._artifact = artifact
        self._options = replace(options, lora=(), mtp=False)  # those are the large model's
        if devices.servers(options.device):  # each of which serves one model
            self._options = replace(self._options, device=devices.AUTO, n_gpu_layers=None)
        self._session: Session | None = None
        self._n_vocab = 0  # of the model drafted for

    def begin(self, session: Session) -> None:
        """Take up the sequence. Raises UsageError for a model of another vocabulary, EngineError."""
        if self._session is None:
            self._session = self._open(session)
        super().begin(session)

    def _room(self, room: int) -> int:
        assert self._session is not None
        return min(room, self._session.info.n_ctx - len(self._ids))

    def _drawn(self, n: int) -> list[int]:
        session = self._session
        assert session is not None
        shared = reuse_prefix(session, self._ids)
        stream = session.stream(self._ids[shared:], GREEDY)
        draft = list(itertools.islice(stream, n))
        getattr(stream, "close", lambda: None)()
        unknown = next((i for i, drafted in enumerate(draft) if drafted >= self._n_vocab), n)
        return draft[:unknown]

    def _open(self, session: Session) -> Session:
        from edgellm import backends

        opened = backends.open_session(self._artifact, self._options)
        self._n_vocab = session.info.n_vocab
        if not _same_vocabulary(session, opened):
            opened.close()
            raise UsageError(
                f"{self._artifact.name} cannot draft for {session.artifact.name}: their vocabularies differ; "
                "take a smaller model of the same family"
            )
        return opened

    def close(self) -> None:
        """Free the model. Idempotent."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def recipe(self) -> Callable[[], Drafter]:
        """One that opens the same model."""
        return functools.partial(DraftModel, self._artifact, self._options)


class SelfDraft(_Foretold):
    """Draft tokens of the model's own extra block (multi-token prediction, MTP), one at a time."""

    wants_head = True  # that the session tells the block what the model makes of every id

    def __init__(self, length: DraftLength | None = None) -> None:
        super().__init__(length)
        self._head: DraftHead | None = None

    def begin(self, session: Session) -> None:
        """Take up the sequence. Raises UsageError for a model that was opened without such a block."""
        self._head = getattr(session, "draft_head", None)
        if self._head is None:
            raise UsageError(
                f"{session.artifact.name} has no block that drafts (MTP), or it was not loaded ({option('mtp')}); "
                "an ONNX folder never has: take a GGUF file that kept it"
            )
        super().begin(session)

    def _room(self, room: int) -> int:
        return min(room, 1)

    def _drawn(self, n: int) -> list[int]:
        assert self._head is not None
        found = self._head.draft(self._ids[-1])
        return [] if found is None else [found]

    def recipe(self) -> Callable[[], Drafter]:
        """A new one."""
        return SelfDraft


def _same_vocabulary(one: Session, other: Session) -> bool:
    """Whether ids mean the same: sizes may differ by padding, pieces are compared here and there."""
    few, many = sorted((one.info.n_vocab, other.info.n_vocab))
    return many - few <= _PADDING and all(one.piece(i) == other.piece(i) for i in range(0, few, _EVERY))
