"""Clients that vanish, engines that are killed, at any event: slots come free, nothing grows, others are served."""

import concurrent.futures
import os
import random
import signal
import sys
import time

import pytest
import served_program
from fault_rows import FULL, trials

#: What is promised on a machine of one's own; a test run that shares it with others only has to get there.
FREE_SECONDS, SERVED_SECONDS = (1.0, 5.0) if FULL else (10.0, 60.0)
GROWTH = 0.02
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ENDLESS = {"max_tokens": -1, "ignore_eos": True, "temperature": 1.0}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors and kills as Linux does")


@pytest.fixture(scope="module")
def server():
    with served_program.program("tiny-qwen3", "-c", "4096", "--slots", "4") as running:
        running.post(TEXT, prompt="Once", max_tokens=1)
        yield running


def question(rng):
    """An endless answer: short and long prompts, one answer or several, both protocols."""
    text = " ".join(rng.choices(("cat", "river", "bread", "song"), k=rng.choice((1, 20, 500))))
    asked = {**ENDLESS, "n": rng.choice((1, 1, 1, 3)), "seed": rng.randrange(1000)}
    if rng.random() < 0.5:
        return CHAT, {"messages": [{"role": "user", "content": text}], **asked}
    return TEXT, {"prompt": text, **asked}


def vanish(server, rng):
    """Ask, read a random number of events - maybe none - and reset the connection."""
    stream = served_program.Stream(server.port, *question(rng))
    wanted = rng.choice((0, 0, 1, 2, rng.randrange(40)))
    if wanted:
        for i, event in enumerate(stream.events(), start=1):
            assert "error" not in event, event
            if i == wanted:
                break
    elif rng.random() < 0.5:
        time.sleep(rng.random() / 20)  # while its prompt is evaluated
    stream.reset()


@pytest.mark.fault(10, 0)
def test_clients_that_vanish_free_their_slots_and_leave_nothing(server, request):
    """Row 10. One after the other, and four at once, which is all slots."""
    rng, count = random.Random(10), trials(300, 12)
    expected = server.post(TEXT, prompt="The capital of France is", temperature=0).json["choices"]
    for _ in range(30 if FULL else 4):
        vanish(server, rng)
    server.until(server.idle, FREE_SECONDS)
    before, done = server.use(), 0
    while done < count:
        at_once = 4 if rng.random() < 0.2 else 1
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            seeds = [random.Random(rng.randrange(10**9)) for _ in range(at_once)]
            list(pool.map(lambda seed: vanish(server, seed), seeds))
        server.until(server.idle, FREE_SECONDS)
        done += at_once
    after = server.use()
    assert after.fds <= before.fds and after.threads <= before.threads, (before, after)
    if FULL:  # a few requests say nothing about growth
        assert after.resident < (1 + GROWTH) * before.resident, (before, after)
    answer = server.post(TEXT, prompt="The capital of France is", temperature=0).json["choices"]
    assert answer == expected
    request.node.user_properties.append(("fault", (10, done)))


@pytest.mark.fault(15, 0)
def test_a_killed_engine_is_a_clear_error_and_the_next_request_is_served(server, request):
    """Row 15. Two streams and a whole answer run; each is told in one line."""
    rng, count = random.Random(15), trials(50, 2)
    asked = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    expected = server.post(TEXT, **asked).json["choices"]
    for _ in range(count):
        engine = server.engine
        streams = [
            served_program.Stream(server.port, path, {"prompt": "Once", **ENDLESS}) for path in (TEXT, TEXT)
        ]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            whole = pool.submit(server.post, TEXT, prompt="Once", **ENDLESS)
            events = [stream.events() for stream in streams]
            for one in events:
                for _ in range(rng.randrange(1, 20)):
                    assert "error" not in next(one)
            server.until(lambda: server.gauge("requests_processing") == 3)
            os.kill(engine, signal.SIGKILL)
            begin = time.monotonic()
            for one, stream in zip(events, streams, strict=True):
                *_, last = one
                check_told(last["error"])
                stream.close()
            said = whole.result()
            assert said.status == 503 and said.headers["retry-after"]
            check_told(said.json["error"])
        assert server.post(TEXT, **asked).json["choices"] == expected
        took = time.monotonic() - begin
        assert took < SERVED_SECONDS, took
        assert server.engine != engine
    request.node.user_properties.append(("fault", (15, count)))


def check_told(error):
    assert "died of SIGKILL" in error["message"] and "\n" not in error["message"]
    assert error["type"] == "unavailable_error"
