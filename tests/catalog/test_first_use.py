"""A checkpoint's first use: converted once, by one process, and again when checkpoint or converter change."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tinymodels
from places import ROOT

from edgellm import files
from edgellm.catalog import first_use, models

RESOLVE = "import sys; from edgellm.catalog import first_use; print(first_use.resolve(sys.argv[1]).sha256)"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return tinymodels.write(tinymodels.CASES["llama"], tmp_path / "mine")


def start(model: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RESOLVE, model]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("quant", ["q8_0", "onnx-fp32"])
def test_two_processes_at_once_convert_once(checkpoint, quant):
    """The lock is held while both start, so that they do meet: one converts, the other finds it done."""
    source = models.locate(f"{checkpoint}:{quant}")
    kept = dataclasses.replace(source, quant=first_use._canonical(source.quant)).kept
    with files.turn(str(kept)):
        both = [start(f"{checkpoint}:{quant}") for _ in range(2)]
        told = [process.stderr.readline() for process in both]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("another process is converting mine; waiting" in line for line in told)
    assert sum("first use of mine: converting" in errors for _, errors in ends) == 1
    assert ends[0][0] == ends[1][0] and len(ends[0][0].strip()) == 64


def test_who_dies_gives_its_turn_back(tmp_path):
    code = (
        "import os, sys; from edgellm import files\n"
        "with files.turn('x'): print('have it', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout and holder.stdout.readline() == "have it\n"
    waited: list[bool] = []

    def kill() -> None:
        waited.append(True)
        holder.kill()

    with files.turn("y", kill):
        assert not waited
    with files.turn("x", kill):
        assert waited == [True]
    holder.communicate()


def test_weights_of_the_same_size_and_time_are_converted_anew(checkpoint, tmp_path):
    other = tinymodels.write(tinymodels.variant("llama", seed=2), tmp_path / "other")
    before = first_use.resolve(str(checkpoint)).sha256
    for file in other.glob("*.safetensors"):
        old = (checkpoint / file.name).stat()
        assert old.st_size == file.stat().st_size
        shutil.copyfile(file, checkpoint / file.name)
        os.utime(checkpoint / file.name, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert first_use.resolve(str(checkpoint)).sha256 != before


@pytest.mark.parametrize(
    "room", ["convert/gguf/recipes.py", "models/families/llama.py", "edgellm/formats/gguf/types.py"]
)
def test_another_converter_makes_another_conversion(checkpoint, tmp_path, room):
    """In a copy of the source: one comment more, and what an older converter kept is not met."""
    root = tmp_path / "code"
    ignore = shutil.ignore_patterns("bundled", "training", "__pycache__")
    for folder in ("edgellm", "convert", "models", "profiles"):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True, ignore=ignore)
    code = "import sys; from edgellm.catalog import models; print(models.locate(sys.argv[1]).kept)"

    def kept() -> str:
        (root / "models" / "bundled").mkdir(exist_ok=True)
        shutil.copy(ROOT / "models" / "bundled" / "__init__.py", root / "models" / "bundled")
        done = subprocess.run(
            [sys.executable, "-c", code, str(checkpoint)],
            capture_output=True, text=True, check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        return done.stdout

    before = kept()
    assert kept() == before
    with (root / room).open("a") as file:
        file.write("# changed\n")
    assert kept() != before
