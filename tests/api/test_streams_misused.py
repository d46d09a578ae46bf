"""Streams ended from other threads, tasks, signal handlers and the collector, with real models.

In a child process, for what went wrong here ended the process (SIGSEGV, SIGABRT). What the model says afterwards
is held against what it said undisturbed.
"""

import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / "tests" / "helpers" / "stream_misuse.py"


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="the script sends itself signals")
@pytest.mark.parametrize("isolated", ["0", "1"], ids=["here", "isolated"])
@pytest.mark.parametrize("model", ["tiny-qwen3", "tiny-qwen3:onnx-int4"])
def test_no_way_to_end_a_stream_harms_the_model(model, isolated):
    command = [sys.executable, "-W", "error", str(SCRIPT), model, isolated, "5"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert (run.returncode, run.stdout) == (0, "ok\n"), run.stderr[-3000:]
