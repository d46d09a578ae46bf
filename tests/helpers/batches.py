"""Files of rows, the command that answers them, and what a session of one's own says to the same prompts."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plain import edgellm

_PLACES = ("France", "Italy", "China", "Japan", "Spain", "Egypt", "Peru", "Norway")
_THINGS = ("bread", "a river", "a robot", "the winter", "a garden", "a bridge", "music", "a lantern")
_FORMS = (
    "What is the capital of {place}?",
    "Tell me about {thing}.",
    "Write a sentence about {thing} and {place}.",
)
SETTINGS = {"temperature": 0, "max_tokens": 16}
SECONDS = 120.0  # no test waits longer for anything
ENGINE = ("-c", "512", "-t", "1")


def prompts(n: int) -> list[str]:
    """So many questions, no two alike."""
    found = [form.format(place=p, thing=t) for p in _PLACES for t in _THINGS for form in _FORMS]
    found = list(dict.fromkeys(found))
    return [found[i % len(found)] + " Please." * (i // len(found)) for i in range(n)]


def write(path: Path, rows: Sequence[Any]) -> Path:
    """A file of these rows; text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def asked(path: Path, n: int) -> Path:
    """A file of so many prompts, called r0, r1, ..."""
    return write(path, [{"custom_id": f"r{i}", "prompt": p, **SETTINGS} for i, p in enumerate(prompts(n))])


def alone(n: int) -> dict[str, str]:
    """What one session says to `asked(n)`, one prompt after the other."""
    import edgellm

    model = edgellm.load("tiny-qwen3", n_ctx=512, n_threads=1)
    return {f"r{i}": model.chat().ask(p, **SETTINGS).text for i, p in enumerate(prompts(n))}


def answers(path: Path) -> list[Any]:
    """The rows of an output."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def texts(path: Path) -> dict[str, str]:
    """What was answered, by custom_id; each is there once."""
    found = answers(path)
    counts = collections.Counter(row["custom_id"] for row in found)
    assert not [custom_id for custom_id, n in counts.items() if n > 1]
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in found}


def batch(
    source: Path | str, output: Path | str, *more: object, **options: Any
) -> subprocess.CompletedProcess:
    """The command, run to its end."""
    return edgellm("batch", "tiny-qwen3", "-i", source, "-o", output, *ENGINE, *more, **options)


@contextlib.contextmanager
def running(source: Path, output: Path, *more: object) -> Iterator[subprocess.Popen]:
    """The command while it runs; killed at the end."""
    arguments = ["batch", "tiny-qwen3", "-i", source, "-o", output, *ENGINE, *more]
    child = subprocess.Popen(
        [sys.executable, "-m", "edgellm", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def stopped(source: Path, output: Path, number: signal.Signals, after: int, *more: object) -> tuple[int, str]:
    """Exit code and last words of a run that gets a signal once it has answered so many rows."""
    part = output.with_name(f"{output.name}.part")
    with running(source, output, *more) as child:
        deadline = time.monotonic() + SECONDS
        while not part.exists() or part.read_bytes().count(b"\n") < after:
            assert child.poll() is None and time.monotonic() < deadline, child.stderr and child.stderr.read()
            time.sleep(0.005)
        os.kill(child.pid, number)
        _, said = child.communicate(timeout=SECONDS)
        return child.returncode, said.decode()
