"""Measures settings in a child process: opens them side by side and visits them for a moment each.

Run as `python -m edgellm.tuning.probe`: one JSON request per line on standard input, one JSON answer per line on
standard output; whatever libraries print goes to standard error. A prompt as long as the depth is evaluated only
where the engine's cache cannot be lengthened (`stretch`). Knows what a visit is; knows no statistics.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgellm import backends, lifeline
from edgellm.errors import EdgellmError, EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.session import EngineOptions, Session
from edgellm.tuning.space import DECODE, PREFILL, SHORT_PREFILL

#: Seconds of one visit, about.
VISIT_SECONDS = {DECODE: 0.25, PREFILL: 4.0, SHORT_PREFILL: 1.0}
MIN_TOKENS, MAX_TOKENS = 4, 64  # decoded in one visit
PROMPT_TOKENS = 512  # evaluated in a visit, at most: the widest batch worth trying
MARGIN = PROMPT_TOKENS + 1  # of context, beyond the depth
_CHUNK = 64  # tokens a prompt's length is a multiple of
_SEED_TOKENS = 32  # evaluated before a cache is lengthened

#: Options that say how the weights lie in memory.
_OF_WEIGHTS = ("device", "n_gpu_layers", "use_mmap", "repack")

_COMMAND = (sys.executable, "-m", "edgellm.tuning.probe")


class Probe:
    """A `Bench` (search.py) on one model, whose work is done by a child process, a fresh one at each start."""

    def __init__(
        self, artifact: Artifact, depths: Sequence[int], seconds: Mapping[str, float] = VISIT_SECONDS
    ) -> None:
        self._path, self._seconds = artifact.path, seconds
        self._n_ctx = max(depths) + MARGIN
        self._child: subprocess.Popen[str] | None = None
        self._numbers: dict[EngineOptions, int] = {}
        self._refused: dict[EngineOptions, str] = {}
        self._over = False

    def start(self, variants: Sequence[EngineOptions]) -> None:
        """Open `variants` in a fresh child. Raises EngineError when none can be opened."""
        self.close()
        self._child = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **lifeline.attached(),
        )
        self._numbers, self._refused = {}, {}
        for options in variants:
            asked = {"path": str(self._path), "options": asdict(replace(options, n_ctx=self._n_ctx))}
            try:
                self._numbers[options] = self._ask("open", **asked)
            except EngineCrashError:
                raise
            except EngineError as error:
                self._refused[options] = str(error)
        if not self._numbers:
            raise EngineError(f"no settings could be tried: {next(iter(self._refused.values()))}")

    def why_not(self, options: EngineOptions) -> str | None:
        """Why these settings were refused."""
        return self._refused.get(options)

    def visit(self, options: EngineOptions, phase: str, depth: int) -> float:
        """Tokens per second of `phase` behind `depth` cached tokens."""
        number, seconds = self._numbers[options], self._seconds[phase]
        what = "decode" if phase == DECODE else "prefill"
        rate: float = self._ask(what, number=number, depth=depth, seconds=seconds)
        return rate

    def stop(self) -> None:
        """End for good, from another thread: whatever waits for the child, or asks later, gets an EngineError."""
        self._over = True
        self.close()

    def close(self) -> None:
        """End the child. Idempotent."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, what: str, **values: Any) -> Any:
        child = self._child
        if self._over or child is None:
            self.close()
            raise EngineError("the time for trying settings is over")
        assert child.stdin and child.stdout
        line = ""
        with contextlib.suppress(OSError, ValueError):  # closed by the child's end, or by ours
            child.stdin.write(json.dumps({"what": what, **values}) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        if not line:
            raise EngineCrashError(
                f"the process that tried settings on {self._path.name} {_ending(child.wait())}; see: edgellm doctor"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["value"]


def _ending(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class Prober:
    """The child's side: sessions of one model, side by side."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._asked: list[EngineOptions] = []
        self._prompts: dict[float, int] = {}  # seconds of a visit -> tokens of its prompt

    def open(self, path: str, options: dict[str, Any]) -> int:
        """Open settings; return their number. Weights already loaded in the same way are shared."""
        wanted = EngineOptions(**options)
        for session, asked in zip(self._sessions, self._asked, strict=True):
            sibling = getattr(session, "sibling", None)
            if sibling and all(getattr(asked, name) == getattr(wanted, name) for name in _OF_WEIGHTS):
                self._sessions.append(sibling(wanted))
                break
        else:
            self._sessions.append(backends.open_session(Artifact.open(Path(path)), wanted))
        self._asked.append(wanted)
        number = len(self._sessions) - 1
        _fill(self._sessions[number], _SEED_TOKENS)
        _timed(self._sessions[number], _ids(self._sessions[number], 1))  # touch all weights and buffers once
        return number

    def decode(self, number: int, depth: int, seconds: float) -> float:
        """Tokens per second of decoding for about `seconds` behind `depth` cached tokens."""
        session = self._sessions[number]
        _fill(session, depth)
        token = _ids(session, 1)
        per_token = _timed(
            session, token
        )  # the caches are cold after another's visit: this one does not count
        n = max(MIN_TOKENS, min(MAX_TOKENS, round(seconds / per_token)))
        return n / _timed(session, *([token] * n))

    def prefill(self, number: int, depth: int, seconds: float) -> float:
        """Tokens per second of a prompt of at most PROMPT_TOKENS that takes about `seconds`."""
        session = self._sessions[number]
        _fill(session, depth)
        if seconds not in self._prompts:
            short = _SEED_TOKENS / _timed(session, _ids(session, _SEED_TOKENS))
            chunks = int(seconds * short / _CHUNK)
            self._prompts[seconds] = max(1, min(PROMPT_TOKENS // _CHUNK, chunks)) * _CHUNK
        n = self._prompts[seconds]  # the same for all settings
        return n / _timed(session, _ids(session, n))


def _fill(session: Session, depth: int) -> None:
    """Bring the cache to `depth` tokens."""
    stretch = getattr(session, "stretch", None)
    seed = min(_SEED_TOKENS, depth) if stretch else depth
    if len(session.tokens) > depth:
        session.rewind(depth)
    if len(session.tokens) < seed:
        session.eval(_ids(session, seed)[len(session.tokens) :])
    if stretch and len(session.tokens) < depth:
        with contextlib.suppress(EngineError):  # a state of another kind
            stretch(depth)
    if missing := depth - len(session.tokens):
        session.eval(_ids(session, missing))


def _ids(session: Session, n: int) -> list[int]:
    """`n` ids spread over the vocabulary."""
    return [(7919 * i) % session.info.n_vocab for i in range(1, n + 1)]


def _timed(session: Session, *batches: Sequence[int]) -> float:
    """Seconds of evaluating one batch after the other; the cache is as before afterwards."""
    have, begin = len(session.tokens), time.perf_counter()
    for tokens in batches:
        session.eval(tokens)
    taken = time.perf_counter() - begin
    session.rewind(have)
    return taken


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """The child's whole life: it ends when nobody asks any more."""
    lifeline.follow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # libraries print
        prober = Prober()
        calls: dict[str, Callable[..., float]] = {
            "open": prober.open,
            "decode": prober.decode,
            "prefill": prober.prefill,
        }
        for request in _requests():
            call = calls[request.pop("what")]
            try:
                answer: dict[str, float | str] = {"value": call(**request)}
            except EdgellmError as error:
                answer = {"error": str(error)}
            except MemoryError:
                answer = {"error": "there is not enough memory"}
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
