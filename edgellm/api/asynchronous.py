"""Answers for asyncio: the engine works in a thread, the event loop stays free.

A task that waits for the model's turn occupies no thread. A task that is cancelled while the engine works stops the
engine, after the token it is at, before it ends itself: the model is free then. Knows streams; knows no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from edgellm.api.answer import Answer
from edgellm.api.stream import Owner, Stream, Turns
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.chat.reply import Reply
    from edgellm.prompt.markup import Part

T = TypeVar("T")


class AsyncStream(AsyncIterator[str]):
    """Text as it is written: `async for` over its pieces, or `await` it for the whole `Answer`.

    Nothing happens before that. `cancel()` or `aclose()` (or leaving an `async with`) ends it early, with the finish
    reason "cancelled", and so does the cancellation of the task that reads.
    """

    def __init__(self, turns: Turns, make: Callable[[], Reply]) -> None:
        self._turns, self._make = turns, make
        self._stream: Stream | None = None  # once it is this one's turn
        self._cancelled = False

    async def __anext__(self) -> str:
        while (part := await self._read()) is not None:
            if part.kind == "text":
                return part.text
        raise StopAsyncIteration

    def __await__(self) -> Generator[object, None, Answer]:
        return self._answer().__await__()

    async def parts(self) -> AsyncIterator[Part]:
        """Everything as it comes: a reasoning model's thinking, text, tool calls."""
        while (part := await self._read()) is not None:
            yield part

    def cancel(self) -> None:
        """End after the token it is at, or while the prompt is evaluated, without waiting for that."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    async def aclose(self) -> None:
        """End here; a reader in another task is waited for, which is a token's time at most. Idempotent."""
        self.cancel()
        if self._stream is not None:
            await self._work(self._stream.close)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<edgellm.AsyncStream, {'not begun' if self._stream is None else repr(self._stream)[17:-1]}>"

    async def _answer(self) -> Answer:
        while await self._read() is not None:
            pass
        if self._stream is None:
            raise UsageError("this stream was cancelled before it began; there is no answer")
        return self._stream.answer

    async def _read(self) -> Part | None:
        owner = Owner(threading.get_ident(), asyncio.current_task())
        if self._stream is None:
            if self._cancelled:
                return None
            await self._take_turn(owner)
            await self._work(self._begin)
        assert self._stream is not None
        return await self._work(functools.partial(self._stream.read, owner))

    def _begin(self) -> None:
        self._stream = Stream(self._turns, self._make, has_turn=True)
        if self._cancelled:
            self._stream.cancel()

    async def _take_turn(self, owner: Owner) -> None:
        turns, loop = self._turns, asyncio.get_running_loop()
        while True:
            woken = asyncio.Event()
            wake = functools.partial(loop.call_soon_threadsafe, woken.set)
            turns.waiting.append(wake)  # before the try: whoever gives the turn back after it sees this
            if turns.try_take(owner):
                with contextlib.suppress(ValueError):
                    turns.waiting.remove(wake)
                return
            try:
                await woken.wait()
            except asyncio.CancelledError:
                try:
                    turns.waiting.remove(wake)
                except ValueError:  # woken for nothing: another one's turn
                    turns.wake_next()
                raise

    async def _work(self, work: Callable[[], T]) -> T:
        """`work` in the model's thread. When the task is cancelled, so is the stream, and the thread is waited for."""
        future = asyncio.get_running_loop().run_in_executor(self._turns.worker, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait([future])
            self.cancel()  # nobody is inside now: it is closed
            if not future.cancelled():
                future.exception()  # is known
            raise
