"""NVIDIA's own Python binding, talking to a shared library with NVML's functions: names, layouts, errors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import HELPERS

pytest.importorskip("pynvml")
CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None or sys.platform != "linux", reason="needs a C compiler and Linux")

LOOK = """
import json, time
from edgellm.profiles import energy
from edgellm.profiles.measure.gpu_memory import GpuMemoryWatch
meter = energy.find("nvml")
why = meter.why_not()
first = meter.read()
time.sleep(0.3)
second = meter.read()
watch = GpuMemoryWatch()
with watch:
    memory = watch.record()
print(json.dumps({
    "why": why, "kind": meter.kind, "period": meter.update_period_seconds, "scope": meter.scope,
    "parts": sorted(meter.parts), "seconds": second.seconds - first.seconds,
    "first": first.channels, "second": second.channels, "memory": memory.peak, "reason": memory.reason,
}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    source = HELPERS / "fake_nvml.c"
    subprocess.run(
        [str(CC), "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)], check=True
    )
    return folder


def look(library: Path, **environ: str) -> dict:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    run = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        env=clean | {"LD_LIBRARY_PATH": str(library)} | environ,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_binding_reads_counter_processes_and_memory(library):
    seen = look(library)
    assert (seen["why"], seen["kind"], seen["parts"]) == (None, "counter", [])
    assert seen["period"] >= 0.009, "10 ms, or more on a loaded machine"
    joules = seen["second"]["Fake GPU GPU-c0ffee"] - seen["first"]["Fake GPU GPU-c0ffee"]
    assert joules == pytest.approx(100 * seen["seconds"], abs=2.1), "one count of 1 J at either end"
    assert (seen["memory"], seen["reason"]) == (12345, None)


def test_the_binding_s_errors_lead_to_the_gauge(library):
    seen = look(library, FAKE_NVML_NO_COUNTER="1")
    assert (seen["why"], seen["kind"]) == (None, "power")
    assert seen["second"] == {"Fake GPU GPU-c0ffee": 100.0}


def test_hidden_gpus_are_not_read(library):
    run = subprocess.run(
        [sys.executable, "-c", "from edgellm.profiles import energy; print(energy.find('nvml').why_not())"],
        capture_output=True,
        text=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(library), "CUDA_VISIBLE_DEVICES": "GPU-other"},
    )
    assert "CUDA_VISIBLE_DEVICES hides every GPU" in run.stdout
