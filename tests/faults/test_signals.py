"""A program that is told to end, or killed, leaves no process and no file behind."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tinymodels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc as Linux has them")

#: A session in a child, in the middle of an answer that takes minutes.
ISOLATED = """
import edgellm, sys
with edgellm.load("tiny-qwen3", isolated=True) as model:
    print(model.session.pid, flush=True)
    model.session.eval([1] * 10)
    while True:
        model.session.rewind(0)
        model.session.eval([1] * 200)
"""


def gone(pid: int, seconds: float = 30) -> bool:
    """Whether a process ends; a zombie, which only its parent's reaper can take away, has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT])
def test_an_engine_in_a_child_ends_with_its_parent(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", ISOLATED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with parent:
        child = int(parent.stdout.readline())
        parent.send_signal(number)
    assert gone(child)


def test_an_engine_that_never_comes_back_ends_with_its_parent(tmp_path):
    """Stuck in a library call, where Python looks at neither its input nor at signals."""
    stuck = (
        "import ctypes; from edgellm import lifeline\n"
        "lifeline.follow(); print(1, flush=True); ctypes.PyDLL(None).pause()"
    )
    code = (
        "import subprocess, sys; from edgellm import lifeline\n"
        f"child = subprocess.Popen([sys.executable, '-c', {stuck!r}], stdout=subprocess.PIPE, **lifeline.attached())\n"
        "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert gone(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_conversion_that_is_told_to_end_leaves_nothing(tmp_path, number):
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    (tmp_path / "out").mkdir()
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "convert",
        source,
        "-q",
        "Q4_K_M",
        "-o",
        tmp_path / "out" / "m.gguf",
    ]
    for _ in range(20):  # it may be done before the signal comes
        child = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE)
        with child:
            while child.poll() is None and not list((tmp_path / "out").glob(".edgellm-tmp-*/m.gguf")):
                time.sleep(0.005)
            family = psutil.Process(child.pid).children(recursive=True)
            child.send_signal(number)
            _, errors = child.communicate()
        if child.returncode:
            break
        (tmp_path / "out" / "m.gguf").unlink()
    assert child.returncode == 128 + number, errors
    assert not re.search(rb"Traceback", errors)
    assert list((tmp_path / "out").iterdir()) == [] and list(scratch.iterdir()) == []
    assert all(gone(process.pid) for process in family)


def test_a_program_under_nohup_goes_on(tmp_path):
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from edgellm.cli.shared import signals; signals.end_in_order()\n"
        "signal.raise_signal(signal.SIGHUP); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "still here\n"
