"""One model, many callers: whose turn it is, and text that is handed out as it is written.

Knows neither models nor prompts; what a stream reads from is given to it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from edgellm.api.answer import Answer
from edgellm.errors import EngineError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from edgellm.chat.reply import Reply
    from edgellm.prompt.markup import Part


class Owner(NamedTuple):
    """Who has the turn: a thread, or one of the tasks of the event loop that runs in it."""

    thread: int
    task: object = None

    @classmethod
    def here(cls) -> Owner:
        """This thread."""
        return cls(threading.get_ident())


class Turns:
    """One sequence serves one caller at a time: threads and tasks wait for each other.

    A stream keeps its turn from its making to its end. A thread (or task) that asks for something else while a
    stream of its own is open would wait for itself: the open stream is ended instead, and says so when read on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: Owner | None = None  # that has the turn
        self._stream: weakref.ref[Stream] | None = None  # that keeps it, where one does
        self.waiting: deque[Callable[[], object]] = deque()  # how to wake the tasks that wait

    @contextlib.contextmanager
    def turn(self, *, closing: bool = False) -> Iterator[None]:
        """Have the turn for a block; `closing` ends streams of other tasks of this thread, too."""
        self.take(closing=closing)
        try:
            yield
        finally:
            self.give_back()

    def take(self, *, closing: bool = False) -> None:
        """Wait for the turn. Raises UsageError where that would be to wait for this very thread."""
        owner = Owner.here()
        if self._owner is not None and self._owner.thread == owner.thread:
            if self._owner.task is not None and not closing and not _is_current(self._owner.task):
                raise UsageError(
                    "the model is answering in another task of this event loop, which cannot go on while this call "
                    "waits: await acomplete(), astream() or aask() instead"
                )
            self._end_stream()
        self._lock.acquire()
        self._owner = owner

    def try_take(self, owner: Owner) -> bool:
        """Take the turn if it is free, or kept by a stream that `owner` itself has left open."""
        held = self._owner
        if held is not None and held.thread == owner.thread and held.task in (None, owner.task):
            self._end_stream()
        if self._lock.acquire(blocking=False):
            self._owner = owner
            return True
        return False

    def keep(self, stream: Stream) -> None:
        """The one whose turn it is lets `stream` have it until its end."""
        self._stream = weakref.ref(stream)

    def hand_over(self, owner: Owner) -> None:
        """The turn belongs to whoever reads the stream."""
        self._owner = owner

    def give_back(self) -> None:
        """Let the next one have it."""
        self._owner, self._stream = None, None
        self._lock.release()
        self.wake_next()

    def wake_next(self) -> None:
        """Have the task that waits longest try again."""
        while self.waiting:
            with contextlib.suppress(IndexError, RuntimeError):  # another woke it; its event loop is closed
                self.waiting.popleft()()
                return

    @cached_property
    def worker(self) -> ThreadPoolExecutor:
        """The thread that works for tasks: always the same, for an engine's own threads belong to their caller."""
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(1, thread_name_prefix="edgellm")

    def close(self) -> None:
        """No task will have a turn any more."""
        if "worker" in self.__dict__:
            self.worker.shutdown(wait=False)
            del self.worker

    def _end_stream(self) -> None:
        """End the stream that has the turn."""
        stream = self._stream() if self._stream else None
        if stream is None or not stream.take_away():
            raise UsageError("the model is busy with this very call; a callback cannot use it")


def _is_current(task: object) -> bool:
    """Whether `task` is the one that runs, or none does: its event loop has ended."""
    import asyncio  # is loaded: there is a task

    try:
        return asyncio.current_task() in (task, None)
    except RuntimeError:
        return True


class Stream(Iterator[str]):
    """Text as it is written: iterate over its pieces, or take `text` or `answer` for the whole.

    A piece is never half a character. `cancel()` or `close()` (or leaving a `with`) ends it early, with the
    finish reason "cancelled". Any thread may read it, cancel it and close it; the model is free for the next
    call when whoever reads has left the engine.
    """

    def __init__(self, turns: Turns, make: Callable[[], Reply], *, has_turn: bool = False) -> None:
        """`make` is called when it is this one's turn, which `has_turn` says it is."""
        self._ended = True  # until there is something to end
        self._taken_away = self._reading = False
        self._inside = threading.RLock()  # held by who reads or closes
        self._turns = turns
        if not has_turn:
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
        while (part := self.read(Owner.here())) is not None:
            yield part

    def read(self, owner: Owner) -> Part | None:
        """The next part, for `owner`; None at the end."""
        with self._inside:
            if self._taken_away:
                raise UsageError(
                    "a later call on the same model ended this stream; read a stream to its end first, or load "
                    "the model a second time"
                )
            if self._ended:
                return None
            self._turns.hand_over(owner)
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
            done.logprobs,
            reply.prefill,
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

    def __repr__(self) -> str:
        return f"<edgellm.Stream, {'ended' if self._ended else 'open'}>"

    def __str__(self) -> str:
        return self.text

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(EngineError):  # at the program's end, the session may be gone first
            self.close()
