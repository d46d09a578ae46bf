"""Streams ended by those who do not read them, again and again, in a process whose crash a test can see.

    python stream_misuse.py MODEL ISOLATED ROUNDS

Prints "ok" when after every round the model gave the answer it gives undisturbed.
"""

import asyncio
import contextlib
import faulthandler
import gc
import signal
import sys
import threading

import edgellm
from edgellm.errors import UsageError

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
STORY = "Once upon a time, "


def endless(model, prompt=STORY):
    return model.stream(prompt, ignore_eos=True, max_tokens=400)


def read_in_thread(stream):
    """A thread that reads, once it has begun to (for a long prompt: once it evaluates)."""
    begun, pieces, failed = threading.Event(), [], []

    def read():
        try:
            begun.set()
            for piece in stream:
                pieces.append(piece)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait()
    return thread, pieces, failed


def ended_by(end, model, prompt=STORY):
    stream = endless(model, prompt)
    thread, _, failed = read_in_thread(stream)
    end(stream)
    # Not waiting for the reader: the next call is what used to crash.
    model.complete(FRANCE, max_tokens=1)
    thread.join()
    assert not failed, failed
    assert stream.answer.finish_reason == "cancelled", stream.answer


def closed_elsewhere(model):
    ended_by(lambda stream: stream.close(), model)


def cancelled_elsewhere(model):
    ended_by(lambda stream: stream.cancel(), model)


def closed_while_the_prompt_is_read(model):
    ended_by(lambda stream: stream.close(), model, STORY * 60)


def closed_by_many(model):
    def end(stream):
        closers = [threading.Thread(target=stream.close) for _ in range(4)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()

    ended_by(end, model)


def cancelled_in_the_only_reading(model):
    """Whoever cancels does not wait, and the reader does not come back: the model is free all the same."""
    stream = endless(model, STORY * 60)
    begun = threading.Event()
    reader = threading.Thread(target=lambda: (begun.set(), next(stream, None)))
    reader.start()
    begun.wait()
    stream.cancel()
    model.complete(FRANCE, max_tokens=1)
    reader.join()


def read_by_two(model):
    stream = model.stream(STORY, temperature=0, max_tokens=30)
    readers = [read_in_thread(stream) for _ in range(2)]
    for thread, _, _ in readers:
        thread.join()
    found = [piece for _, pieces, failed in readers for piece in pieces if not failed]
    assert sorted("".join(found)) == sorted(stream.text)


def dropped_in_a_cycle(model):
    """The collector ends it, in whichever thread it runs."""
    stream = endless(model)
    next(stream)
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle
    other = threading.Thread(target=lambda: model.complete(FRANCE, max_tokens=1))
    other.start()  # waits for the turn, which only the collector can give back
    gc.collect()
    other.join()


def a_task_given_up(model):
    async def ask():
        stream, loop = endless(model), asyncio.get_running_loop()

        async def read():
            while await loop.run_in_executor(None, next, stream, None):
                pass

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.005)  # gives up waiting; the executor's thread is in the engine
        stream.cancel()
        return await loop.run_in_executor(None, lambda: stream.answer.finish_reason)

    assert asyncio.run(ask()) == "cancelled"


def closed_by_a_signal_handler(model):
    stream = endless(model)
    before = signal.signal(signal.SIGALRM, lambda *_: stream.close())
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    pieces = list(stream)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert stream.answer.finish_reason == "cancelled" or len(pieces) > 100


def used_by_a_signal_handler(model):
    """Another call from within the very reading is refused, and harms nothing."""
    stream, refused = endless(model), []

    def use(*_):
        try:
            model.complete("x", max_tokens=1)
        except UsageError as error:
            refused.append(error)

    before = signal.signal(signal.SIGALRM, use)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with contextlib.suppress(UsageError):  # or between two readings: then it takes the stream away
        list(stream)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


MISUSES = (
    closed_elsewhere,
    cancelled_elsewhere,
    closed_while_the_prompt_is_read,
    closed_by_many,
    cancelled_in_the_only_reading,
    read_by_two,
    dropped_in_a_cycle,
    a_task_given_up,
    closed_by_a_signal_handler,
    used_by_a_signal_handler,
)


def main(name: str, isolated: str, rounds: str) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(200, exit=True)
    with edgellm.load(name, n_ctx=512, n_threads=1, isolated=isolated == "1") as model:
        expected = model.complete(FRANCE, temperature=0).text
        for i in range(int(rounds)):
            for misuse in MISUSES:
                misuse(model)
                found = model.complete(FRANCE, temperature=0).text
                assert found == expected, (i, misuse.__name__, found)
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
