"""Tokens in, text out: prefix reuse, stop strings, UTF-8 that never breaks, and the clock around it.

Knows sessions and token ids; knows no engine and no chat format.
"""

from __future__ import annotations

import codecs
import inspect
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from edgellm.errors import CancelledError, EdgellmError, EngineError, UsageError
from edgellm.generation.logprobs import Logprobs, TokenLogprob, named
from edgellm.session import Cancel, Sampling, Session, reuse_prefix

if TYPE_CHECKING:
    from edgellm.generation.constraints import Grammar, GrammarConstraint
    from edgellm.session import Drafter

_FAILED = "failed"


@dataclass(frozen=True)
class GenerateOptions:
    """What to generate and when to end."""

    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()  # ends before the first of these; not part of the text
    sampling: Sampling = field(default_factory=Sampling)
    ignore_eos: bool = False
    grammar: Grammar | None = None  # what the answer must look like
    drafter: Drafter | None = field(default=None, compare=False)  # makes it faster; one per session
    n_logprobs: int | None = None  # tell each token's log-probability, and those of so many likeliest ones
    exact: bool = False  # evaluate the whole prompt anew, so that what is cached cannot change the rounding

    def __post_init__(self) -> None:
        if self.exact and self.drafter:
            raise UsageError(
                "an exact answer and draft tokens exclude each other: evaluated several at a time, numbers round "
                "otherwise"
            )


