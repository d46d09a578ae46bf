"""One model, many callers: whose turn it is, and text that is handed out as it is written.

Knows neither models nor prompts; what a stream reads from is given to it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineError, UsageError
from edgellm.generation.generate import Usage
from edgellm.prompt import openai
from edgellm.prompt.messages import Message
from edgellm.prompt.tools import ToolCall

if TYPE_CHECKING:
    from edgellm.chat.reply import Reply
    from edgellm.prompt.markup import Part


@dataclass(frozen=True)
class Answer:
    """A finished generation."""

    text: str  # without thinking and calls
    finish_reason: str  # "stop" | "length" | "cancelled" | "tool_calls"
    tokens: tuple[int, ...]  # all ids drawn, without the ending EOS
    usage: Usage
    seed: int | None  # asked with this seed, the same prompt gets the same answer
    truncated: bool = False  # the full window cost it its end, or its view of older messages
    thinking: str = ""  # what a reasoning model thought before it
    calls: tuple[ToolCall, ...] = ()  # the tools it asks for
    valid: bool | None = None  # whether the text is whole by its schema or grammar; None without one

    @property
    def message(self) -> dict[str, Any]:
        """As a message in OpenAI's form, to go on from."""
        return openai.written(Message("assistant", self.text, calls=self.calls))


class Turns:
    """One sequence serves one caller at a time: threads wait for each other.

    A stream keeps its turn from its making to its end. A thread that asks for something else while a stream of
    its own is open would wait for itself: the open stream is ended instead, and says so when it is read on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None  # that has the turn
        self._stream: weakref.ref[Stream] | None = None  # that keeps it, where one does

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Have the turn for a block."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Wait for the turn."""
        self.end_own_stream()
        self._lock.acquire()
        self._thread = threading.get_ident()

    def keep(self, stream: Stream) -> None:
        """The one whose turn it is lets `stream` have it until its end."""
        self._stream = weakref.ref(stream)

    def hand_over(self) -> None:
        """The turn belongs to the thread that reads the stream."""
        self._thread = threading.get_ident()

    def give_back(self) -> None:
        """Let the next one have it."""
        self._thread, self._stream = None, None
        self._lock.release()

    def end_own_stream(self) -> None:
        """End the stream that this thread left open, if there is one."""
        if self._thread == threading.get_ident():
            stream = self._stream() if self._stream else None
            if stream is None or not stream.take_away():
                raise UsageError("the model is busy with this very call; a callback cannot use it")


class Stream(Iterator[str]):
    """Text as it is written: iterate over its pieces, or take `text` or `answer` for the whole.

    A piece is never half a character. `cancel()` or `close()` (or leaving a `with`) ends it early, with the
    finish reason "cancelled". Any thread may read it, cancel it and close it; the model is free for the next
    call when whoever reads has left the engine.
    """

    def __init__(self, turns: Turns, make: Callable[[], Reply]) -> None:
        self._ended = True  # until there is something to end
        self._taken_away = self._reading = False
        self._inside = threading.RLock()  # held by who reads or closes
        self._turns = turns
        turns.take()
        try:
            self._reply = make()
        except BaseException:
            turns.give_back()
            raise
        turns.keep(self)
        self._ended = False

    def __next__(self) -> str:
        for part in self.parts():
            if part.kind == "text":
                return part.text
        raise StopIteration

    def parts(self) -> Iterator[Part]:
        """Everything as it comes: a reasoning model's thinking, text, tool calls."""
        while (part := self._next()) is not None:
            yield part

    def _next(self) -> Part | None:
        with self._inside:
            if self._taken_away:
                raise UsageError(
                    "a later call on the same model ended this stream; read a stream to its end first, or load "
                    "the model a second time"
                )
            if self._ended:
                return None
            self._turns.hand_over()
            part = self._read()
        if self._reply.cancelled:  # meanwhile, by somebody who does not wait
            self.close()
        return part

    def _read(self) -> Part | None:
        part, self._reading = None, True
        try:
            part = next(self._reply.parts(), None)
        finally:
            self._reading = False
            if part is None:  # the end, an engine's error, or Ctrl-C
                self.close()
        return part

    @property
    def answer(self) -> Answer:
        """The result. Reads the stream to its end."""
        for _ in self:
            pass
        reply = self._reply
        done = reply.completion
        return Answer(
            reply.text,
            reply.finish_reason,
            done.tokens,
            done.usage,
            reply.seed,
            reply.truncated,
            reply.thinking,
            reply.calls,
            done.valid,
        )

    @property
    def text(self) -> str:
        """The whole text. Reads the stream to its end."""
        return self.answer.text

    def cancel(self) -> None:
        """End after the token it is at, or while the prompt is evaluated, without waiting for that.

        Whoever reads it gets what is written, and then the end.
        """
        if self._ended:
            return
        self._reply.cancel()
        if self._inside.acquire(blocking=False):  # else the reader closes it when it leaves
            try:
                self.close()
            finally:
                self._inside.release()

    def close(self) -> None:
        """End here; a reader in another thread is waited for, which is a token's time at most. Idempotent."""
        if self._ended:
            return
        self._reply.cancel()
        with self._inside:
            if self._ended or self._reading:  # by a signal handler of the reader's thread, which then ends it
                return
            self._ended = True
            try:
                self._reply.close()
            finally:
                self._turns.give_back()

    def take_away(self) -> bool:
        """End because another call needs the model; False where that call comes from within its own reading."""
        with self._inside:
            if self._reading:
                return False
            self._taken_away = not self._ended
            self.close()
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(EngineError):  # at the program's end, the session may be gone first
            self.close()
