"""A conversation with a model: messages in, streamed answers out, and never more history than the window holds.

    conversation = Conversation(session, template, system="Be brief.")
    for piece in conversation.ask("Why is the sky blue?"):
        print(piece, end="", flush=True)

Knows messages, the model's template and token counts. Knows no terminal and no file.
"""

from __future__ import annotations

import bisect
import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edgellm import generate
from edgellm.chat.spans import Span, SpanCache
from edgellm.errors import EngineError, UsageError
from edgellm.generate import Completion, GenerateOptions
from edgellm.session import Session

OnFull = Literal["drop", "stop"]
_DEFAULTS = GenerateOptions()


class Template(Protocol):
    """Turns messages into the text a model was trained on (edgellm.template.ChatTemplate)."""

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The prompt text of `messages`."""
        ...


class ContextFullError(UsageError):
    """The window has no room for the message, or for more history under `on_full="stop"`."""


@dataclass(frozen=True)
class Message:
    """One message. What follows `content` is known of answers only."""

    role: str  # "user" | "assistant"
    content: str
    finish_reason: str | None = None  # "stop" | "length" | "cancelled"
    truncated: bool = False  # the full window cost this answer its end or its view of older turns
    seed: int | None = None  # what the answer was drawn with


class Reply(Iterator[str]):
    """An answer as it is written: an iterator over pieces of text. `end` is called once, when it ends."""

    def __init__(
        self,
        session: Session,
        prompt: Sequence[int],
        options: GenerateOptions,
        *,
        n_hidden: int = 0,
        n_dropped: int = 0,
        end: Callable[[Reply], None] | None = None,
    ) -> None:
        self._generation = generate.stream(session, prompt, options)
        self._options, self._end, self._ended = options, end, False
        self.n_prompt = len(prompt)  # tokens, what the cache holds included
        self.n_hidden = n_hidden  # messages the model does not see
        self.n_dropped = n_dropped  # turns among them that it saw until now
        self.started = False  # a piece has come
        self.cancelled = False

    def __next__(self) -> str:
        if self.cancelled:
            self.close()
        if self._ended:
            raise StopIteration
        try:
            piece = next(self._generation)
        except BaseException:  # the end, an engine's error, or Ctrl-C while the prompt is evaluated
            self.close()
            raise
        self.started = True
        return piece

    def cancel(self) -> None:
        """End before the next piece. May be called from a signal handler or another thread."""
        self.cancelled = True

    def close(self) -> None:
        """End now. Idempotent."""
        if not self._ended:
            self._ended = True
            self._generation.close()
            if self._end:
                self._end(self)

    @property
    def completion(self) -> Completion:
        """Text, token ids, `finish_reason` and usage. Runs the answer to its end if need be."""
        for _ in self:
            pass
        return self._generation.completion

    @property
    def cut(self) -> bool:
        """Whether the full window cut the answer short."""
        done = self.completion
        return done.finish_reason == "length" and len(done.tokens) != self._options.max_tokens

    @property
    def truncated(self) -> bool:
        """Whether the full window cost the answer its end, or its view of older messages."""
        return self.cut or self.n_hidden > 0

    @property
    def seed(self) -> int | None:
        """What it is drawn with: asked with this seed, the same prompt gets the same answer."""
        return self._options.sampling.seed


def seeded(options: GenerateOptions, n: int = 0) -> GenerateOptions:
    """`options` with a seed that is known: a drawn one where there is none, else the n-th after it."""
    seed = options.sampling.seed
    seed = secrets.randbits(31) if seed is None else (seed + n) % 2**32
    return dataclasses.replace(options, sampling=dataclasses.replace(options.sampling, seed=seed))


class Conversation:
    """Messages with one model in one session. Not thread-safe, as the session is not.

    `messages` is all that was said; the model sees the system prompt and, once the window is full, the
    younger part of it: `n_hidden` messages are left out.
    """

    def __init__(
        self,
        session: Session,
        template: Template,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        options: GenerateOptions = _DEFAULTS,
        on_full: OnFull = "drop",
    ) -> None:
        self.session, self.options, self.on_full = session, options, on_full
        self.system = system
        self.messages = list(messages)
        self.n_hidden = 0
        self.last: Completion | None = None
        self._template = template
        self._spans = SpanCache(session)
        self._reply: Reply | None = None
        self._n_regenerated = 0

    @property
    def n_ctx(self) -> int:
        """Tokens the window holds."""
        return self.session.info.n_ctx

    @property
    def n_used(self) -> int:
        """Tokens of the window in use."""
        return len(self.session.tokens)

    @property
    def larger_window(self) -> str:
        """The end of a message about too little room; empty where the model has seen no longer text."""
        most = self.session.artifact.n_ctx_train
        return f", or take a larger -c (this model: up to {most:,})" if most > self.n_ctx else ""

    @property
    def unanswered(self) -> bool:
        """Whether the last word is the user's (an answer was lost or taken back)."""
        return bool(self.messages) and self.messages[-1].role == "user"

    def ask(self, text: str) -> Reply:
        """Put a message; iterate over the reply to get the answer.

        Raises ContextFullError when the message does not fit, and leaves the conversation as it was.
        """
        self._settle()
        if self.unanswered:
            raise UsageError("the last message has no answer yet: regenerate() or undo() first")
        self._n_regenerated = 0
        return self._answer([*self.messages, Message("user", text)])

    def regenerate(self) -> Reply:
        """Answer the last message anew. With a fixed seed the n-th time draws with seed + n."""
        self._settle()
        messages = self.messages[:-1] if self.messages and not self.unanswered else self.messages
        if not messages:
            raise UsageError("there is no message to answer yet")
        self._n_regenerated += not self.unanswered
        return self._answer(list(messages))

    def edit(self, text: str) -> Reply:
        """Put `text` in the place of the last message and answer it."""
        self._settle()
        if not self.messages:
            raise UsageError("there is no message to edit yet")
        return self._answer([*self._before_last_turn(), Message("user", text)])

    def undo(self) -> Message:
        """Take back the last message and its answer; returns the message."""
        self._settle()
        if not self.messages:
            raise UsageError("there is nothing to take back")
        before = self._before_last_turn()
        taken = self.messages[len(before)]
        self._replace(before)
        return taken

    def clear(self) -> None:
        """Forget all messages; the system prompt stays."""
        self.restore((), self.system)

    def restore(self, messages: Sequence[Message], system: str | None) -> None:
        """Go on from these messages."""
        self._settle()
        self.system, self.last = system, None
        self._replace(list(messages))

    def _before_last_turn(self) -> list[Message]:
        return self.messages[: -1 if self.unanswered else -2]

    def _replace(self, messages: list[Message]) -> None:
        self.messages = messages
        self.n_hidden = 0  # older turns may fit again; the next prompt decides

    def _settle(self) -> None:
        """End a reply that the caller walked away from."""
        if self._reply:
            self._reply.close()

    def _answer(self, messages: list[Message]) -> Reply:
        prompt, n_hidden = self._fit(messages)
        n_dropped = sum(m.role == "user" for m in messages[self.n_hidden : n_hidden])
        before, self.messages, self.n_hidden = self.messages, messages, n_hidden

        def end(reply: Reply) -> None:
            self._reply = None
            self._record(reply, prompt, before)

        self._reply = Reply(
            self.session,
            [token for span in prompt for token in span.tokens],
            seeded(self.options, self._n_regenerated),
            n_hidden=n_hidden,
            n_dropped=n_dropped,
            end=end,
        )
        return self._reply

    def _record(self, reply: Reply, prompt: list[Span], before: list[Message]) -> None:
        """Keep the answer. A turn that ended before its first token, by failure or request, is taken back."""
        try:
            done = self.last = reply.completion
        except EngineError:
            self._replace(before)
            return
        if done.finish_reason == "cancelled" and not done.tokens:
            self._replace(before)
            return
        answer = Message("assistant", done.text, done.finish_reason, reply.truncated, reply.seed)
        self.messages = [*self.messages, answer]
        self._spans.keep(prompt, done)

    def _fit(self, messages: list[Message]) -> tuple[list[Span], int]:
        """The prompt for `messages` and how many of the oldest are left out of it.

        Nothing is dropped while an answer has room. Then so much goes that a quarter of the window is free:
        each drop costs the evaluation of the whole prompt, so it must not come with every turn.
        """
        room = min(self.options.max_tokens or self.n_ctx, max(self.n_ctx // 8, 1), 512)
        limit = self.n_ctx - room
        prompt = self._render(messages, self.n_hidden)
        if _count(prompt) <= limit:
            return prompt, self.n_hidden
        starts = [i for i, m in enumerate(messages) if m.role == "user" and i > self.n_hidden]
        if self.on_full == "stop" and starts:
            raise ContextFullError(
                f"the window is full: {_count(prompt):,} tokens of history and message, {self.n_ctx:,} in the "
                f"window, {room:,} kept for the answer; drop old turns, start anew{self.larger_window}"
            )
        target = limit - self.n_ctx // 8
        found = bisect.bisect_left(starts, True, key=lambda i: _count(self._render(messages, i)) <= target)
        n_hidden = starts[min(found, len(starts) - 1)] if starts else self.n_hidden
        prompt = self._render(messages, n_hidden)
        if _count(prompt) > limit:
            raise ContextFullError(
                f"the message with the system prompt is {_count(prompt):,} tokens; the window of {self.n_ctx:,} "
                f"takes at most {limit:,} and an answer: shorten it{self.larger_window}"
            )
        return prompt, n_hidden

    def _render(self, messages: Sequence[Message], n_hidden: int) -> list[Span]:
        turns = [{"role": m.role, "content": self._spans.guard(m.content)} for m in messages[n_hidden:]]
        if self.system:
            turns.insert(0, {"role": "system", "content": self._spans.guard(self.system)})
        return self._spans.split(self._template.render(turns, add_generation_prompt=True))


def _count(spans: Sequence[Span]) -> int:
    return sum(len(span.tokens) for span in spans)