@dataclass(frozen=True)
class Usage:
    """Counts and times of one generation. Times are seconds of a monotonic clock."""

    n_prompt: int  # tokens of the prompt, cached ones included
    n_cached: int  # of these, found in the KV cache
    n_generated: int  # tokens drawn, the ending EOS included
    prefill_seconds: float  # from start to the first token drawn: evaluation and one sampling
    decode_seconds: float  # from the first token to the last

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens evaluated per second."""
        return (self.n_prompt - self.n_cached) / self.prefill_seconds if self.prefill_seconds else None

    @property
    def decode_rate(self) -> float | None:
        """(n - 1) / (t_last - t_first): tokens per second after the first; None below two tokens."""
        return (self.n_generated - 1) / self.decode_seconds if self.n_generated > 1 else None


@dataclass(frozen=True)
class Completion:
    """A finished generation."""

    text: str
    tokens: tuple[int, ...]  # drawn ids, without the ending EOS
    finish_reason: str  # "stop": EOS or a stop string | "length": max_tokens or context full | "cancelled"
    usage: Usage
    valid: bool | None = None  # whether the text is whole by `GenerateOptions.grammar`; None without one
    shortest: int | None = None  # tokens of the shortest whole answer that was found; None where none was
    logprobs: tuple[TokenLogprob, ...] | None = None  # one for each of `tokens`; None where not asked for


class Generation:
    """Iterator over pieces of text; `completion` holds the result once it is exhausted or closed.

    A piece is never half a character and never holds the beginning of a stop string that then completes. May be
    cancelled and closed from any thread, whoever reads.
    """

    def __init__(self, session: Session, prompt: Sequence[int], options: GenerateOptions) -> None:
        self._session, self._prompt, self._options = session, list(prompt), options
        self._completion: Completion | None = None
        self._pieces = self._run()
        self._cancel = Cancel()
        self._n_cached = 0
        self._inside = threading.RLock()  # held by who reads or closes

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._inside:
            return next(self._pieces)

    def cancel(self) -> None:
        """Have it end after the token it is at, or while the prompt is evaluated. Does not wait for that."""
        self._cancel.set()

    def close(self) -> None:
        """Stop here, waiting for a reader to leave. The completion says "cancelled" unless it had ended."""
        self._cancel.set()
        with self._inside:
            if (
                inspect.getgeneratorstate(self._pieces) == inspect.GEN_RUNNING
            ):  # asked for by a signal handler of the reader's own thread
                return
            self._pieces.close()
            if self._completion is None:  # never started
                self._completion = Completion("", (), "cancelled", Usage(len(self._prompt), 0, 0, 0.0, 0.0))

    @property
    def read(self) -> tuple[int, int]:
        """Tokens of the prompt that were evaluated so far, of how many that will be. For any thread."""
        total = len(self._prompt) - self._n_cached
        return min(max(self._cancel.n_tokens - self._n_cached, 0), total), total

    @property
    def completion(self) -> Completion:
        """The result. Runs the generation to its end when it has not ended yet."""
        for _ in self:
            pass
        if self._completion is None:
            raise EngineError("the generation failed before it ended; there is no result")
        return self._completion

    def _run(self) -> Generator[str, None, None]:  # closed to cancel
        session, options = self._session, self._options
        written = Written(session, options)
        reason, n_cached = "cancelled", 0
        ids: Iterator[int] = iter(())
        start = first = last = time.perf_counter()
        try:
            n_cached = reuse_prefix(session, () if options.exact else self._prompt)
            self._n_cached = n_cached
            written.constraint = constraint_of(session, options, len(self._prompt))
            if options.n_logprobs is not None:
                written.logprobs = Logprobs(options.n_logprobs, written.constraint)
            ids = session.stream(
                self._prompt[n_cached:],
                options.sampling,
                constraint=written.logprobs or written.constraint,
                drafter=options.drafter,
                cancel=self._cancel,
            )
            limit = options.max_tokens
            reason = "length" if limit == 0 else reason
            for token in ids if limit != 0 else ():
                last = time.perf_counter()
                first = first if written.tokens else last
                if piece := written.take(token):
                    yield piece
                if ending := written.ending or ("cancelled" if self._cancel.is_set else None):
                    reason = ending
                    break
            else:
                reason = "length"
            if rest := written.finish():
                yield rest
        except CancelledError:
            pass
        except EdgellmError:
            reason = _FAILED
            raise
        finally:
            getattr(ids, "close", lambda: None)()  # now: an error's traceback would keep it open
            usage = Usage(len(self._prompt), n_cached, len(written.tokens), first - start, last - first)
            if reason != _FAILED:
                self._completion = written.completion(reason, usage)


def constraint_of(session: Session, options: GenerateOptions, n_prompt: int) -> GrammarConstraint | None:
    """The constraint of `options.grammar`, told how many ids the answer has room for. Raises EngineError."""
    if options.grammar is None:
        return None
    room = max(session.info.n_ctx - n_prompt + 1, 1)
    return options.grammar.start(
        session, room if options.max_tokens is None else min(room, options.max_tokens)
    )


class Written:
    """Ids as they are drawn, turned into text that is certain; and where they end by what they are."""

    def __init__(self, session: Session, options: GenerateOptions) -> None:
        self._session, self._options = session, options
        self._eos = frozenset() if options.ignore_eos else session.info.eos_ids
        self._text = _TextStream(options.stop)
        self.constraint: GrammarConstraint | None = None  # of the stream that draws
        self.logprobs: Logprobs | None = None  # around it, where they are asked for
        self.tokens: list[int] = []  # all drawn, the ending EOS included
        self.ending: str | None = None  # "stop" | "length", once the last id has come

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return self._text.stopped_by

    def take(self, token: int) -> str:
        """The text that is certain with `token`, possibly none. An EOS has none."""
        self.tokens.append(token)
        if token in self._eos:
            self.ending = "stop"
            return ""
        piece = self._text.feed(self._session.piece(token))
        constraint = self.constraint
        if self._text.stopped_by is not None or (constraint and constraint.ended(len(self.tokens))):
            self.ending = "stop"
        elif len(self.tokens) == self._options.max_tokens:
            self.ending = "length"
        return piece

    def finish(self) -> str:
        """What was held back, at the end."""
        return self._text.finish()

    def completion(self, reason: str, usage: Usage) -> Completion:
        """The result, where it ended for `reason`."""
        tokens, constraint = self.tokens, self.constraint
        ended = bool(tokens) and tokens[-1] in self._session.info.eos_ids and reason == "stop"
        kept = tuple(tokens[:-1] if ended else tokens)
        valid = None if constraint is None else constraint.valid(len(tokens)) and self.stop is None
        shortest = None if constraint is None else constraint.shortest
        told = None
        if self.logprobs is not None:  # which may have drawn further than was read
            told = tuple(named(drawn, self._session) for drawn in islice(self.logprobs.taken, len(kept)))
        return Completion(self._text.text, kept, reason, usage, valid, shortest, told)


_DEFAULTS = GenerateOptions()


def stream(session: Session, prompt: Sequence[int], options: GenerateOptions = _DEFAULTS) -> Generation:
    """Generate after `prompt` (the whole sequence so far; what the cache already holds is not evaluated again).

    Raises EngineError, at the first piece, when the prompt is empty or does not fit the context.
    """
    return Generation(session, prompt, options)


class _TextStream:
    """Bytes in, text out: holds back incomplete characters and possible beginnings of stop strings."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(s for s in stop if s)
        self._held = ""
        self._parts: list[str] = []
        self.stopped_by: str | None = None  # the stop string that was met

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._parts)

    def feed(self, data: bytes) -> str:
        """Text that is safe to show after these bytes, possibly none."""
        return self._emit(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """What was held back, at the end. A character cut short becomes U+FFFD."""
        return (
            ""
            if self.stopped_by is not None
            else self._emit(self._decoder.decode(b"", final=True), final=True)
        )

    def _emit(self, new: str, *, final: bool) -> str:
        text = self._held + new
        cut, by = min(((i, s) for s in self._stop if (i := text.find(s)) >= 0), default=(-1, None))
        if by is not None:
            self.stopped_by, self._held, text = by, "", text[:cut]
        else:
            keep = 0 if final else self._possible_stop(text)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if text:
            self._parts.append(text)
        return text

    def _possible_stop(self, text: str) -> int:
        """Length of the longest ending of `text` that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        for n in range(min(longest, len(text)), 0, -1):
            if any(s.startswith(text[-n:]) for s in self._stop):
                return n
        return 0
