"""N clients in one process that costs little, for bench/serve.py: one JSON plan on standard input, one result back.

The plan: `port`, `path`, `bodies` (one list of JSON texts a client, asked one after the other) and `timeout_s`, the
time without a byte after which a client gives up. Every request has a connection of its own, for llama-server closes
them after a stream. While the answers come, bytes are only kept with their time; they are read when all is over, so
that the client takes from the server no more than the copying. It imports nothing of edgellm's: every server meets the
same client.
"""

from __future__ import annotations

import itertools
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_END = b"\r\n0\r\n\r\n"  # of a chunked body; JSON's own text has no bare carriage return


@dataclass
class Asked:
    """A request, and what came back when."""

    sent: float
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    error: str | None = None


class Client:
    """Asks its requests in turn, each on a connection of its own."""

    def __init__(self, port: int, path: str, bodies: list[str]) -> None:
        self._port, self._bodies = port, iter(bodies)
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )
        self.done: list[Asked] = []

    def ask(self) -> socket.socket | None:
        """Send the next request; None where there is none."""
        body = next(self._bodies, None)
        if body is None:
            return None
        data = body.encode()
        self.done.append(Asked(time.monotonic()))
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.sendall(f"{self._head}{len(data)}\r\n\r\n".encode() + data)
        return connection

    def read(self, connection: socket.socket) -> bool:
        """Keep what has come; True when the answer is over."""
        asked = self.done[-1]
        try:
            data = connection.recv(1 << 16)
        except OSError as error:
            asked.error = f"reading: {error.strerror}"
            return True
        asked.chunks.append((time.monotonic(), data))
        return not data or b"".join(data for _, data in asked.chunks[-4:]).endswith(_END)


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """All answers, with the wall time and this process' own processor time meanwhile."""
    clients = [Client(plan["port"], plan["path"], bodies) for bodies in plan["bodies"]]
    selector = selectors.DefaultSelector()
    start, cpu = time.monotonic(), _cpu_seconds()
    for client in clients:
        _next(selector, client)
    while selector.get_map():
        ready = selector.select(plan["timeout_s"])
        for key, _ in ready or list(_silent(selector, plan["timeout_s"])):
            if not ready or key.data.read(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                _next(selector, key.data)
    wall, cpu = time.monotonic() - start, _cpu_seconds() - cpu
    answers = [read_answer(asked) for client in clients for asked in client.done]
    return {"wall_s": wall, "client_cpu_s": cpu, "answers": answers}


def _next(selector: selectors.BaseSelector, client: Client) -> None:
    if connection := client.ask():
        selector.register(connection, selectors.EVENT_READ, client)


def _silent(selector: selectors.BaseSelector, seconds: float) -> Iterator[tuple[selectors.SelectorKey, int]]:
    for key in selector.get_map().values():
        key.data.done[-1].error = f"nothing came for {seconds:.0f} s"
        yield key, 0


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_answer(asked: Asked) -> dict[str, Any]:
    """Seconds to the first text (`ttft_s`), between texts (`gaps_s`), token counts, the text, and an error or None."""
    texts: list[tuple[float, str]] = []
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    error, over = asked.error or _refusal(asked.chunks), False
    for when, event in events(asked.chunks):
        if event == "[DONE]":
            over = True
            continue
        data = json.loads(event)
        if "error" in data:
            error = error or json.dumps(data["error"])
        usage, timings = data.get("usage") or usage, data.get("timings") or timings
        text = "".join(c.get("delta", {}).get("content") or "" for c in data.get("choices", ()))
        if text:
            texts.append((when, text))
    if error is None and not (texts and over):
        error = "the stream ended without text" if over else "the stream ended without [DONE]"
    times = [when for when, _ in texts]
    return {
        "error": error,
        "ttft_s": times[0] - asked.sent if times else None,
        "decode_s": times[-1] - times[0] if times else None,
        "gaps_s": [b - a for a, b in itertools.pairwise(times)],
        "n_events": len(texts),
        "n_prompt": usage.get("prompt_tokens"),
        "n_cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", timings.get("cache_n")),
        "n_generated": usage.get("completion_tokens"),
        "text": "".join(text for _, text in texts),
    }


def _refusal(chunks: list[tuple[float, bytes]]) -> str | None:
    whole = b"".join(data for _, data in chunks)
    return None if whole.startswith(b"HTTP/1.1 200") else whole.decode(errors="replace")[:500] or "no answer"


def events(chunks: list[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """The `data:` lines of a chunked answer, each with the time its last byte came."""
    raw, body, line = b"", b"", b""
    in_head = True
    for when, data in chunks:
        raw += data
        if in_head:
            _, mark, rest = raw.partition(b"\r\n\r\n")
            if not mark:
                continue
            raw, in_head = rest, False
        body, raw = _unchunked(raw)
        *lines, line = (line + body).split(b"\n")
        for found in lines:
            if found.startswith(b"data:"):
                yield when, found[5:].strip().decode()


def _unchunked(raw: bytes) -> tuple[bytes, bytes]:
    """The whole chunks at the beginning of `raw` without their sizes, and the rest."""
    body = []
    while (mark := raw.find(b"\r\n")) > 0:
        size = int(raw[:mark].split(b";")[0], 16)
        end = mark + 2 + size + 2
        if len(raw) < end:
            break
        body.append(raw[mark + 2 : end - 2])
        raw = raw[end:]
    return b"".join(body), raw


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
