"""Jobs of a request, run: their events in one stream, faults as errors, what they cost noted."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request

from edgellm.server import sse
from edgellm.server.errors import JobError
from edgellm.server.metrics import Metrics
from edgellm.server.settings import ServerSettings
from edgellm.serving.job import Done, Event, Failed, Job, Piece, Started, TokenLogprob
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.serving.pool import Pool
    from edgellm.serving.remote import Engine


@dataclass
class Record:
    """What a request's log line says; kept in the request's state by the guard."""

    model: str = ""
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0
    texts: list[str] = field(default_factory=list)  # what was asked and answered, with --log-text alone


@dataclass
class Answer:
    """A whole answer."""

    started: Started | None = None
    pieces: list[Piece] = field(default_factory=list)
    done: Done | None = None

    @property
    def text(self) -> str:
        """What was said, without thinking and calls."""
        return self._joined("text")

    @property
    def thinking(self) -> str:
        """What was thought before."""
        return self._joined("thinking")

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Id, name and arguments (JSON text) of each call, in order."""
        found: dict[int, tuple[str, str, str]] = {}
        for piece in self.pieces:
            if piece.call is not None:
                place, id_, name = piece.call
                before = found.get(place, (id_, name, ""))[2]
                found[place] = (id_, name, before + (piece.text if piece.kind == "arguments" else ""))
        return [found[place] for place in sorted(found)]

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Of every token, in order."""
        rest = self.done.logprobs if self.done else ()
        return [one for piece in self.pieces for one in piece.logprobs] + list(rest)

    def _joined(self, kind: str) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind == kind)


def settings_of(request: Request) -> ServerSettings:
    """What the server was told at its start."""
    return cast(ServerSettings, request.app.state.settings)


def metrics_of(request: Request) -> Metrics:
    """What was served since the start."""
    return cast(Metrics, request.app.state.metrics)


def record_of(request: Request) -> Record:
    """What the request's log line says."""
    return cast(Record, request.state.record)


def pool_of(request: Request) -> Pool:
    """The server's models."""
    return cast("Pool", request.app.state.pool)


@contextlib.asynccontextmanager
async def engine_of(request: Request, model: str | None) -> AsyncIterator[Engine]:
    """The engine of a model by name, opened where it is not; None: the first. Raises EdgellmError."""
    async with pool_of(request).use(model or None) as engine:
        record_of(request).model = model or pool_of(request).names()[0].name
        yield engine


async def events(
    request: Request, engine: Engine, jobs: Sequence[Job]
) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of jobs that run side by side, each with its job's place. Raises JobError where one fails.

    When this is closed, all are cancelled at once.
    """
    if settings_of(request).log_text:
        record_of(request).texts += [f"{job.messages or job.prompt} -> " for job in jobs[:1]]
    if len(jobs) == 1:
        async with contextlib.aclosing(engine.run(jobs[0])) as running:
            async for event in running:
                _note(request, event)
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue()
    gate = asyncio.Semaphore(engine.facts.n_slots)  # the rest waits here: the queue is for everybody
    tasks = [asyncio.create_task(_into(queue, gate, engine, i, job)) for i, job in enumerate(jobs)]
    try:
        left = len(tasks)
        while left:
            i, one = await queue.get()
            if one is None:
                left -= 1
                continue
            _note(request, one)
            yield i, one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def head(request: Request, model: str | None, prefix: str, kind: str) -> dict[str, Any]:
    """What OpenAI's completions, and every chunk of them, say of the whole."""
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model or record_of(request).model,
        "system_fingerprint": f"edgellm-{__version__}",
    }


async def collect(request: Request, engine: Engine, jobs: Sequence[Job]) -> list[Answer]:
    """Whole answers, one for each job; cancelled when the client goes away. Raises JobError, CancelledError."""
    return await sse.while_connected(request, _collected(request, engine, jobs))


async def _collected(request: Request, engine: Engine, jobs: Sequence[Job]) -> list[Answer]:
    answers = [Answer() for _ in jobs]
    async with contextlib.aclosing(events(request, engine, jobs)) as running:
        async for i, event in running:
            if isinstance(event, Piece):
                answers[i].pieces.append(event)
            elif isinstance(event, Started):
                answers[i].started = event
            elif isinstance(event, Done):
                answers[i].done = event
    return answers


async def _into(
    queue: asyncio.Queue[tuple[int, Event | None]],
    gate: asyncio.Semaphore,
    engine: Engine,
    place: int,
    job: Job,
) -> None:
    try:
        async with gate, contextlib.aclosing(engine.run(job)) as running:
            async for event in running:
                queue.put_nowait((place, event))
    finally:
        queue.put_nowait((place, None))


def _note(request: Request, event: Event) -> None:
    """Count it and keep it for the log line; a failure is raised."""
    record = record_of(request)
    if isinstance(event, Done):
        metrics_of(request).answered(event)
        record.n_prompt += event.n_prompt
        record.n_cached += event.n_cached
        record.n_generated += event.n_generated
    elif isinstance(event, Failed):
        metrics_of(request).n_failed += 1
        raise JobError(event)
    elif isinstance(event, Piece) and settings_of(request).log_text:
        record.texts.append(event.text)
