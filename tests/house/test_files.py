"""The one way to write: whole or not at all, whatever happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgellm import files
from edgellm.errors import OutputExistsError, StorageError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))


def litter(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".edgellm-tmp-")]


def test_a_file_appears_whole_under_its_name(tmp_path):
    target = tmp_path / "out.bin"
    with files.atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert not litter(tmp_path)


def test_an_existing_output_is_refused_before_any_work(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"), files.atomic_path(target):
        pytest.fail("the body must not run")
    assert target.read_bytes() == b"old"


def test_an_exception_leaves_the_old_file(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), files.atomic_path(target, force=True) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert not litter(tmp_path)


def test_a_failed_validation_leaves_the_old_file(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def refuse(path: Path) -> None:
        assert path.read_bytes() == b"bad"
        raise ValueError

    with (
        pytest.raises(ValueError),
        files.atomic_path(target, force=True, validate=refuse) as temporary,
    ):
        temporary.write_bytes(b"bad")
    assert target.read_bytes() == b"old"
    assert not litter(tmp_path)


def test_a_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "model"
    for content in ("one", "two"):
        with files.atomic_path(target, force=True) as temporary:
            temporary.mkdir()
            (temporary / "file").write_text(content)
    assert (target / "file").read_text() == "two"
    assert not litter(tmp_path)


def test_a_second_writer_is_told_to_wait(tmp_path):
    target = tmp_path / "out.bin"
    with files.atomic_path(target) as temporary:
        temporary.write_bytes(b"first")
        with pytest.raises(StorageError, match="another process"), files.atomic_path(target):
            pytest.fail("the body must not run")
    assert target.read_bytes() == b"first"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match="nowhere does not exist"):
        files.check_output(tmp_path / "nowhere" / "out.bin", force=False)


def test_too_little_space_is_said_with_both_numbers(tmp_path):
    with pytest.raises(StorageError, match="1,000,000,000,000,000,000 bytes needed"):
        files.check_space(tmp_path, 10**18)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path; from edgellm import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with files.atomic_path(Path(sys.argv[1])) as t: t.write_bytes(bytes(5000))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out.bin")], capture_output=True, text=True
    )
    assert "StorageError: cannot write" in run.stderr and "file-size limit" in run.stderr
    assert not (tmp_path / "out.bin").exists()
    assert not litter(tmp_path)


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    script = (
        "import sys, time; from pathlib import Path; from edgellm import files\n"
        "with files.atomic_path(Path(sys.argv[1]), force=True) as t:\n"
        "    t.write_bytes(b'half'); print('here', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        os.kill(child.pid, signal.SIGKILL)
    assert target.read_bytes() == b"old"
    assert len(litter(tmp_path)) == 1
    with files.atomic_path(target, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert not litter(tmp_path)


def test_sha256_of_known_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert files.sha256(path, block=2) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_lock_is_released_by_a_dead_process(tmp_path):
    target = tmp_path / "out.bin"
    script = (
        "import sys, time; from pathlib import Path; from edgellm import files\n"
        "with files.atomic_path(Path(sys.argv[1])) as t: print('here', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        child.kill()
    files.write_bytes(target, b"mine", force=False)
    assert target.read_bytes() == b"mine"


def test_a_path_in_the_home_folder_loses_its_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    inside = tmp_path / "models" / "a.gguf"
    assert files.unnamed(inside) == "~/models/a.gguf"
    assert Path(files.unnamed(inside)).expanduser() == inside
    assert files.unnamed(Path("/elsewhere/a.gguf")) == "/elsewhere/a.gguf"
