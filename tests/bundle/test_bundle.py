"""Bundles: the same bytes twice, run by another Python alone with no network's word, each damage by its name."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from edgellm.bundle import contents, engine, texts, wheels
from edgellm.errors import EdgellmError, UsageError
from edgellm.formats.artifact import Artifact
from edgellm.profiles.devices import device, devices

PYTHON = "{}.{}".format(*sys.version_info)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """Wheels of what is installed here, which pip then chooses from."""
    folder = tmp_path_factory.mktemp("given")
    for wanted in wheels.requirements("onnx", PYTHON, serve=False):
        found = metadata.distribution(wanted.split("==")[0])
        tags = [
            line[5:] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")
        ]
        name = f"{found.metadata['Name'].replace('-', '_')}-{found.version}-{tags[-1]}.whl"
        with zipfile.ZipFile(folder / name, "w") as archive:
            for file in found.files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    archive.write(file.locate(), str(file))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, given) -> Path:
    """tiny-llama3 in ONNX for a server of this machine's kind."""
    from edgellm.cli import cli

    folder = tmp_path_factory.mktemp("bundle")
    cli(
        ["convert", "tiny-llama3", "--quant", "onnx-int4", "-o", str(folder / "model")], standalone_mode=False
    )
    contents.make(plan(folder / "model", given), folder / "bundle")
    return folder / "bundle"


def plan(model: Path, given: Path) -> contents.Plan:
    import platform

    here = next(each for each in devices() if (each.system, each.arch) == ("linux", platform.machine()))
    return contents.Plan(Artifact.open(model), here, PYTHON, wheels=given)


def start(bundle: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The bundle's script by a Python that sees no packages of ours."""
    alone = {"PATH": "/nonexistent", "HOME": str(bundle), "EDGELLM_NO_TUNE": "1"}
    command = [sys.executable, "-S", str(bundle / "edgellm-bundle"), *argv]
    return subprocess.run(command, env=alone, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.wide
def test_the_same_bytes_twice(bundle, given, tmp_path):
    for name in ("one.tar.gz", "two.tar.gz"):
        contents.make(plan(bundle / "model", given), tmp_path / name)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        held = {member.name.partition("/")[2] for member in archive}
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True)
    assert sums.returncode == 0 and len(sums.stdout.splitlines()) + 1 == len(held)


@pytest.mark.wide
def test_it_answers_as_here(bundle):
    asked = ("What is the capital of France?", "--temp", "0", "-n", "12", "--no-stats")
    here = subprocess.run(
        [sys.executable, "-m", "edgellm", "run", str(bundle / "model"), *asked],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    there = start(bundle, "run", *asked)
    assert (there.returncode, there.stdout) == (0, here.stdout)
    assert here.stdout.strip()
    refused = start(bundle, "serve")
    assert refused.returncode == 2 and "--with serve" in refused.stderr


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def need(**changed):
    """A bundle made for something else: its sums are right."""

    def change(bundle: Path) -> None:
        facts = json.loads((bundle / "bundle.json").read_text())
        facts["needs"].update(changed)
        (bundle / "bundle.json").write_text(json.dumps(facts))
        lines = (bundle / "SHA256SUMS").read_text().splitlines()
        digest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
        lines = [f"{digest}  bundle.json" if line.endswith("  bundle.json") else line for line in lines]
        (bundle / "SHA256SUMS").write_text("\n".join(lines) + "\n")

    return change


def wheel(bundle: Path) -> Path:
    return next((bundle / "wheels").glob("click-*.whl"))


DAMAGE = {
    "model": (lambda b: flip(b / "model" / "tokenizer.json"), "changed: model/tokenizer.json"),
    "facts": (lambda b: flip(b / "bundle.json"), "changed: bundle.json"),
    "script": (lambda b: (b / "README.md").write_text(""), "changed: README.md"),
    "wheel": (lambda b: wheel(b).unlink(), "missing: wheels/click-"),
    "flipped wheel": (lambda b: flip(wheel(b)), "changed: wheels/click-"),
    "sums": (lambda b: (b / "SHA256SUMS").unlink(), "missing: SHA256SUMS"),
    "architecture": (need(arch="riscv64"), "processor: made for riscv64"),
    "features": (need(cpu_features=["asimddp9"]), "processor: it has no asimddp9"),
    "Python": (need(python="3.2"), "Python: made for 3.2"),
    "memory": (need(memory_bytes=10**15), "memory: 1000000000 MB needed"),
}


@pytest.mark.wide
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(bundle, tmp_path, kind):
    damage, told = DAMAGE[kind]
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy, copy_function=os.link, ignore=shutil.ignore_patterns(".runtime"))
    for name in (
        "bundle.json",
        "SHA256SUMS",
        "README.md",
        "model/tokenizer.json",
        f"wheels/{wheel(copy).name}",
    ):
        (copy / name).unlink()  # so that the damage is the copy's own
        shutil.copyfile(bundle / name, copy / name)
    assert start(copy, "verify").returncode == 0
    damage(copy)
    found = start(copy, "verify")
    assert found.returncode == 3 and f"edgellm-bundle: {told}" in found.stderr, found.stderr
    assert start(copy, "run", "hi").returncode == 3


def test_our_own_wheel_is_the_same_bytes_and_holds_no_weights(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = wheels.own(tmp_path / "a", serve=False), wheels.own(tmp_path / "b", serve=False)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
    assert "edgellm/cli/run.py" in names and not [name for name in names if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("raspberry-pi-4", "armv8"),
        ("raspberry-pi-5", "armv8.2-dotprod"),
        ("x86-laptop-avx2", "x86-64-v3"),
        ("apple-m1", None),
    ],
)
def test_a_device_has_the_engine_it_can_run(name, wanted):
    if wanted is None:
        with pytest.raises(EdgellmError, match="no wheel is built"):
            engine.target(device(name))
    else:
        assert engine.target(device(name)).name == wanted


def test_gguf_without_its_engine_is_refused_with_the_command():
    model = Artifact(Path("m.gguf"), "gguf", "qwen3", "m", "Q4_0", 10**6, 2048, None)
    with pytest.raises(UsageError, match="edgellm wheel --for raspberry-pi-5"):
        contents.check(contents.Plan(model, device("rpi5"), PYTHON))
    with pytest.raises(UsageError, match="has at most 8 GiB"):
        huge = Artifact(Path("m"), "onnx", "qwen3", "m", "onnx-int4", 10**11, 2048, None)
        contents.check(contents.Plan(huge, device("rpi4"), PYTHON))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_the_unit_hard(tmp_path):
    path = tmp_path / "edgellm.service"
    path.write_text(texts.unit("m", PYTHON, 10**9).replace(f"/usr/bin/python{PYTHON}", sys.executable))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
