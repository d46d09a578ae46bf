"""edgellm and llama-cpp-python doing the same chat, for bench/runtime.py: in this process and in fresh ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edgellm
from edgellm.formats.artifact import Artifact

SIDES = ("llama-cpp-python", "edgellm")
N_CTX = 2048
TURN_TOKENS = 48
QUESTION = "Tell me a story about a small robot that finds a lost cat in the rain. Number {}."


class Edgellm:
    """A chat answer through the Python API."""

    def __init__(self, path: str, threads: int) -> None:
        from edgellm.session import EngineOptions

        self.model = edgellm.load(
            path, options=EngineOptions(n_ctx=N_CTX, n_threads=threads, flash_attn="on")
        )

    def answer(self, messages: list[dict[str, str]], n: int) -> Iterator[str]:
        """Text in pieces."""
        return self.model.stream(messages, max_tokens=n, seed=1)

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache."""
        return len(self.model.session.tokens)

    def forget(self) -> None:
        """Empty the cache."""
        self.model.session.rewind(0)


class LlamaCppPython:
    """The same through create_chat_completion, with the same sampling, batch sizes and flash attention."""

    def __init__(self, path: str, threads: int) -> None:
        from llama_cpp import Llama

        self.llama = Llama(
            path,
            n_ctx=N_CTX,
            n_threads=threads,
            n_threads_batch=threads,
            n_batch=2048,
            flash_attn=True,
            verbose=False,
        )

    def answer(self, messages: list[dict[str, str]], n: int) -> Iterator[str]:
        """Text in pieces."""
        chunks = self.llama.create_chat_completion(
            messages, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=1, max_tokens=n, stream=True
        )
        for chunk in chunks:
            if text := chunk["choices"][0]["delta"].get("content"):
                yield text

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache."""
        return int(self.llama.n_tokens)

    def forget(self) -> None:
        """Empty the cache."""
        self.llama.reset()


KINDS = dict(zip(SIDES, (LlamaCppPython, Edgellm), strict=True))


def timed(side: Any, messages: list[dict[str, str]], n: int) -> dict[str, float]:
    """Seconds to the first text, and tokens per second from there to the last."""
    start = time.perf_counter()
    marks = [(time.perf_counter(), side.n_tokens) for _ in side.answer(messages, n)]
    (first, n_first), (last, n_last) = marks[0], marks[-1]
    return {"first": first - start, "decode": (n_last - n_first) / (last - first)}


class Peer:
    """One model on both sides."""

    def __init__(self, artifact: Artifact, threads: int, n_gen: int, quick: bool) -> None:
        self._path, self._threads, self._n_gen = str(artifact.path), threads, n_gen
        self._n_turns = 3 if quick else 10

    @contextlib.contextmanager
    def answering(self) -> Iterator[dict[str, Callable[[], dict[str, float]]]]:
        """Both sides open; each call answers the same question from an empty cache."""
        sides = {name: kind(self._path, self._threads) for name, kind in KINDS.items()}

        def run(side: Any) -> dict[str, float]:
            side.forget()
            return timed(side, [{"role": "user", "content": QUESTION.format(1)}], self._n_gen)

        yield {name: lambda side=side: run(side) for name, side in sides.items()}  # type: ignore[misc]
        sides["edgellm"].model.close()
        sides["llama-cpp-python"].llama.close()

    def in_fresh_processes(
        self, part: str, rounds: int, abba: Callable[..., Any], compare: Callable[..., Any]
    ) -> dict[str, Any]:
        """Launch both sides in turn; figures by name."""
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for side, figures in abba(
            rounds, {side: lambda side=side: self._launch(part, side) for side in SIDES}
        ):
            runs[side].append(figures)
        names = runs["edgellm"][0]
        unit = "s" if part == "cold" else "MB"
        return {
            name: compare(
                {side: [r[name] for r in found] for side, found in runs.items()}, f"  {name:18}", unit
            )
            for name in names
        }

    def _launch(self, part: str, side: str) -> dict[str, float]:
        script = Path(__file__).with_name("runtime.py")
        turns = 1 if part == "cold" else self._n_turns
        arguments = ["--child", part, side, self._path, str(self._threads), str(turns)]
        start = time.time()
        done = subprocess.run(
            [sys.executable, str(script), *arguments, str(start)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures


def child(part: str, side: str, path: str, threads: str, turns: str, start: str) -> None:
    """One launch: print the figures as JSON."""
    opened = KINDS[side](path, int(threads))
    messages: list[dict[str, str]] = []
    figures: dict[str, float] = {}
    for turn in range(int(turns)):
        messages.append({"role": "user", "content": QUESTION.format(turn)})
        text = "".join(opened.answer(messages, 1 if part == "cold" else TURN_TOKENS))
        if part == "cold":  # not the first text: random weights often begin with half a character
            print(json.dumps({"cold start": time.time() - float(start)}))
            return
        messages.append({"role": "assistant", "content": text})
        if turn == 0 or turn == int(turns) - 1:
            figures |= {f"{name}, {turn + 1} turns": value for name, value in memory().items()}
    print(json.dumps(figures))


def memory() -> dict[str, float]:
    """This process and its children in MB: their share of all resident pages, and pages no file backs."""
    import psutil

    found = {"Pss": 0, "Anonymous": 0}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            if (name := line.split(":")[0]) in found:
                found[name] += int(line.split()[1])
    return {"resident": found["Pss"] / 1000, "anonymous": found["Anonymous"] / 1000}
