"""How soon and how evenly text comes from the HTTP server: with a long prompt, for one client and for several at once.

The real server (edgellm/server) in a thread of this process, its engine in a process of its own, asked over sockets
by clients that only note when bytes came. No two prompts begin alike, so nothing is answered from a kept cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgellm.errors import EngineError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.result.axes_record import ResponseRecord
from edgellm.session import EngineOptions
from edgellm.stats import quantile

#: Answers asked of the idle server, and by each client under load.
ALONE, EACH = 5, 3
N_CLIENTS = 4
N_PROMPT, N_ANSWER = 1024, 48
_TIMEOUT_SECONDS = 600.0
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Told:
    """One answer, by the client's clock."""

    ttft_seconds: float
    gaps_seconds: tuple[float, ...]  # between one piece of text and the next


def measure(artifact: Artifact, engine: EngineOptions, prompt: str, n_prompt: int) -> ResponseRecord:
    """Serve `artifact` and ask it; `prompt` has `n_prompt` tokens. Raises EngineError where an answer fails."""
    count = itertools.count(1)

    def prompts(n: int) -> list[str]:
        return [f"{next(count)}. {prompt}" for _ in range(n)]

    with _served(artifact, engine) as port:
        ask(port, prompts(1)[0], 1)  # loads the model
        alone = [ask(port, text) for text in prompts(ALONE)]
        loaded = _together(port, [prompts(EACH) for _ in range(N_CLIENTS)])
    return ResponseRecord(
        n_prompt=n_prompt,
        n_answer=N_ANSWER,
        n_clients=N_CLIENTS,
        ttft_seconds=statistics.median(each.ttft_seconds for each in alone),
        gap_p95_seconds=_p95([gap for each in alone for gap in each.gaps_seconds]),
        loaded_ttft_seconds=statistics.median(each.ttft_seconds for each in loaded),
        loaded_ttft_p95_seconds=quantile([each.ttft_seconds for each in loaded], 0.95),
        loaded_gap_p95_seconds=_p95([gap for each in loaded for gap in each.gaps_seconds]),
    )


def ask(port: int, prompt: str, n_answer: int = N_ANSWER) -> Told:
    """One streamed completion. Raises EngineError with what the server said."""
    body = json.dumps({"prompt": prompt, "max_tokens": n_answer, "temperature": 0, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    times: list[float] = []
    with contextlib.closing(connection):
        sent = time.perf_counter()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise EngineError(f"the server refused: {response.read(500).decode(errors='replace')}")
        while line := response.readline():
            if not line.startswith(b"data: {"):
                continue
            now, event = time.perf_counter(), json.loads(line[6:])
            if "error" in event:
                raise EngineError(f"the server failed: {event['error']}")
            if any(choice.get("text") for choice in event.get("choices", ())):
                times.append(now)
    if not times:
        raise EngineError("the server answered without text")
    return Told(times[0] - sent, tuple(b - a for a, b in itertools.pairwise(times)))


def _together(port: int, plans: Sequence[Sequence[str]]) -> list[Told]:
    """Each plan by a client of its own, all at once."""
    found: list[Told] = []
    failed: list[Exception] = []

    def client(plan: Sequence[str]) -> None:
        try:
            found.extend([ask(port, prompt) for prompt in plan])
        except (EngineError, OSError, ValueError) as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise EngineError(f"an answer under load failed: {failed[0]}")
    return found


@contextlib.contextmanager
def _served(artifact: Artifact, engine: EngineOptions) -> Iterator[int]:
    """The port of a server that runs."""
    from edgellm.server import app, listen
    from edgellm.server.settings import ServerSettings
    from edgellm.serving.job import ServingOptions
    from edgellm.serving.pool import Offer, Pool

    settings = ServerSettings(host="127.0.0.1", port=0)
    offer = Offer("model", artifact, options=engine, serving=ServingOptions(n_slots=N_CLIENTS))
    with contextlib.closing(listen.bound(settings)) as listening:
        running = listen.server(app.application(Pool([offer]), settings), settings)
        running.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        thread = threading.Thread(target=lambda: asyncio.run(running.serve([listening])), daemon=True)
        thread.start()
        until = time.monotonic() + _START_SECONDS
        while not running.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield int(listening.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join()


def _p95(gaps: Sequence[float]) -> float | None:
    return quantile(gaps, 0.95) if gaps else None
