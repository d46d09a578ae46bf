"""Models that are brought to a machine: whole and checked, or not there."""

import os
import subprocess
import sys

import pytest

from edgellm.catalog import first_use
from edgellm.cluster import shelf
from edgellm.errors import CheckFailedError, EdgellmError


@pytest.fixture
def model(monkeypatch, tmp_path):
    artifact = first_use.resolve("tiny-qwen3:onnx-int4")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "node"))
    return artifact


def bring(artifact, change=lambda name, piece: piece):
    for number, (name, piece) in enumerate(shelf.pieces(artifact)):
        shelf.take(artifact.fingerprint, name, change(name, piece), first=number == 0)
    return shelf.keep(artifact.fingerprint, artifact.path.name)


def test_a_folder_comes_with_all_its_bytes_and_is_found_again(model, tmp_path):
    elsewhere = tmp_path / model.path.name
    assert shelf.find(elsewhere, model.fingerprint) is None
    kept = bring(model)
    for path in (path for path in model.path.rglob("*") if path.is_file()):
        assert (kept / path.relative_to(model.path)).read_bytes() == path.read_bytes()
    assert shelf.find(elsewhere, model.fingerprint) == kept
    assert shelf.find(model.path, model.fingerprint) == model.path, "a shared folder is used as it is"


def test_what_comes_otherwise_is_not_kept_and_what_lies_there_damaged_is_replaced(model, tmp_path):
    names = [name for name, _ in shelf.pieces(model)]
    target = next(name for name in names if not name.endswith((".json", ".jinja", ".onnx")))
    with pytest.raises(CheckFailedError, match="came otherwise"):
        bring(model, lambda name, piece: piece + b"x" if name == target else piece)
    assert shelf.find(tmp_path / model.path.name, model.fingerprint) is None
    kept = bring(model)
    victim = kept.parent / target
    victim.write_bytes(victim.read_bytes() + b"x")
    assert shelf.find(tmp_path / model.path.name, model.fingerprint) is None
    assert bring(model) == kept and shelf.find(tmp_path / model.path.name, model.fingerprint) == kept


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "", "a\\..\\evil"])
def test_no_file_is_put_outside(model, tmp_path, name):
    with pytest.raises(EdgellmError):
        shelf.take(model.fingerprint, name, b"x", first=True)
    with pytest.raises(EdgellmError):
        shelf.take("../" * 10, "x", b"x", first=True)
    assert not list(tmp_path.rglob("evil"))


def test_what_a_killed_process_left_is_swept(model):
    code = "import os; print(os.getpid())"
    gone = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    kept = bring(model)
    left, others = (kept.parent.with_name(f"{kept.parent.name}.{pid}") for pid in (gone, os.getppid()))
    for folder in (left, others):
        folder.mkdir()
    shelf.take(model.fingerprint, "m/x", b"x", first=True)
    assert not left.exists() and others.exists()
