"""Answers of a given shape: a JSON schema or a grammar says which ids may come next, on either engine.

The grammar engine is llguidance (MIT): https://github.com/guidance-ai/llguidance. It computes a mask of the
vocabulary; here the mask is written into an engine's logits, and the answer is brought to an end that is valid
before its room runs out. Knows sessions and ids; knows no chat and no engine.
"""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineError, UsageError

if TYPE_CHECKING:
    from edgellm.generation.shortest_completion import Vocabulary
    from edgellm.session import Constraint, Logits, Session

_HORIZON = 48  # ids before the end from which on every step is checked for a way to end in time
_CHECK_EVERY = 32  # ids; before that, how far the end is, is looked at this often

#: JSON as models write it, on one line or indented, but never blank space without end.
_JSON = {"whitespace_pattern": r"[ \n]{0,12}"}

_VALUES = ("const", "default", "enum", "examples")  # what hangs under these keys is no schema
_FOUR = "(0[48]|[2468][048]|[13579][26])"  # multiples of four, but for 00
_DAY = (
    "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    f"02-(0[1-9]|1[0-9]|2[0-8]))|([1-9][0-9]{_FOUR}|([2468][048]|[13579][26])00)-02-29)"
)
_HOUR = "([01][0-9]|2[0-3])"
#: RFC 3339, from the year 1000: what `datetime` of every language reads.
_DAYS = {
    "date": f"^{_DAY}$",
    "date-time": f"^{_DAY}T{_HOUR}(:[0-5][0-9]){{2}}(\\.[0-9]{{1,6}})?(Z|[+-]{_HOUR}:[0-5][0-9])$",
}


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like: llguidance's own form of a schema or grammar."""

    kind: str  # "json_schema" | "grammar"
    text: str

    @classmethod
    def json_schema(cls, schema: str | Mapping[str, Any] | bool) -> Grammar:
        """From a JSON schema, as text or parsed. Raises UsageError for one that cannot be followed."""
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except ValueError as error:
                raise UsageError(f"the JSON schema is not JSON: {error}") from None
        if not isinstance(schema, Mapping | bool):
            raise UsageError(f"a JSON schema is an object, this one is {type(schema).__name__}")
        matcher = _library().LLMatcher
        return cls._checked(
            "json_schema",
            matcher.grammar_from_json_schema(json.dumps(_days_that_exist(schema)), overrides=_JSON),
        )

    @classmethod
    def grammar(cls, text: str) -> Grammar:
        """From a grammar in llama.cpp's GBNF or llguidance's Lark; which one is seen from the text.

        Raises UsageError for one that cannot be read.
        """
        try:
            return cls._checked("grammar", _library().grammar_from("grammar", text))
        except ValueError as error:
            raise UsageError(f"the grammar cannot be read: {_one_line(error)}") from None

    @classmethod
    def _checked(cls, kind: str, text: str) -> Grammar:
        if error := _library().LLMatcher.validate_grammar(text):
            raise UsageError(f"the {kind.replace('_', ' ')} cannot be followed: {_one_line(error)}")
        return cls(kind, text)

    def start(self, session: Session, n_max: int) -> GrammarConstraint:
        """A constraint for one answer of at most `n_max` ids. Raises EngineError."""
        return GrammarConstraint(self, session, n_max)


class GrammarConstraint:
    """A `Constraint` by llguidance.

    From `_HORIZON` ids before the end of the room on, the way to a valid end is known after every id: an id after
    which the end would be out of reach is replaced by the first of that way.
    """

    def __init__(self, grammar: Grammar, session: Session, n_max: int) -> None:
        import numpy as np

        self._grammar, self._n_max = grammar, n_max
        self._vocabulary = vocabulary(session)
        self._matcher = _library().LLMatcher(self._vocabulary.tokenizer, grammar.text)
        self._mask = np.zeros((self._vocabulary.n_vocab + 31) // 32, np.int32)
        self._eos = session.info.eos_ids
        self._ended = False  # by an EOS id
        self._left = n_max  # ids that may still come
        self._check()
        self._way = self._find_way()
        self._horizon = self._reach()

    @property
    def ended(self) -> bool:
        """Whether nothing but an EOS id may follow, or one has."""
        return self._ended or bool(self._matcher.is_stopped())

    @property
    def valid(self) -> bool:
        """Whether the answer so far is a whole one."""
        return bool(self._matcher.is_accepting())

    def apply(self, logits: Logits) -> None:
        """Write -inf into `logits`, in place, for every id the grammar does not allow."""
        import numpy as np

        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocabulary.n_vocab)
        np.copyto(logits, -np.inf, where=allowed == 0)

    def take(self, token: int) -> int:
        """Move past `token`, or past another one where the valid end would be out of reach after it."""
        if token in self._eos:
            self._ended = True
            return token
        self._left -= 1
        self._consume(token)
        if self._way and token == self._way[0]:
            self._way = self._way[1:]
        elif self._left <= self._horizon or self._left % _CHECK_EVERY == 0:
            token = self._keep_end_in_reach(token)
        else:
            self._way = None
        return token

    def follow(self, token: int) -> None:
        """Move past an id that another copy of this constraint has taken."""
        if token in self._eos:
            self._ended = True
        else:
            self._consume(token)

    def forced(self) -> Sequence[int]:
        """What the grammar leaves no choice about: the rest of a key, of a literal."""
        found: list[int] = self._matcher.compute_ff_tokens()
        return found

    def recipe(self) -> Callable[[Session], Constraint]:
        """A function that can be pickled, and makes a fresh copy for another session of the model."""
        return functools.partial(self._grammar.start, n_max=self._n_max)

    def _keep_end_in_reach(self, token: int) -> int:
        known, self._way = self._way, self._find_way()
        if (self._way is None or len(self._way) > self._left) and known:
            self._matcher.rollback(1)
            self._consume(known[0])
            token, self._way = known[0], known[1:]
        self._horizon = max(self._horizon, self._reach())
        return token

    def _find_way(self) -> Sequence[int] | None:
        from edgellm.generation import shortest_completion

        return shortest_completion.shortest_way(self._matcher, self._vocabulary, self._mask)

    def _reach(self) -> int:
        return _HORIZON + len(self._way or ())

    def _consume(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineError(f"the grammar cannot be followed: {_one_line(self._matcher.get_error())}")


_vocabularies: weakref.WeakKeyDictionary[Session, Vocabulary] = weakref.WeakKeyDictionary()


def vocabulary(session: Session) -> Vocabulary:
    """The session's vocabulary as llguidance wants it: a second for 150,000 ids, so kept with the session."""
    from edgellm.generation import shortest_completion

    if session not in _vocabularies:
        _library()
        _vocabularies[session] = shortest_completion.vocabulary(session)
    return _vocabularies[session]


def _days_that_exist(schema: Any) -> Any:
    """A copy in which dates are also dates of the calendar: llguidance alone would let a 30th of February pass."""
    if isinstance(schema, list):
        return [_days_that_exist(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {key: value if key in _VALUES else _days_that_exist(value) for key, value in schema.items()}
    pattern = _DAYS.get(copy["format"]) if isinstance(copy.get("format"), str) else None
    if pattern and "pattern" not in copy:
        del copy["format"]
        copy["pattern"] = pattern
    return copy


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise EngineError(
            "a JSON schema or grammar needs llguidance; install it with: pip install llguidance"
        ) from None
    return llguidance


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
