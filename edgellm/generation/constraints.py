"""Answers of a given shape: a JSON schema or a grammar says which ids may come next, on either engine.

The grammar engine is llguidance (MIT): https://github.com/guidance-ai/llguidance. It computes a mask of the
vocabulary; here the mask is written into an engine's logits, and the answer is brought to an end that is valid
before its room runs out. Knows sessions and ids; knows no chat and no engine.
"""

from __future__ import annotations

import functools
import json
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineError, UsageError
from edgellm.generation import json_schema as schemas

if TYPE_CHECKING:
    from edgellm.generation.shortest_completion import Vocabulary
    from edgellm.session import Constraint, Logits, Session

_CHECK_EVERY = 32  # ids after which a way to the end is looked for again where none was found

#: JSON as models write it, on one line or indented, but never blank space without end.
_JSON = {"whitespace_pattern": r"[ \n]{0,12}"}

_PATTERN = re.compile(r'"pattern": ?("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like: llguidance's own form of a schema or grammar."""

    kind: str  # "json_schema" | "grammar"
    text: str

    @property
    def patterns(self) -> str:
        """Where its regular expressions are."""
        return self.text if self.kind == "grammar" else " ".join(_PATTERN.findall(self.text))

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
        given = json.dumps(schemas.prepared(schema))
        text = _library().LLMatcher.grammar_from_json_schema(given, overrides=_JSON)
        if wrong := _library().LLMatcher.validate_grammar(text):
            raise UsageError(f"the JSON schema cannot be followed: {schemas.explained(wrong, schema)}")
        return cls("json_schema", text)

    @classmethod
    def grammar(cls, text: str) -> Grammar:
        """From a grammar in llama.cpp's GBNF or llguidance's Lark; which one is seen from the text.

        Raises UsageError for one that cannot be read.
        """
        try:
            text = _library().grammar_from("grammar", text)
        except ValueError as error:
            raise UsageError(f"the grammar cannot be read: {_one_line(error)}") from None
        if wrong := _library().LLMatcher.validate_grammar(text):
            raise UsageError(f"the grammar cannot be followed: {_one_line(wrong)}")
        return cls("grammar", text)

    def start(self, session: Session, n_max: int) -> GrammarConstraint:
        """A constraint for one answer of at most `n_max` ids. Raises EngineError."""
        return GrammarConstraint(self, session, n_max)


class GrammarConstraint:
    """A `Constraint` by llguidance.

    A way to a valid end is known after every id, from the first on: an id after which the end would be out of
    reach is replaced by the first of that way, or by an EOS where the answer is whole. `shortest` is the length of
    the way from the beginning; None where none was found. An engine may have drawn further than its reader has read,
    so `ended` and `valid` are told of the first n ids.
    """

    def __init__(self, grammar: Grammar, session: Session, n_max: int) -> None:
        import numpy as np

        from edgellm.generation import shortest_completion

        self._grammar, self._n_max = grammar, n_max
        self._vocabulary = vocabulary(session)
        self._matcher = _library().LLMatcher(self._vocabulary.tokenizer, grammar.text)
        self._mask = np.zeros((self._vocabulary.n_vocab + 31) // 32, np.int32)
        self._eos = session.info.eos_ids
        self._ended = False  # by an EOS id
        self._left = n_max  # ids that may still come
        self._states: list[tuple[bool, bool]] = []  # after each number of ids: ended, valid
        self._check()
        self._mark()
        literals = self._vocabulary.literals(grammar.patterns)
        self._paths = shortest_completion.Pathfinder(self._vocabulary, self._mask, literals)
        self._way = self._paths.way(self._matcher, n_max)
        if self._way is None:  # to say how much it would take
            self._way = self._paths.shortest(self._matcher)
        self.shortest = None if self._way is None else len(self._way)

    def ended(self, n: int) -> bool:
        """Whether nothing but an EOS id may follow the first `n` ids, or one is the last of them."""
        return self._states[n][0]

    def valid(self, n: int) -> bool:
        """Whether the first `n` ids are a whole answer."""
        return self._states[n][1]

    def _mark(self) -> None:
        """Keep how it stands after the id that was taken."""
        matcher = self._matcher
        self._states.append((self._ended or bool(matcher.is_stopped()), bool(matcher.is_accepting())))

    def apply(self, logits: Logits) -> None:
        """Write -inf into `logits`, in place, for every id the grammar does not allow."""
        import numpy as np

        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocabulary.n_vocab)
        np.copyto(logits, -np.inf, where=allowed == 0)

    def take(self, token: int) -> int:
        """Move past `token`, or past another one where the valid end would be out of reach after it."""
        token = self._taken(token)
        self._mark()
        return token

    def _taken(self, token: int) -> int:
        if token in self._eos:
            self._ended = True
            return token
        self._left -= 1
        self._consume(token)
        if self._way and token == self._way[0]:
            self._way = self._way[1:]
        elif self._way is not None:
            token = self._keep_end_in_reach(token, self._way)
        elif self._left % _CHECK_EVERY == 0:
            self._way = self._paths.way(self._matcher, self._left)
        return token

    def follow(self, token: int) -> None:
        """Move past an id that another copy of this constraint has taken."""
        if token in self._eos:
            self._ended = True
        else:
            self._consume(token)
        self._mark()

    def forced(self) -> Sequence[int]:
        """What the grammar leaves no choice about: the rest of a key, of a literal."""
        found: list[int] = self._matcher.compute_ff_tokens()
        return found

    def recipe(self) -> Callable[[Session], Constraint]:
        """A function that can be pickled, and makes a fresh copy for another session of the model."""
        return functools.partial(self._grammar.start, n_max=self._n_max)

    def _keep_end_in_reach(self, token: int, known: Sequence[int]) -> int:
        """The id to use where `token` was taken and `known` led to the end before it."""
        if len(known) <= self._left and self._leads(known):
            return token
        self._way = self._paths.way(self._matcher, self._left, thorough=False)
        if self._way is not None:
            return token
        self._matcher.rollback(1)
        if not known:
            self._way, self._ended = known, True
            return min(self._eos)
        self._consume(known[0])
        self._way = known[1:]
        return known[0]

    def _leads(self, way: Sequence[int]) -> bool:
        """Whether `way` leads to the end from here, too, as it does from anywhere within a text."""
        if self._matcher.validate_tokens(list(way)) < len(way):
            return False
        walker = self._matcher.deep_copy()
        return bool(walker.consume_tokens(list(way)) and walker.is_accepting())

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
