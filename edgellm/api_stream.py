"""One model, many callers: whose turn it is, and text that is handed out as it is written.

Knows neither models nor prompts; what a stream reads from is given to it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from edgellm.errors import UsageError
from edgellm.generate import Completion


class Source(Protocol):
    """A generation under way (generate.Generation, chat's Reply)."""

    def __next__(self) -> str: ...

    def close(self) -> None:
        """End it here."""
        ...

    @property
    def completion(self) -> Completion:
        """The result, once it has ended."""
        ...


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
            if stream is None:
                raise UsageError("the model is busy with this very call; a callback cannot use it")
            stream.take_away()


class Stream(Iterator[str]):
    """Text as it is written: iterate over its pieces, or take `text` or `completion` for the whole.

    A piece is never half a character. `close()` (or leaving a `with`) ends it early, with the finish reason
    "cancelled".
    """

    def __init__(self, turns: Turns, make: Callable[[], Source]) -> None:
        self._ended = True  # until there is something to end
        self._taken_away = False
        self._turns = turns
        turns.take()
        try:
            self._source = make()
        except BaseException:
            turns.give_back()
            raise
        turns.keep(self)
        self._ended = False

    def __next__(self) -> str:
        if self._taken_away:
            raise UsageError(
                "a later call on the same model ended this stream; read a stream to its end first, or load "
                "the model a second time"
            )
        if self._ended:
            raise StopIteration
        self._turns.hand_over()
        try:
            return next(self._source)
        except BaseException:  # the end, an engine's error, or Ctrl-C
            self.close()
            raise

    @property
    def completion(self) -> Completion:
        """The result: text, token ids, finish reason, counts and times. Reads the stream to its end."""
        for _ in self:
            pass
        return self._source.completion

    @property
    def text(self) -> str:
        """The whole text. Reads the stream to its end."""
        return self.completion.text

    def close(self) -> None:
        """End here. Idempotent."""
        if not self._ended:
            self._ended = True
            try:
                self._source.close()
            finally:
                self._turns.give_back()

    def take_away(self) -> None:
        """End because another call needs the model."""
        self._taken_away = not self._ended
        self.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
