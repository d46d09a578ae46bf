"""Jobs to requests of ids, ids to events: what the engine's process does beside evaluating.

One `Desk` serves one model. Preparing a job - reading messages, rendering, tokenizing, compiling a schema - may happen
on another thread than the engine's; an `Answer` then lives on the engine's thread alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgellm.api.settings import options_with
from edgellm.backends.batching.engine import Drawn, Request
from edgellm.chat.conversation import must_call
from edgellm.chat.reply import seeded
from edgellm.chat.spans import Span, SpanCache
from edgellm.chat.window import Prompt, Renderer
from edgellm.errors import CancelledError, EdgellmError, UsageError
from edgellm.generation.generate import GenerateOptions, Usage, Written, constraint_of
from edgellm.generation.logprobs import Logprobs
from edgellm.prompt import markup, openai, tool_choice
from edgellm.prompt.markup import Markup, MarkupParser, Part
from edgellm.serving.job import Done, Event, Failed, Job, Piece, Started, TokenLogprob

if TYPE_CHECKING:
    from edgellm.prompt.template import ChatTemplate
    from edgellm.serving.shares import Shares
    from edgellm.session import Drafter, Session

_REMEMBERED = 64  # prompts with their answers whose ids are known
_PLAIN = Markup()


class Desk:
    """Takes jobs for one model. Its methods may be called from any thread."""

    def __init__(
        self,
        tokenizer: Session,
        template: ChatTemplate | None,
        drafter: Callable[[], Drafter | None],
        shares: Shares,
    ) -> None:
        """`drafter` gives one for an answer, or None."""
        self.tokenizer, self.shares = tokenizer, shares
        self._template, self._drafter = template, drafter
        self._seen: deque[tuple[Span, ...]] = deque(maxlen=_REMEMBERED)

    def answer(self, job: Job, came: float) -> Answer:
        """Prepare for `job`, which `came` then by the monotonic clock. Raises EdgellmError where it cannot be done."""
        options = seeded(options_with(GenerateOptions(), job.settings))  # type: ignore[arg-type]
        if job.messages is None:
            tokens, said = self._given(job), _Said(self.tokenizer, SpanCache(self.tokenizer))
        else:
            choice, looks = self._looks(job)
            options = must_call(options, choice, looks)
            prompt, spans, session = self._rendered(job, choice, looks)
            tokens, spans.known = prompt.tokens, list(prompt.spans)
            looks = dataclasses.replace(looks, calls=None) if choice == tool_choice.NONE else looks
            thinking = looks.thinks and markup.thinking_is_open(prompt.text) and options.grammar is None
            said = _Said(session, spans, looks, thinking)
        info = self.tokenizer.info
        if len(tokens) >= info.n_ctx:
            raise UsageError(
                f"the prompt has {len(tokens):,} tokens and the context {info.n_ctx:,}, the answer included: shorten "
                "it, or serve with a larger -c"
            )
        if not tokens:
            raise UsageError("the prompt is empty; give at least one token")
        return Answer(self, job, options, tokens, said, came)

    def render(self, job: Job) -> tuple[str, list[int]]:
        """The prompt of a job with messages, as text and as ids. Raises UsageError."""
        prompt, spans, _ = self._rendered(job, *self._looks(job))
        return spans.unguarded(prompt.text), prompt.tokens

    def _rendered(self, job: Job, choice: str, looks: Markup) -> tuple[Prompt, SpanCache, Session]:
        """The prompt, what was known of its text, and the tokenizer with text for the tags of `looks`."""
        assert self._template is not None and job.messages is not None
        system, said = openai.read(job.messages)
        if not said:
            raise UsageError("messages hold nothing to answer; give one of the user's")
        template = self._template.for_tools() if job.tools else self._template
        seen = () if job.settings.get("exact") else tuple(self._seen)
        session = markup.spelled(self.tokenizer, looks)
        spans = SpanCache(session, seen)
        prompt = Renderer(template, spans, job.tools).render(
            said, system=system, think=job.think, offer_tools=choice != tool_choice.NONE
        )
        if not prompt.spans:
            raise UsageError(
                f"the prompt has over {prompt.n_tokens:,} tokens and the context {self.tokenizer.info.n_ctx:,}: "
                "shorten it, or serve with a larger -c"
            )
        return prompt, spans, session

    def request(self, tokens: Sequence[int], options: GenerateOptions, written: Written, job: Job) -> Request:
        """What the engine is asked. Raises UsageError for a schema or grammar that cannot be followed."""
        written.constraint = constraint_of(self.tokenizer, options, len(tokens))
        watched = None if job.n_logprobs is None else Logprobs(job.n_logprobs, written.constraint)
        constraint = watched or written.constraint
        drafter = None if options.exact else self._drafter()
        return Request(tokens, options.sampling, constraint, drafter, options.exact)

    def remember(self, spans: SpanCache) -> None:
        """Keep the ids of a prompt and its answer: the next prompt of this conversation begins with both."""
        self._seen.append(tuple(spans.known))

    def _looks(self, job: Job) -> tuple[str, Markup]:
        """Which tools are to be called, and what to look for in the answer. Raises UsageError."""
        if self._template is None:
            raise UsageError(
                f"{self.tokenizer.artifact.name} has no chat template: it only continues text; use /v1/completions"
            )
        artifact, choice = self.tokenizer.artifact, tool_choice.read(job.tool_choice, job.tools)
        if artifact.foreign and job.tools:
            raise UsageError(
                f"how tools are called is unknown of {artifact.name}, which is outside the verified families; "
                "leave tools out"
            )
        return choice, _PLAIN if artifact.foreign else Markup.of(self._template.source, job.tools)

    def _given(self, job: Job) -> list[int]:
        """The ids of a prompt that is continued as it is."""
        if job.prompt is None:
            raise UsageError("there is neither a prompt nor messages; give one of them")
        info = self.tokenizer.info
        if isinstance(job.prompt, str):
            return self.tokenizer.tokenize(job.prompt, add_bos=info.add_bos)
        if bad := [token for token in job.prompt if not 0 <= token < info.n_vocab]:
            raise UsageError(f"token id {bad[0]} is outside the vocabulary of {info.n_vocab}")
        return list(job.prompt)


@dataclasses.dataclass(frozen=True)
class _Said:
    """What of a prompt its answer is read by."""

    session: Session  # the tokenizer, with text for the tags of `looks`
    spans: SpanCache  # knows the prompt, where it has messages
    looks: Markup = _PLAIN
    thinking: bool = False  # the prompt has opened a thought


class Answer:
    """One answer as it is written: ids in, events out."""

    def __init__(
        self,
        desk: Desk,
        job: Job,
        options: GenerateOptions,
        tokens: list[int],
        said: _Said,
        came: float,
    ) -> None:
        self._desk, self._shares = desk, desk.shares
        self._session, self._spans, self._thinking = said.session, said.spans, said.thinking
        self._parser = MarkupParser(said.looks, thinking=said.thinking, stream_calls=True)
        self._written = Written(self._session, options)
        self.request = desk.request(tokens, options, self._written, job)
        self._seed = options.sampling.seed or 0
        self._is_empty = options.max_tokens == 0  # its prompt is evaluated, so that it is cached
        self._logprobs = _Pending(self._session, self.request.constraint)
        self._came = came
        self._first = self._last = 0.0
        self._n_calls = 0
        self._call = (0, "", "")  # the place, id and name of the one that is told
        self.joules = 0.0  # of what was counted while its tokens were evaluated
        self._n_counted = 0  # tokens that joules were counted for

    @property
    def prefill_seconds(self) -> float:
        """From the start of its prefill to its first token."""
        began = self.request.began
        return max(self._first - began, 0.0) if began is not None and self._first else 0.0

    @property
    def decode_seconds(self) -> float:
        """From its first token to its last."""
        return self._last - self._first

    def newly_evaluated(self) -> int:
        """Tokens evaluated for it since this was last asked."""
        n, self._n_counted = self.request.n_evaluated - self._n_counted, self.request.n_evaluated
        return n

    def took(self, drawn: Drawn, now: float) -> tuple[list[Event], bool]:
        """The events of one id drawn at `now`, and whether the answer has ended with it."""
        if drawn.error is not None and not isinstance(drawn.error, CancelledError):
            return [failed(drawn.error)], True
        if drawn.token is None:
            reason = "cancelled" if drawn.error else "length"
            return [*self._finish(cut=True), self._done(reason)], True
        events: list[Event] = []
        if not self._written.tokens:
            self._first = now
            request = self.request
            events.append(Started(len(request.prompt), request.n_cached or 0, self._seed))
        self._last = now
        if self._is_empty:
            return [*events, *self._finish(cut=True), self._done("length")], True
        piece = self._written.take(drawn.token)
        is_end = self._written.ending == "stop" and drawn.token in self._session.info.eos_ids
        self._logprobs.drawn(drawn.token, is_end=is_end)
        if piece:
            events += self._pieces(self._parser.feed(piece), len(piece.encode()))
        if self._written.ending is None:
            return events, False
        ending = self._written.ending
        return [*events, *self._finish(cut=ending != "stop"), self._done(ending)], True

    def stopped(self) -> list[Event]:
        """The events of its end because nobody wants it any more."""
        return [*self._finish(cut=True), self._done("cancelled")]

    def _finish(self, *, cut: bool) -> list[Event]:
        rest = self._written.finish()
        parts = self._parser.feed(rest) if rest else []
        return self._pieces([*parts, *self._parser.finish(cut=cut)], len(rest.encode()))

    def _pieces(self, parts: Sequence[Part], n_bytes: int) -> list[Event]:
        """Events of these parts, which are what became certain with `n_bytes` of text."""
        told = self._logprobs.certain(n_bytes)
        events: list[Event] = []
        for part in parts:
            for piece in self._piece(part):
                events.append(dataclasses.replace(piece, logprobs=told) if told else piece)
                told = ()
        if told:
            self._logprobs.put_back(told)
        return events

    def _piece(self, part: Part) -> Iterator[Piece]:
        if part.kind == "call":
            assert part.call is not None
            self._call = (self._n_calls, part.call.id, part.call.name)
            self._n_calls += 1
            yield Piece("call", call=self._call)
        elif part.kind == "arguments":
            yield Piece("arguments", part.text, self._call)
        elif part.kind != "end":
            yield Piece(part.kind, part.text)

    def _done(self, reason: str) -> Done:
        request, written = self.request, self._written
        prefill, decode = self.prefill_seconds, self.decode_seconds
        n_prompt, n_cached = len(request.prompt), request.n_cached or 0
        usage = Usage(n_prompt, n_cached, len(written.tokens), prefill, decode)
        done = written.completion(reason, usage)
        if self._spans.known:
            self._spans.keep(self._spans.known, done, has_markup=self._parser.text != done.text)
            self._desk.remember(self._spans)
        pieces = map(self._session.piece, done.tokens)
        thinks = self._parser.markup.thinks
        joules, energy = self._shares.of(self.joules, prefill + decode)
        return Done(
            "tool_calls" if self._n_calls and reason == "stop" else reason,
            n_prompt,
            n_cached,
            len(written.tokens),
            markup.count_thinking(list(pieces), thinking=self._thinking) if thinks else 0,
            (request.began or time.perf_counter()) - self._came,
            prefill,
            decode,
            written.stop,
            done.valid,
            request.n_drafted,
            request.n_accepted,
            joules,
            energy,
            () if written.stop is not None else self._logprobs.rest(),
        )


class _Pending:
    """Log-probabilities of tokens whose text is not certain yet."""

    def __init__(self, session: Session, constraint: object) -> None:
        self._session = session
        self._watched = constraint if isinstance(constraint, Logprobs) else None
        self._waiting: deque[TokenLogprob] = deque()
        self._n_open = 0  # bytes of certain text that tokens told of did not cover

    def drawn(self, token: int, *, is_end: bool) -> None:
        """`token` was drawn; the EOS that ends an answer is not told of."""
        if self._watched is None:
            return
        found = self._watched.taken.popleft()
        if is_end:
            return
        piece = self._session.piece
        top = tuple((one, piece(one), logprob) for one, logprob in found.top)
        self._waiting.append(TokenLogprob(token, piece(token), found.logprob, top))

    def certain(self, n_bytes: int) -> tuple[TokenLogprob, ...]:
        """Those of the tokens that begin within the next `n_bytes` of text."""
        told: list[TokenLogprob] = []
        self._n_open += n_bytes
        while self._waiting and self._n_open > 0:
            told.append(self._waiting.popleft())
            self._n_open -= len(told[-1].data)
        return tuple(told)

    def put_back(self, told: Sequence[TokenLogprob]) -> None:
        """No piece came for these."""
        self._waiting.extendleft(reversed(told))
        self._n_open += sum(len(one.data) for one in told)

    def rest(self) -> tuple[TokenLogprob, ...]:
        """All that wait."""
        told = tuple(self._waiting)
        self._waiting.clear()
        return told


def failed(error: EdgellmError) -> Failed:
    """What a job that cannot be done comes to."""
    return Failed("request" if isinstance(error, UsageError) else "engine", str(error))
