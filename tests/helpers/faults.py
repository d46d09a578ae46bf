"""A process under a faulty operating system: its nth write, open or rename below a folder fails, or kills it."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from places import HELPERS

ALL_CALLS = "open,write,rename,fsync,mkdir,unlink,truncate"
KILL = 0  # instead of an error number

needed = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)


@functools.cache
def library() -> Path:
    """The shim, compiled once a run."""
    path = Path(tempfile.mkdtemp(prefix="edgellm-faults-")) / "faults.so"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(path), str(HELPERS / "faults.c"), "-ldl"]
    subprocess.run([*command, "-lpthread"], check=True)
    return path


@dataclass(frozen=True)
class Fault:
    """The nth of `calls` on files below `under` ends with `errno`; `stays`: all after it, too."""

    under: Path
    nth: int
    errno: int
    calls: str = ALL_CALLS
    stays: bool = False
    exchange: bool = True  # whether the file system can swap two folders


@dataclass(frozen=True)
class Run:
    """How it went."""

    code: int
    out: str
    errors: str
    n_calls: int  # counted ones, of all its processes


def run(command: Sequence[str | Path], fault: Fault, **environment: str) -> Run:
    """Run `command` with one fault."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        settings = {
            "LD_PRELOAD": str(library()),
            "FAULT_UNDER": str(fault.under),
            "FAULT_CALLS": fault.calls,
            "FAULT_NTH": str(fault.nth),
            "FAULT_ERRNO": str(fault.errno),
            "FAULT_LOG": str(log),
            **({"FAULT_STAYS": "1"} if fault.stays else {}),
            **({} if fault.exchange else {"FAULT_NO_EXCHANGE": "1"}),
        }
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **settings, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        n_calls = log.stat().st_size if log.exists() else 0
        return Run(done.returncode, done.stdout, done.stderr, n_calls)
