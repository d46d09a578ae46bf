"""More clients than slots, one of which reads a byte a second: all get what is theirs, or are told to wait."""

import concurrent.futures
import contextlib
import json
import socket
import threading
import time

import pytest
import serving
from fault_rows import FULL, trials

from edgellm.serving.job import ServingOptions
from edgellm.session import EngineOptions

SLOTS = 4
ENGINE = EngineOptions(n_ctx=512, n_threads=1, n_threads_batch=1)
WORDS = ("cat", "dog", "girl", "boy", "river", "teacher", "garden", "bread", "bird", "farmer", "song", "tree")
PATH = "/v1/completions"


def prompt(i: int) -> str:
    return f"{WORDS[i % len(WORDS)].title()} number {i}: The {WORDS[i % len(WORDS)]}"


@pytest.fixture(scope="module")
def server():
    with serving.served(
        "tiny-qwen3", engine=ENGINE, serving=ServingOptions(n_slots=SLOTS, max_queue=2 * SLOTS)
    ) as running:
        yield running


def slow_reader(server, done: threading.Event) -> None:
    """Asks for a long answer and takes a byte a second of it."""
    body = json.dumps({"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "stream": True}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.suppress(OSError), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while not done.wait(1.0) and connection.recv(1):
            pass


@pytest.mark.fault(11, trials(full=20, fast=1))
def test_more_clients_than_slots(server):
    """As many rounds as promised: slots + 8 clients at once, one of them slow; nobody gets another's answer."""
    n = SLOTS + 8
    alone = [
        server.post(PATH, prompt=prompt(i), temperature=0, max_tokens=40, ignore_eos=True).json
        for i in range(n)
    ]
    expected = [one["choices"][0]["text"] for one in alone]
    assert len(set(expected)) > n // 2
    for _ in range(trials(full=20, fast=1)):
        done, waits = threading.Event(), []
        slow = threading.Thread(target=slow_reader, args=(server, done))
        slow.start()
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            asked = [pool.submit(until_served, server, prompt(i), i % 2 == 0) for i in range(n)]
            while not all(one.done() for one in asked):
                begin = time.monotonic()
                assert server.ask("GET", "/health").status == 200
                waits.append(time.monotonic() - begin)
                time.sleep(0.05)
            texts = [one.result() for one in asked]
        done.set()
        slow.join()
        assert texts == expected
        assert max(waits) < (0.2 if FULL else 2.0)


def until_served(server, text: str, stream: bool) -> str:
    """Ask again while the server says it is too busy, which it says with 429 and when to come again."""
    deadline = time.monotonic() + serving.SECONDS
    while True:
        asked = {"prompt": text, "temperature": 0, "max_tokens": 40, "ignore_eos": True, "stream": stream}
        said = server.post(PATH, **asked)
        if said.status == 200:
            break
        assert said.status == 429 and said.headers["retry-after"] and time.monotonic() < deadline
        time.sleep(0.1)
    if not stream:
        return said.json["choices"][0]["text"]
    return "".join(choice["text"] for chunk in said.events[:-1] for choice in chunk["choices"])


def test_a_full_queue_is_said_with_429():
    with serving.served(
        "tiny-qwen3", engine=ENGINE, serving=ServingOptions(n_slots=1, max_queue=1)
    ) as server:
        server.post(PATH, prompt="x", max_tokens=1)
        long = {"prompt": "Once", "max_tokens": 400, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            said = [one.result() for one in [pool.submit(server.post, PATH, **long) for _ in range(12)]]
        assert {one.status for one in said} == {200, 429}
        waits = [one.json["timings"]["queue_ms"] for one in said if one.status == 200]
        times = [one.json["timings"]["predicted_ms"] for one in said if one.status == 200]
        assert max(waits) > 0.5 * min(times)  # the second waits for the first
        refused = next(one for one in said if one.status == 429)
        assert refused.json["error"]["type"] == "rate_limit_error" and refused.headers["retry-after"]


def test_more_answers_in_one_request_than_there_are_places():
    """They take turns among themselves, and are refused to nobody."""
    with serving.served(
        "tiny-qwen3", engine=ENGINE, serving=ServingOptions(n_slots=2, max_queue=0)
    ) as server:
        said = server.post(PATH, prompt=[prompt(i) for i in range(6)], n=2, temperature=0, max_tokens=5)
        assert said.status == 200 and len(said.json["choices"]) == 12
        assert [one["text"] for one in said.json["choices"][::2]] == [
            one["text"] for one in said.json["choices"][1::2]
        ]


def test_an_answer_that_takes_too_long_is_ended():
    limited = ServingOptions(n_slots=1, timeout_seconds=1.5)
    with serving.served("tiny-qwen3", engine=EngineOptions(n_ctx=16_384), serving=limited) as server:
        server.post(PATH, prompt="x", max_tokens=1)
        endless = {"prompt": "Once", "max_tokens": -1, "ignore_eos": True}
        said = server.post(PATH, **endless)
        assert (said.status, said.json["error"]["type"]) == (504, "timeout_error")
        assert "1.5 s" in said.json["error"]["message"]
        *pieces, last = server.post(PATH, **endless, stream=True).events
        assert pieces and last["error"]["type"] == "timeout_error"
        assert server.post(PATH, prompt="x", max_tokens=1).status == 200
