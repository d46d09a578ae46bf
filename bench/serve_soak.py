"""`edgellm serve` under full load for a long time: does its memory stay flat, and does everybody get an answer?

    python bench/serve_soak.py MODEL [--minutes 60] [--clients 8] [-t 2] [-o FILE.jsonl]

As many clients as slots, each asking one thing after the other in an order of its own: whole answers, streams, streams
that are reset half-way, tool calls, answers by a schema, long prompts. Answers are looked at: a schema's must be valid
JSON, a tool call's arguments too, a stream must end. Every ten seconds the resident memory, descriptors and threads of
the server and of what it started are noted (-o keeps them). Settling takes the first 10 minutes (a third, where the run
is shorter than 30). Met is: no error, the engine never restarted, memory of server and engine each less than 2% above
the settled (medians of the first fifth of the samples after settling and of the last), and no descriptor or thread more
when idle than before. Prints one JSON object; exit code 3 where it is not met. Linux.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import random
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import serve_servers
from serve import words
from serve_servers import Running, Setup

GROWTH = 0.02
EVERY_SECONDS = 10.0
CHAT = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Find it.", "parameters": SCHEMA}}
KINDS = ("whole", "stream", "reset", "tool", "schema", "long")


class Fault(Exception):
    """What a client got and should not have."""


class Clients:
    """Threads that ask until they are told to stop."""

    def __init__(self, port: int, n: int, n_ctx: int) -> None:
        self._port, self._n_ctx = port, n_ctx
        self._stop = threading.Event()
        self.done: collections.Counter[str] = collections.Counter()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._ask_on, args=(i,)) for i in range(n)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stop.is_set():
            kind = rng.choice(KINDS)
            try:
                ask(self._port, kind, rng, self._n_ctx)
            except (OSError, http.client.HTTPException, ValueError, KeyError, Fault) as error:
                self.errors.append(f"{kind}: {error!r:.300}")
                time.sleep(1)  # an error that stays must not fill the memory of this process
            self.done[kind] += 1


def ask(port: int, kind: str, rng: random.Random, n_ctx: int) -> None:
    """One request of a kind, and a look at what comes. Raises Fault and what its parts raise."""
    n_prompt = n_ctx // 2 if kind == "long" else rng.randrange(20, 200)
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"{rng.randrange(10**6)}: {words(rng, n_prompt)}"},
        ],
        "max_tokens": rng.randrange(64, 96)
        if kind == "tool"
        else rng.randrange(16, 96),  # room for a whole call
        "seed": rng.randrange(10**6),
        "stream": kind != "whole" and (kind in ("stream", "reset") or rng.random() < 0.5),
    }
    if kind == "tool":
        body |= {"tools": [TOOL], "tool_choice": "required"}
    if kind == "schema":
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise Fault(f"status {response.status}: {response.read()[:200]!r}")
        if kind == "reset":
            for _ in range(rng.randrange(20)):
                response.readline()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            response.close()
            return
        check(kind, streamed(response) if body["stream"] else whole(response))
    finally:
        connection.close()


def whole(response: http.client.HTTPResponse) -> tuple[str, str]:
    """Text and arguments of a call, of an answer that came as one."""
    (choice,) = json.load(response)["choices"]
    calls = choice["message"].get("tool_calls") or []
    return choice["message"]["content"] or "", "".join(call["function"]["arguments"] for call in calls)


def streamed(response: http.client.HTTPResponse) -> tuple[str, str]:
    """The same of a stream. Raises Fault where it does not end as it should."""
    text, arguments, reason = "", "", None
    for line in response:
        if line == b"data: [DONE]\n" and reason:
            return text, arguments
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise Fault(json.dumps(event["error"]))
            for choice in event["choices"]:
                delta, reason = choice["delta"], choice["finish_reason"] or reason
                text += delta.get("content") or ""
                arguments += "".join(call["function"]["arguments"] for call in delta.get("tool_calls") or [])
    raise Fault("a stream without an end")


def check(kind: str, answer: tuple[str, str]) -> None:
    """Raises Fault, ValueError where an answer is not what was asked for."""
    text, arguments = answer
    if kind in ("tool", "schema"):
        found = json.loads(arguments if kind == "tool" else text)
        if not isinstance(found.get("name"), str) or not isinstance(found.get("n"), int):
            raise Fault(f"{found} is not by the schema")
    elif not text:
        raise Fault("an empty answer")


def look(running: Running) -> dict[str, Any]:
    """Memory in bytes, descriptors and threads, of the server and of its descendants together."""
    found: dict[str, Any] = {"time": time.monotonic(), "fds": 0, "threads": 0, "server": 0, "engine": 0}
    for pid in running.processes():
        process = psutil.Process(pid)
        found["server" if pid == running.process.pid else "engine"] += process.memory_info().rss
        found["fds"] += process.num_fds()
        found["threads"] += process.num_threads()
    found["pids"] = sorted(running.processes())
    return found


def idle(running: Running) -> dict[str, Any]:
    """The same when nobody has asked anything for a while."""
    time.sleep(3)
    return look(running)


def verdict(
    samples: list[dict[str, Any]], settle: float, before: dict[str, Any], after: dict[str, Any]
) -> tuple[dict[str, float], list[str]]:
    """Growth by process, and what is not met."""
    start = samples[0]["time"]
    settled = [s for s in samples if s["time"] - start >= settle]
    fifth = max(1, len(settled) // 5)
    growth, missed = {}, []
    for name in ("server", "engine"):
        first = statistics.median(s[name] for s in settled[:fifth])
        last = statistics.median(s[name] for s in settled[-fifth:])
        growth[name] = last / first - 1
        if growth[name] >= GROWTH:
            missed.append(
                f"memory of the {name} grew by {100 * growth[name]:.1f}%, {last - first:,.0f} bytes"
            )
    for name in ("fds", "threads"):
        if after[name] > before[name]:
            missed.append(f"{after[name]} {name} when idle, {before[name]} before")
    if before["pids"] != after["pids"]:
        missed.append(f"processes {before['pids']} became {after['pids']}: the engine was restarted")
    return growth, missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8, help="and slots")
    parser.add_argument("--slot-ctx", type=int, default=2048, help="tokens of context a slot")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, help="append the samples, one JSON line each")
    args = parser.parse_args()
    setup = Setup(args.model.resolve(), args.threads, args.clients, args.slot_ctx)
    settle = 600 if args.minutes >= 30 else 20 * args.minutes
    samples = []
    with serve_servers.running(serve_servers.edgellm_server(), setup) as running:
        for kind in KINDS:
            ask(running.port, kind, random.Random(0), args.slot_ctx)
        with Clients(running.port, args.clients, args.slot_ctx):
            time.sleep(EVERY_SECONDS)  # every thread that is ever needed has been started then
        before = idle(running)
        with Clients(running.port, args.clients, args.slot_ctx) as clients:
            end = time.monotonic() + 60 * args.minutes
            while time.monotonic() < end and len(clients.errors) < 1000:
                time.sleep(EVERY_SECONDS)
                samples.append(look(running))
                if args.out:
                    with args.out.open("a") as file:
                        print(json.dumps(samples[-1]), file=file)
        after = idle(running)
    growth, missed = verdict(samples, settle, before, after)
    missed += [f"{len(clients.errors)} errors, the first: {clients.errors[0]}"] if clients.errors else []
    result = {
        "minutes": args.minutes,
        "clients": args.clients,
        "threads": args.threads,
        "model": str(args.model),
        "requests": dict(clients.done),
        "errors": clients.errors[:20],
        "growth": growth,
        "idle_before": before,
        "idle_after": after,
        "resident_mb": {
            name: [round(s[name] / 1e6, 1) for s in samples[:: max(1, len(samples) // 30)]]
            for name in ("server", "engine")
        },
        "missed": missed,
    }
    print(json.dumps(result))
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
