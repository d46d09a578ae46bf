"""The server's end: an engine in a child process, awaited from asyncio. When it dies jobs are told, and it restarts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pickle
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from edgellm import lifeline
from edgellm.backends import pipe
from edgellm.errors import EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.serving.job import Done, Event, Facts, Failed, Job, ServingOptions, State
from edgellm.session import EngineOptions
from edgellm.units import count

_DEFAULTS = ServingOptions()
#: Seconds before a restart, by how many died without an answer in between.
_RESTART_WAITS = (0.0, 0.5, 2.0, 5.0)


class Engine:
    """One model in a process of its own. Made by `open`; used from one event loop."""

    facts: Facts

    def __init__(self, artifact: Artifact, options: EngineOptions, serving: ServingOptions) -> None:
        self.artifact, self._options, self._serving = artifact, options, serving
        self._numbers = itertools.count()
        self._queues: dict[int, asyncio.Queue[Event]] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._child: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._n_deaths = 0  # in a row

    @classmethod
    async def open(
        cls, artifact: Artifact, options: EngineOptions, serving: ServingOptions = _DEFAULTS
    ) -> Engine:
        """Start the process and load the model. Raises EdgellmError where it cannot be loaded."""
        engine = cls(artifact, options, serving)
        await engine._ensure()
        return engine

    @property
    def pid(self) -> int:
        """The process id of the engine as it is now."""
        return 0 if self._child is None else self._child.pid

    @property
    def n_jobs(self) -> int:
        """Answers that are being written or waited for."""
        return len(self._queues)

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        """The events of an answer; the last one is `Done` or `Failed`. Closing the generator ends the answer at once.

        Raises nothing for faults of the engine: they are events.
        """
        if self.n_jobs >= self.facts.n_slots + self._serving.max_queue:
            yield Failed(
                "busy", f"busy with {count(self.n_jobs, 'answer')} written or waited for; ask again later"
            )
            return
        number, events = next(self._numbers), asyncio.Queue[Event]()
        self._queues[number] = events
        event: Event | None = None
        limit: asyncio.TimerHandle | None = None
        try:
            if (failure := await self._sent(("run", number, job))) is not None:
                event = failure
                yield failure
                return
            limit = self._limit(events)
            while not isinstance(event, (Done, Failed)):
                event = await events.get()
                yield event
        finally:
            if limit is not None:
                limit.cancel()
            del self._queues[number]
            if not isinstance(event, (Done, Failed)) or (
                isinstance(event, Failed) and event.kind == "timeout"
            ):
                with contextlib.suppress(OSError, EngineError):
                    self._write(("cancel", number))

    def _limit(self, events: asyncio.Queue[Event]) -> asyncio.TimerHandle | None:
        """The time limit: a failure among the events. (asyncio.wait_for loses cancellations before Python 3.12.)"""
        seconds = self._serving.timeout_seconds
        if seconds is None:
            return None
        told = Failed("timeout", f"the answer took over {seconds:g} s and was ended; ask for fewer tokens")
        return asyncio.get_running_loop().call_later(seconds, events.put_nowait, told)

    async def _sent(self, message: tuple[Any, ...]) -> Failed | None:
        try:
            await self._ensure()
            self._write(message)
        except EngineCrashError as error:
            return Failed("crash", str(error))
        except (EngineError, OSError) as error:
            return Failed("engine", str(error))
        return None

    async def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of a text; with `special`, control tokens written out in it become their ids."""
        ids: list[int] = await self._ask("tokenize", text, special, add_bos)
        return ids

    async def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token. Raises EngineError for an id outside the vocabulary."""
        found: list[bytes] = await self._ask("pieces", list(tokens))
        return found

    async def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The bytes of tokens together."""
        return b"".join(await self.pieces(tokens))

    async def render(self, job: Job) -> tuple[str, list[int]]:
        """The prompt of a job with messages: its text and its ids. Raises UsageError."""
        found: tuple[str, list[int]] = await self._ask("render", job)
        return found

    async def embed(
        self,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        prompt_name: str | None = None,
        instruct: str | None = None,
        truncate: bool = False,
        normalize: bool = True,
    ) -> tuple[list[list[float]], list[int]]:
        """A vector of each text (generation/embedding.py), and how many tokens it has. Raises EdgellmError."""
        manner = {"prompt_name": prompt_name, "instruct": instruct}
        settings = {"dimensions": dimensions, "truncate": truncate, "normalize": normalize}
        found: tuple[list[list[float]], list[int]] = await self._ask("embed", list(texts), manner, settings)
        return found

    async def rerank(
        self, query: str, documents: Sequence[str], *, instruct: str | None = None, truncate: bool = False
    ) -> tuple[list[tuple[int, float]], int]:
        """Places and scores of documents, the most relevant first, and the tokens evaluated. Raises EdgellmError."""
        settings = {"instruct": instruct, "truncate": truncate}
        found: tuple[list[tuple[int, float]], int] = await self._ask(
            "rerank", query, list(documents), settings
        )
        return found

    async def state(self) -> State:
        """What it is doing. Comes between two evaluations."""
        state: State = await self._ask("state")
        return state

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Let answers end for so long, then end the process. Idempotent."""
        self._closed = True
        ended = asyncio.get_running_loop().time() + grace_seconds
        while self._queues and asyncio.get_running_loop().time() < ended:
            await asyncio.sleep(0.05)
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(OSError, EngineError):
                self._write(("close",))
            try:
                await asyncio.wait_for(child.wait(), 2)
            except asyncio.TimeoutError:
                child.kill()
                await child.wait()
        if self._reading is not None:
            await self._reading

    async def _ask(self, kind: str, *args: object) -> Any:
        await self._ensure()
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        try:
            self._write((kind, number, args))
            return await reply
        finally:
            del self._replies[number]

    def _write(self, message: object) -> None:
        if self._child is None or self._child.stdin is None or self._child.returncode is not None:
            raise EngineCrashError(f"the engine of {self.artifact.name} is gone; ask again")
        self._child.stdin.write(pipe.packed(message))

    async def _ensure(self) -> None:
        """Have a process that has loaded the model. Raises EdgellmError."""
        async with self._opening:
            if self._closed:
                raise EngineError(f"{self.artifact.name} is being unloaded; ask again")
            if self._reading is not None and not self._reading.done():
                return
            await asyncio.sleep(_RESTART_WAITS[min(self._n_deaths, len(_RESTART_WAITS) - 1)])
            started = lifeline.attached()
            self._child = child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edgellm.serving.child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                **started,
            )
            self._write(("open", self.artifact, self._options, self._serving))
            try:
                kind, value = await _receive(child)
            except EOFError:
                self._n_deaths += 1
                raise EngineCrashError(await self._epitaph()) from None
            except BaseException:
                child.kill()  # who asked went away while the model was loaded: nobody else knows the process
                raise
            if kind == "refused":
                await child.wait()
                raise value
            self.facts = value
            self._reading = asyncio.create_task(self._read(child))

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        """Hand out what the process says, until it ends."""
        while True:
            try:
                kind, *rest = await _receive(child)
            except EOFError:
                break
            if kind == "events":
                for number, events in rest[0]:
                    if (wanted := self._queues.get(number)) is not None:
                        for event in events:
                            wanted.put_nowait(event)
                self._n_deaths = 0
                continue
            number, ok, value = rest
            reply = self._replies.get(number)
            if reply is not None and not reply.done():
                reply.set_result(value) if ok else reply.set_exception(value)
        await self._buried()

    async def _buried(self) -> None:
        """The process is gone: tell everybody who waits for it, and start another."""
        error = EngineCrashError(await self._epitaph())
        for events in self._queues.values():
            events.put_nowait(Failed("crash", str(error)))
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(error)
        if self._closed:
            return
        self._n_deaths += 1
        self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        with contextlib.suppress(EngineError, OSError):  # whoever asks next tries again, and is told
            await asyncio.sleep(0)  # the task that read is done then
            await self._ensure()

    async def _epitaph(self) -> str:
        assert self._child is not None
        code = await self._child.wait()
        name = self.artifact.path.name
        return f"the engine running {name} {pipe.ending(code)}; it is started anew, see: edgellm doctor"


async def _receive(child: asyncio.subprocess.Process) -> Any:
    """The next message of a process. Raises EOFError at its end."""
    assert child.stdout is not None
    try:
        (size,) = pipe.LENGTH.unpack(await child.stdout.readexactly(pipe.LENGTH.size))
        return pickle.loads(await child.stdout.readexactly(size))
    except (asyncio.IncompleteReadError, OSError):
        raise EOFError from None
