"""An answer as it is written: text to iterate over, thinking and tool calls told apart, and how it ended.

Knows a session and a prompt of token ids; knows no conversation.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from edgellm.errors import EngineError
from edgellm.generation import generate
from edgellm.generation.generate import Completion, GenerateOptions
from edgellm.prompt import markup
from edgellm.prompt.markup import Markup, MarkupParser, Part
from edgellm.prompt.tools import ToolCall
from edgellm.session import Session

_PLAIN = Markup()


class Reply(Iterator[str]):
    """An iterator over pieces of the answer's text; `parts` gives thinking and calls, too.

    `end` is called once, when it ends.
    """

    def __init__(
        self,
        session: Session,
        prompt: Sequence[int],
        options: GenerateOptions,
        *,
        look_for: Markup = _PLAIN,
        thinking: bool = False,
        n_hidden: int = 0,
        n_dropped: int = 0,
        prefill: str = "",
        end: Callable[[Reply], None] | None = None,
    ) -> None:
        self._session = session
        self._generation = generate.stream(session, prompt, options)
        self._parser, self._thinking = MarkupParser(look_for, thinking=thinking), thinking
        self._ready: deque[Part] = deque()
        self._options, self._end, self._ended = options, end, False
        self.n_prompt = len(prompt)  # tokens, what the cache holds included
        self.n_hidden = n_hidden  # messages the model does not see
        self.n_dropped = n_dropped  # turns among them that it saw until now
        self.prefill = prefill  # the beginning of the answer that the prompt ends with
        self.started = False  # a piece has come
        self.cancelled = False

    def __next__(self) -> str:
        while self._ready or self._read():
            part = self._ready.popleft()
            if part.kind == "text":
                return part.text
        raise StopIteration

    def parts(self) -> Iterator[Part]:
        """Everything as it comes: thinking, text and calls."""
        while self._ready or self._read():
            yield self._ready.popleft()

    def _read(self) -> bool:
        """Have parts ready; False at the end."""
        while not self._ready and not self._ended:
            if self.cancelled:
                self.close()
                break
            try:
                piece = next(self._generation)
            except (
                BaseException
            ) as error:  # the end, an engine's error, or Ctrl-C while the prompt is evaluated
                self.close()
                if isinstance(error, StopIteration):
                    break
                raise
            self.started = True
            self._ready += self._parser.feed(piece)
        return bool(self._ready)

    def cancel(self) -> None:
        """End after the token it is at. May be called from a signal handler or another thread."""
        self.cancelled = True
        self._generation.cancel()

    def close(self) -> None:
        """End now. Idempotent."""
        if not self._ended:
            self._ended = True
            self._generation.close()
            self._ready += self._parser.finish(cut=self._was_cut())
            if self._end:
                self._end(self)

    def _was_cut(self) -> bool:
        try:
            return self._generation.completion.finish_reason != "stop"
        except EngineError:
            return True

    @property
    def read(self) -> tuple[int, int]:
        """Tokens of the prompt evaluated so far, of how many that will be. For any thread."""
        return self._generation.read

    @property
    def completion(self) -> Completion:
        """Raw text, token ids, `finish_reason` and usage. Runs the answer to its end if need be."""
        while not self._ended:
            self._ready.clear()
            self._read()
        return self._generation.completion

    @property
    def text(self) -> str:
        """The whole answer, without thinking and calls."""
        _ = self.completion
        return self._parser.text

    @property
    def thinking(self) -> str:
        """What was thought before the answer."""
        _ = self.completion
        return self._parser.thinking

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tools the model asks for."""
        _ = self.completion
        return tuple(self._parser.calls)

    @property
    def malformed_calls(self) -> tuple[str, ...]:
        """What was begun as a call and is none; it stands in `text`, too."""
        _ = self.completion
        return tuple(self._parser.malformed)

    @cached_property
    def n_thinking(self) -> int:
        """Tokens among those generated that went into thinking, tags included."""
        tokens = self.completion.tokens
        if not self._parser.markup.thinks:
            return 0
        return markup.count_thinking(list(map(self._session.piece, tokens)), thinking=self._thinking)

    @property
    def finish_reason(self) -> str:
        """ "stop", "length", "cancelled", or "tool_calls" when the answer ended with calls."""
        done = self.completion
        return "tool_calls" if self._parser.calls and done.finish_reason == "stop" else done.finish_reason

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
    seed = secrets.randbits(31) if seed is None else (seed + n) % (2**32 - 1)
    return dataclasses.replace(options, sampling=dataclasses.replace(options.sampling, seed=seed))
