"""The wheel a user installs: nothing but `edgellm` in it, everything it needs in it, and it runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the files git would ship, in a folder of its own, so that no stale build/ leaks in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name.split("/")[0] in ("tests", "bench", "docs", ".ci") or not (ROOT / name).exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        ".",
    ]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(out.glob("edgellm-*.whl"))


@pytest.mark.wide
def test_it_installs_nothing_but_edgellm(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "edgellm",
        *(n.split("/")[0] for n in names if ".dist-info/" in n),
    }


#: Every kind of file in the packages' folders that the code reads.
SHIPPED = (".py", ".toml", ".jinja", ".css", ".html", ".js", ".jsonl", ".svg", ".safetensors", ".typed")


def test_it_holds_every_module_and_the_bundled_models(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"edgellm": "edgellm", "convert": "edgellm/convert", "models": "edgellm/models"}
    folders["profiles"] = "edgellm/profiles"
    missing = [
        str(path)
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED or path.parent.parent.name == "bundled"
        if "__pycache__" not in path.parts and path.is_file()
        if f"{package}/{path.relative_to(ROOT / folder).as_posix()}" not in names
    ]
    assert not missing


def test_it_runs_where_the_repository_is_not(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "EDGELLM_CACHE": str(tmp_path / "cache")}
    code = "import edgellm; print(edgellm.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    command = [sys.executable, "-m", "edgellm", "run", "tiny-qwen3", "What is 2 + 3?", "--temp", "0"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_it_renders_a_page_where_the_repository_is_not(wheel, tmp_path):
    """Templates and words are data: they have to be in the wheel, and found there."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    result, page = ROOT / "docs" / "study" / "shapes.json", tmp_path / "page.html"
    command = [sys.executable, "-m", "edgellm", "report", str(result), "--out", str(page), "--lang", "zh"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "术语表" in page.read_text(encoding="utf-8")
