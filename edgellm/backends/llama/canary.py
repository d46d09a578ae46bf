"""Tries the engine's fast paths in a child process before they are trusted, and remembers the verdict.

A llama.cpp built by GCC 12 on an AMX machine dies at the first quantized prompt (llama.cpp issue 20824).
No in-process guard catches that, so a child runs a short quantized prefill first, once per library build
and CPU: without CPU repacking, then with it, and both must agree.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from edgellm import digests, files, lifeline
from edgellm.backends.llama import lib
from edgellm.errors import EngineCrashError
from edgellm.machine import hardware

_TIMEOUT_SECONDS = 60
#: Largest relative error (NMSE) between the plain and the repacked kernels that counts as agreement. Both
#: quantize activations to 8 bits but group them differently; wrong kernels are off by order 1.
MAX_NMSE = 1e-2


@dataclass(frozen=True)
class Verdict:
    """What was found of one library build on one CPU."""

    plain_works: bool
    repack_works: bool
    detail: str  # how it failed, empty when all is well
    library: str
    cpu: str

    @property
    def note(self) -> str:
        """One line for the user, empty when nothing is wrong."""
        if self.repack_works:
            return ""
        return (
            f"llama.cpp's repacked CPU kernels fail on this machine ({self.detail}); running without them, "
            f"slower. Remedy: {lib.rebuild_command()}"
        )


@cache
def verdict() -> Verdict:
    """The remembered verdict for this library and CPU, or that of a canary run now (about a second).

    Raises EngineCrashError when even the plain kernels die.
    """
    path = _record()
    found = _read(path)
    if found is None:
        with files.turn(str(path)):  # another process may be trying it
            found = _read(path)
            if found is None:
                found = run()
                files.remember(path, json.dumps(asdict(found), indent=2) + "\n")
    if not found.plain_works:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise EngineCrashError(
            f"llama.cpp crashes on this machine ({found.detail}); rebuild it with: {lib.rebuild_command()}"
        )
    return found


def run(command: Sequence[str] = (sys.executable, "-m", "edgellm.backends.llama.canary_child")) -> Verdict:
    """Run the canary. `command` takes the path of a scratch model and prints a JSON line per stage survived."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = str(Path(folder) / "canary.gguf")
        try:
            child = subprocess.run(
                [*command, scratch],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
                **lifeline.attached(),
            )
            output, ending = child.stdout, _ending(child.returncode)
        except subprocess.TimeoutExpired as error:
            output, ending = _text(error.stdout), f"no answer in {_TIMEOUT_SECONDS} s"
    stages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    survived = {stage["stage"]: stage for stage in stages}
    nmse = survived.get("repack", {}).get("nmse", 0.0)
    if "repack" in survived and not nmse <= MAX_NMSE:
        ending = f"wrong results, error {nmse:.2g}"
    repack = "repack" in survived and nmse <= MAX_NMSE
    return Verdict("plain" in survived, repack, "" if repack else ending, library_key(), hardware.cpu().name)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _text(output: object) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else str(output or "")


def _record() -> Path:
    key = hashlib.sha256(f"{library_key()}|{sorted(hardware.cpu().flags)}".encode()).hexdigest()[:16]
    return files.cache_dir("canary") / f"llamacpp-{key}.json"


@cache
def library_key() -> str:
    """Identifies a build by what the kernels' library and those beside it hold."""
    library = lib.library_file()
    beside = {path.resolve() for path in library.parent.iterdir() if path.suffix in library.suffixes[:1]}
    return f"{library}|{digests.of_all(sorted(beside | {library}))[:16]}"


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
