"""`edgellm doctor` of this machine, where an engine is missing, and of another by its profile."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tiny_gguf
from click.testing import CliRunner

import edgellm
from edgellm.cli import doctor
from edgellm.errors import UsageError


def test_an_engine_that_is_not_installed_is_a_finding(tmp_path):
    """A Python with all packages that are here but llama-cpp-python."""
    for path in Path(str(metadata.distribution("click").locate_file(""))).iterdir():
        if not path.name.startswith("llama_cpp"):
            (tmp_path / path.name).symlink_to(path)
    root = Path(edgellm.__file__).resolve().parents[1]
    done = subprocess.run(
        [sys._base_executable, "-S", "-m", "edgellm", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}", "EDGELLM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    found = {(each["section"], each["name"]): each for each in json.loads(done.stdout)}
    library = found["llama.cpp", "library"]
    assert not library["ok"] and "llama-cpp-python is not installed; install it with" in library["value"]
    assert found["ONNX Runtime", "library"]["ok"]
    assert done.returncode == 3 and done.stderr.startswith("edgellm: not working: library")


def findings(*arguments: str) -> dict[str, str]:
    result = CliRunner().invoke(doctor.command, [*arguments, "--json"], catch_exceptions=False)
    return {found["name"]: found["value"] for found in json.loads(result.stdout)}


def test_a_device_is_told_by_its_profile(tmp_path):
    said = findings("--for", "rpi5")
    assert (
        "Cortex-A76" in said["cpu"] and "asimddp" in said["features"] and said["ONNX"] == "needs no compiler"
    )
    assert "armv8.2-dotprod" in said["GGUF"] or "apt install gcc-aarch64-linux-gnu" in said["GGUF"]
    assert "no bundle is made" in findings("--for", "apple-m1")["bundle"]
    said = findings("--for", "pi4", str(tiny_gguf.write(tmp_path / "m.gguf", n_embd=256)), "-c", "128")
    assert said["settings"].startswith("4 threads, 128 tokens of context")
    assert "fits Raspberry Pi 4" in said["memory"]
    with pytest.raises(UsageError, match="did you mean"):
        findings("--for", "raspberry-pi-55")
