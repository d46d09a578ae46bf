"""One request after the other on a `Session`, for engines whose attention takes one sequence at a time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

from edgellm.backends.batching.engine import Drawn, Load, Request
from edgellm.errors import CancelledError, EdgellmError, EngineError
from edgellm.session import Session, reuse_prefix


class OneAtATime:
    """An `Engine` on one session, which holds the last sequence in its cache."""

    n_slots = 1

    def __init__(self, session: Session, why: str) -> None:
        """`why` it does not evaluate several sequences together, for people."""
        self._session, self.batching = session, why
        self._waiting: deque[Request] = deque()
        self._running: Request | None = None
        self._ids: Iterator[int] = iter(())

    @property
    def tokenizer(self) -> Session:
        """The session itself: its vocabulary is not touched by evaluations."""
        return self._session

    def add(self, request: Request) -> None:
        """Have `request` wait for its turn."""
        self._waiting.append(request)

    def step(self) -> list[Drawn]:
        """The next id of the request that has the engine."""
        if self._running is None:
            if not self._waiting:
                return []
            self._running = self._waiting.popleft()
        request = self._running
        error: EdgellmError | None = None
        try:
            if request.n_cached is None:
                self._begin(request)
            else:
                request.n_evaluated += 1
            token = next(self._ids, None)
        except EdgellmError as failure:
            token, error = None, failure
        if token is None:
            self.end(request)
        return [Drawn(request, token, None if isinstance(error, CancelledError) else error)]

    def _begin(self, request: Request) -> None:
        request.began = time.perf_counter()
        request.n_cached = reuse_prefix(self._session, () if request.exact else request.prompt)
        request.n_evaluated = len(request.prompt) - request.n_cached
        self._ids = self._session.stream(
            request.prompt[request.n_cached :],
            request.sampling,
            constraint=request.constraint,
            drafter=request.drafter,
            cancel=request.cancel,
        )

    def end(self, request: Request) -> None:
        """No more ids of it are wanted."""
        if request is self._running:
            close: Callable[[], None] = getattr(self._ids, "close", lambda: None)
            close()
            self._ids, self._running = iter(()), None
        elif request in self._waiting:
            self._waiting.remove(request)

    def cancelled(self) -> None:
        """The session looks at the request's wish itself."""

    @contextlib.contextmanager
    def alone(self) -> Iterator[Session]:
        """The session, empty. Raises EngineError while a request has it."""
        if self._running is not None:
            raise EngineError("the engine is answering; ask again when it is done")
        self._session.rewind(0)
        yield self._session
        self._session.rewind(0)

    def load(self) -> Load:
        """What it holds and does."""
        session = self._session
        n_running = int(self._running is not None)
        return Load(n_running, len(self._waiting), len(session.tokens), session.info.n_ctx)

    def close(self) -> None:
        """Free everything."""
        self._session.close()
