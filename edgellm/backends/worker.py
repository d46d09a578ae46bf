"""The same `Session` in a child process: an engine that crashes or hangs becomes an error, not a dead program.

Parent and child talk over the child's standard input and output (pipe.py). The child's own standard output is moved
to standard error first, for libraries print.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgellm import lifeline
from edgellm.backends import pipe, registry, shared_flag
from edgellm.errors import CancelledError, EdgellmError, EngineCrashError, EngineError
from edgellm.formats.artifact import Artifact
from edgellm.machine import devices
from edgellm.session import Cancel, Constraint, Drafter, EngineInfo, EngineOptions, Sampling, Session

if TYPE_CHECKING:
    from edgellm.session import Hidden, Logits

#: ggml's, its RPC's, and C++'s last word.
_ASSERTION = re.compile(r"GGML_ASSERT\(.*|Remote RPC server .*|RPC .* failed.*|(?<=what\(\):).*")
_DEFAULTS = EngineOptions()
_LOOK_SECONDS, _DEAF_SECONDS = 0.2, 5.0  # between looks at a wish; of waiting for it to be heard


def open_isolated(
    artifact: Artifact,
    options: EngineOptions = _DEFAULTS,
    *,
    timeout_seconds: float | None = None,
    max_bytes: int | None = None,
    quiet: bool = False,
) -> Session:
    """Open `artifact` in a child process.

    `timeout_seconds` bounds each call, `max_bytes` the child's address space (POSIX). With `quiet` what libraries
    print is not shown; the assertion that ended one stands in the error. Raises EngineCrashError
    when the child dies or is killed for its time, EngineError when the engine refuses. The call after a crash
    opens the model again, with the same options and an empty sequence.
    """
    return WorkerSession(artifact, options, timeout_seconds, max_bytes, quiet)


class WorkerSession:
    """A `Session` whose engine lives in a child process."""

    def __init__(
        self,
        artifact: Artifact,
        options: EngineOptions,
        timeout_seconds: float | None,
        max_bytes: int | None,
        quiet: bool = False,
    ) -> None:
        self._artifact, self._timeout, self._max_bytes = artifact, timeout_seconds, max_bytes
        self._printed = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - as long as we
        self._closed = False
        self._lost = False  # the child died in an earlier call, which said so
        self._pieces: dict[
            int, bytes
        ] = {}  # those asked for: an answer is read again after its engine has gone
        self._info = self._open(options)

    def _open(self, options: EngineOptions) -> EngineInfo:
        """Start a child that runs the model."""
        self._flag, file = shared_flag.create()  # that a stream is to end
        self._child = _spawn(self._printed)
        try:
            info: EngineInfo = self._exchange("open", self._artifact, options, self._max_bytes, file)
            return info
        except BaseException:
            self._end_child()
            raise
        finally:
            if file is not None:
                with contextlib.suppress(OSError):  # Windows keeps the name while the child has the file
                    file.unlink()

    @property
    def artifact(self) -> Artifact:
        """The model this session runs."""
        return self._artifact

    @property
    def info(self) -> EngineInfo:
        """Facts fixed at opening."""
        return self._info

    @property
    def pid(self) -> int:
        """The child's process id, for meters."""
        return self._child.pid

    @property
    def tokens(self) -> Sequence[int]:
        """The ids in the child's KV cache."""
        tokens: list[int] = self._call("tokens")
        return tokens

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """Token ids of `text`."""
        ids: list[int] = self._call("tokenize", text, special=special, add_bos=add_bos)
        return ids

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""
        if token not in self._pieces:
            self._pieces[token] = self._call("piece", token)
        return self._pieces[token]

    def eval(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [n_vocab] after the last."""
        logits: Logits = self._call("eval", list(tokens))
        return logits

    def eval_all(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits [len(tokens), n_vocab]."""
        logits: Logits = self._call("eval_all", list(tokens))
        return logits

    def hidden(self, tokens: Sequence[int]) -> Hidden:
        """Append tokens; hidden states [len(tokens), n_embd]."""
        states: Hidden = self._call("hidden", list(tokens))
        return states

    def classify(self, tokens: Sequence[int]) -> dict[str, float]:
        """Append tokens; the classifier's outputs by label."""
        found: dict[str, float] = self._call("classify", list(tokens))
        return found

    def stream(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        drafter: Drafter | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[int]:
        """Append tokens, then yield sampled ids. The child works with copies of `constraint` and `drafter`."""
        limits = constraint.recipe() if constraint is not None else None
        self._ensure_child()  # whose flag it is
        wish, ended = cancel or Cancel(), threading.Event()
        if devices.servers(self._info.options.device):
            threading.Thread(target=_end_deaf, args=(self._child, wish, ended), daemon=True).start()
        try:
            with wish.shared(self._flag):
                yield from self._stream(list(tokens), sampling, limits, constraint, drafter)
        except EngineCrashError:
            if wish.is_set:
                raise CancelledError from None
            raise
        finally:
            ended.set()

    def _stream(
        self,
        tokens: list[int],
        sampling: Sampling,
        limits: object,
        constraint: Constraint | None,
        drafter: Drafter | None,
    ) -> Iterator[int]:
        self._call("stream", tokens, sampling, limits, drafter.recipe() if drafter is not None else None)
        child = self._child
        try:
            while (token := self._call("next")) is not None:
                if constraint is not None:
                    constraint.follow(token)
                yield token
                if self._lost or child is not self._child:
                    raise EngineError("the engine ended since; this answer cannot go on: ask again")
        finally:
            if not self._lost and child is self._child and child.poll() is None:
                self._call("stop")

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self._call("rewind", n)

    def reusable(self, n: int) -> int:
        """How many of the first `n` tokens a rewind keeps as they are."""
        found: int = self._call("reusable", n)
        return found

    def save_state(self) -> bytes:
        """The sequence's engine state."""
        state: bytes = self._call("save_state")
        return state

    def restore_state(self, state: bytes, tokens: Sequence[int]) -> None:
        """Put back what `save_state` gave."""
        self._call("restore_state", state, list(tokens))

    def close(self) -> None:
        """End the child. Idempotent."""
        self._closed = True
        self._end_child()
        if self._printed is not None:
            self._printed.close()

    def _end_child(self) -> None:
        child = self._child
        for end in (child.stdin, child.stdout):
            if end:
                with contextlib.suppress(OSError):
                    end.close()
        try:
            child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_child"):
            self.close()

    def _call(self, method: str, *args: object, **kwargs: object) -> Any:
        self._ensure_child()
        return self._exchange(method, *args, **kwargs)

    def _ensure_child(self) -> None:
        if self._closed:
            raise EngineError("this session is closed; open the model again")
        if self._lost:
            self._end_child()
            self._open(self._info.options)
            self._lost = False

    def _exchange(self, method: str, *args: object, **kwargs: object) -> Any:
        timer = threading.Timer(self._timeout, self._child.kill) if self._timeout else None
        if timer:
            timer.start()
        try:
            assert self._child.stdin and self._child.stdout
            pipe.send(self._child.stdin, (method, args, kwargs))
            ok, value = pipe.receive(self._child.stdout)
        except (EOFError, OSError, ValueError):
            self._lost = True
            raise EngineCrashError(self._epitaph(timed_out=bool(timer and timer.finished.is_set()))) from None
        except BaseException:  # an interrupt leaves the conversation mid-sentence: it cannot go on
            self._child.kill()
            self._lost = True
            raise
        finally:
            if timer:
                timer.cancel()
        if not ok:
            raise value
        return value

    def _epitaph(self, *, timed_out: bool) -> str:
        self._end_child()
        how = pipe.ending(self._child.returncode)
        if timed_out:
            how = f"did not answer in {self._timeout:g} s and was stopped"
        return f"the engine running {self._artifact.path.name} {how}{self._assertion()}; see: edgellm doctor"

    def _assertion(self) -> str:
        """What a library said when it gave up, in brackets; empty where nothing is known."""
        if self._printed is None:
            return ""
        self._printed.seek(0)
        found = _ASSERTION.search(self._printed.read().decode("utf-8", "replace"))
        return f" ({found[0].strip()[:120]})" if found else ""


def _end_deaf(child: subprocess.Popen[bytes], wish: Cancel, ended: threading.Event) -> None:
    """End a child whose stream goes on long after the wish that it end: llama.cpp hears none while it waits for a
    server on another machine.
    """
    while not ended.wait(_LOOK_SECONDS):
        if wish.is_set and not ended.wait(_DEAF_SECONDS):
            child.kill()
            return


def _spawn(stderr: IO[bytes] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgellm.backends.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        **lifeline.attached(),
    )


class _Child:
    """Serves requests until the pipe closes."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._stream: Iterator[int] = iter(())
        self._drafters: dict[bytes, Drafter] = {}
        self._cancel: Cancel | None = None

    def answer(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one request. Raises what the engine raises."""
        if method == "open":
            return self._open(*args)
        session = self._session
        assert session is not None
        if method == "stream":
            self._stream = self._begin(session, *args)
            return None
        if method == "next":
            return next(self._stream, None)
        if method == "stop":
            getattr(self._stream, "close", lambda: None)()
            return None
        if method == "tokens":
            return list(session.tokens)
        return getattr(session, method)(*args, **kwargs)

    def _begin(
        self,
        session: Session,
        tokens: Sequence[int],
        sampling: Sampling,
        constraint: Callable[[Session], Constraint] | None,
        drafter: Callable[[], Drafter] | None,
    ) -> Iterator[int]:
        """Copies of the parent's constraint and drafter; the drafter is kept, for it may hold a model."""
        kept = None
        if drafter is not None:
            key = pickle.dumps(drafter)
            kept = self._drafters.get(key) or self._drafters.setdefault(key, drafter())
        limits = constraint(session) if constraint is not None else None
        return session.stream(tokens, sampling, constraint=limits, drafter=kept, cancel=self._cancel)

    def _open(
        self, artifact: Artifact, options: EngineOptions, max_bytes: int | None, flag: Path | None
    ) -> EngineInfo:
        self._cancel = Cancel(shared_flag.attach(flag) if flag is not None else None)
        if max_bytes is not None and os.name == "posix":
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
        self._session = registry.open_here(artifact, options)
        return self._session.info


def main() -> None:
    """The child's loop."""
    lifeline.follow()
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # a debugger, started to say where: seconds, for nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    pipe_in, pipe_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    child = _Child()
    while True:
        try:
            method, args, kwargs = pipe.receive(pipe_in)
        except EOFError:
            return
        try:
            reply = (True, child.answer(method, args, kwargs))
        except EdgellmError as error:
            reply = (False, error)
        except (MemoryError, OSError) as error:
            reply = (False, EngineError(f"the engine failed: {error or type(error).__name__}"))
        pipe.send(pipe_out, reply)


if __name__ == "__main__":
    main()
