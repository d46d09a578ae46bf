"""The engine's process: one thread evaluates, others read what comes, prepare it and write what is said.

While llama.cpp computes it holds no lock of Python's, so that jobs are rendered and tokenized, and events written,
beside it. Ends with its parent (lifeline.py), or when the pipe is closed.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

from edgellm import lifeline
from edgellm.backends import pipe
from edgellm.errors import EdgellmError, EngineError
from edgellm.serving.answering import Answer, Desk, failed
from edgellm.serving.job import Event, Facts, Job, ServingOptions, State
from edgellm.serving.shares import Shares

if TYPE_CHECKING:
    from edgellm.backends.batching.engine import Engine, Request
    from edgellm.formats.artifact import Artifact
    from edgellm.session import Drafter, EngineOptions

_N_PREPARING = 2  # threads that prepare jobs


class Child:
    """Serves the messages of one pipe."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # for the engine's thread
        self._outbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._answers: dict[int, Answer] = {}
        self._numbers: dict[Request, int] = {}  # of the jobs, by what the engine is asked
        self._coming: set[int] = set()  # jobs that are being prepared
        self._gone: set[int] = set()  # of these, the cancelled
        self._tasks: list[tuple[int, Iterator[Any]]] = []
        self._preparing = ThreadPoolExecutor(_N_PREPARING, "prepare")
        self._closing = False

    def run(self) -> None:
        """Until the pipe closes."""
        threading.Thread(target=self._write, daemon=True).start()
        _, artifact, options, serving = pipe.receive(self._source)
        try:
            self._open(artifact, options, serving)
        except EdgellmError as error:
            self._outbox.put(("refused", error))
            self._flush()
            return
        self._outbox.put(("opened", self._facts()))
        threading.Thread(target=self._read, daemon=True).start()
        while not self._closing:
            self._turn()
        self._flush()
        self._engine.close()

    def _open(self, artifact: Artifact, options: EngineOptions, serving: ServingOptions) -> None:
        from edgellm.backends.batching.opening import open_engine
        from edgellm.prompt.model_template import template_of

        template = template_of(artifact) if artifact.chat_template else None
        self._engine: Engine = open_engine(artifact, options, serving.n_slots)
        self._drafters = Drafters(serving, options)
        self._shares = Shares(serving.energy)
        self._desk = Desk(self._engine.tokenizer, template, self._drafters.lend, self._shares)

    def _facts(self) -> Facts:
        info = self._engine.tokenizer.info
        return Facts(
            n_ctx=info.n_ctx,
            n_vocab=info.n_vocab,
            n_slots=self._engine.n_slots,
            batching=self._engine.batching,
            backend=info.backend,
            device=info.device,
            notes=info.notes,
        )

    # The engine's thread

    def _turn(self) -> None:
        """What has come, one evaluation, a step of every task; waits while there is nothing to do."""
        load = self._engine.load()
        idle = not (load.n_running or load.n_waiting or self._tasks)
        while True:
            try:
                act = self._inbox.get(block=idle)
            except queue.Empty:
                break
            act()
            if idle:
                self._shares.mark()
            idle = False
        drawn = self._engine.step()
        now = time.perf_counter()
        self._shares.stepped(self._answers.values())
        events: list[tuple[int, list[Event]]] = []
        for one in drawn:
            number = self._numbers.get(one.request)
            if number is None:
                continue  # it ended with an earlier id of this evaluation
            found, ended = self._answers[number].took(one, now)
            if found:
                events.append((number, found))
            if ended:
                self._end(number)
        if events:
            self._outbox.put(("events", events))
        self._advance_tasks()

    def _end(self, number: int) -> None:
        answer = self._answers.pop(number)
        del self._numbers[answer.request]
        self._engine.end(answer.request)
        self._drafters.give_back(answer.request.drafter)

    def _add(self, number: int, answer: Answer) -> None:
        self._coming.discard(number)
        if number in self._gone:
            self._gone.discard(number)
            self._drafters.give_back(answer.request.drafter)
            return
        self._answers[number] = answer
        self._numbers[answer.request] = number
        self._engine.add(answer.request)

    def _cancel(self, number: int) -> None:
        answer = self._answers.get(number)
        if answer is None:
            if number in self._coming:
                self._gone.add(number)
            return
        events = answer.stopped()
        self._end(number)
        self._outbox.put(("events", [(number, events)]))

    def _advance_tasks(self) -> None:
        if not self._tasks or (self._engine.n_slots == 1 and self._engine.load().n_running):
            return
        number, task = self._tasks[0]
        try:
            next(task)
        except StopIteration as done:
            self._outbox.put(("reply", number, True, done.value))
        except EdgellmError as error:
            self._outbox.put(("reply", number, False, error))
        else:
            return
        self._tasks.pop(0)

    # Other threads

    def _read(self) -> None:
        while True:
            try:
                message = pipe.receive(self._source)
            except EOFError:
                message = ("close",)
            kind, *rest = message
            if kind == "run":
                number, job = rest
                self._coming.add(number)
                self._preparing.submit(self._prepare, number, job, time.perf_counter())
            elif kind == "cancel":
                answer = self._answers.get(rest[0])
                if answer is not None:
                    answer.request.cancel.set()
                    self._engine.cancelled()
                self._inbox.put(lambda number=rest[0]: self._cancel(number))  # type: ignore[misc]
            elif kind == "close":
                self._inbox.put(lambda: setattr(self, "_closing", True))
                return
            else:
                self._preparing.submit(self._ask, kind, *rest)

    def _prepare(self, number: int, job: Job, came: float) -> None:
        try:
            answer = self._desk.answer(job, came)
        except EdgellmError as error:
            failure = error
        except Exception as error:  # a thread's would be lost, and its client wait for ever
            failure = EngineError(f"the job failed: {error!r:.200}")
        else:
            self._inbox.put(lambda: self._add(number, answer))
            return
        self._coming.discard(number)
        self._gone.discard(number)
        self._outbox.put(("events", [(number, [failed(failure)])]))

    def _ask(self, kind: str, number: int, args: tuple[Any, ...]) -> None:
        """What needs no evaluation is answered at once, the rest is a task of the engine's."""
        from edgellm.serving import tasks

        try:
            if kind == "state":
                self._inbox.put(lambda: self._outbox.put(("reply", number, True, self._state())))
                return
            if kind in tasks.EVALUATING:
                task = tasks.EVALUATING[kind](self._engine, *args)
                self._inbox.put(lambda: self._tasks.append((number, task)))
                return
            self._outbox.put(("reply", number, True, tasks.PLAIN[kind](self._desk, *args)))
        except EdgellmError as error:
            self._outbox.put(("reply", number, False, error))
        except Exception as error:
            self._outbox.put(("reply", number, False, EngineError(f"{kind} failed: {error!r:.200}")))

    def _state(self) -> State:
        import psutil

        load = self._engine.load()
        return State(
            n_running=load.n_running,
            n_waiting=load.n_waiting,
            kv_used=load.kv_used,
            kv_size=load.kv_size,
            resident_bytes=psutil.Process().memory_info().rss,
            joules=self._shares.total,
            energy=self._shares.said,
        )

    def _write(self) -> None:
        while True:
            message = self._outbox.get()
            if isinstance(message, threading.Event):
                message.set()
                continue
            try:
                pipe.send(self._sink, message)
            except OSError:
                os._exit(0)  # nobody listens any more

    def _flush(self) -> None:
        """Wait for what was said to be written."""
        written = threading.Event()
        self._outbox.put(written)
        written.wait(2)


class Drafters:
    """Lends each answer a drafter. A draft model is one session: it serves one answer at a time, others go without."""

    def __init__(self, serving: ServingOptions, options: EngineOptions) -> None:
        from edgellm.generation import speculative

        self._lookup = serving.lookup
        self._model = speculative.DraftModel(serving.draft, options) if serving.draft else None
        self._free = threading.Semaphore()

    def lend(self) -> Drafter | None:
        """One, if there is one to spare."""
        from edgellm.generation import speculative

        if self._lookup:
            return speculative.Lookup()
        if self._model is not None and self._free.acquire(blocking=False):
            return self._model
        return None

    def give_back(self, drafter: Drafter | None) -> None:
        """An answer does not need its drafter any more."""
        if drafter is not None and drafter is self._model:
            self._free.release()


def main() -> None:
    """Serve standard input and output; what libraries print goes to standard error."""
    lifeline.follow()
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # a debugger, started to say where: seconds, for nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM are the parent's to handle
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Child(source, sink).run()
    os._exit(0)  # threads that still prepare something are nobody's any more


if __name__ == "__main__":
    main()
