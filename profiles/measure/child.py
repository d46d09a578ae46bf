"""A launch as a child process: start it, listen to it, say how it died. Knows nothing of what is measured."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO

from edgellm import lifeline
from edgellm.errors import EngineCrashError, EngineError
from edgellm.profiles.measure.launch import LaunchRequest
from edgellm.profiles.result.codec import from_plain, to_plain
from edgellm.profiles.result.result import Launch

#: Receives a line about what is going on.
Progress = Callable[[str], None]

LAUNCH_COMMAND = (sys.executable, "-m", "edgellm.profiles.measure.launch")


def launch(request: LaunchRequest, progress: Progress) -> Launch:
    """One launch in a fresh process. Raises EngineError: what the child said, or how it died."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            LAUNCH_COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            **lifeline.attached(),
        )
        try:
            assert child.stdin and child.stdout
            with (
                contextlib.suppress(BrokenPipeError),
                child.stdin,
            ):  # a child that died at once is told of below
                json.dump(to_plain(request), child.stdin)
            result = _listen(child.stdout, progress)
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        if result is None:
            raise EngineCrashError(f"the launch {_ending(code)}{_last_line(errors)}; see: edgellm doctor")
    return result


def _listen(lines: IO[str], progress: Progress) -> Launch | None:
    for line in lines:
        if not line.startswith("{"):
            continue  # printed by something that was imported before standard output was ours
        (kind, value), *_ = json.loads(line).items()
        if kind == "progress":
            progress(value)
        elif kind == "error":
            raise EngineError(value)
        else:
            return from_plain(Launch, value)
    return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""
