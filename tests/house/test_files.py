"""The one way to write: whole or not at all, whatever happens."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import faults
import pytest

from edgellm import files
from edgellm.errors import OutputExistsError, StorageError


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


WRITER = """
import sys; from pathlib import Path; from edgellm import files
target, kind = Path(sys.argv[1]), sys.argv[2]
others = [target.with_name("b"), target.with_name("c")] if kind == "set" else []
with files.atomic_path(target, force=True, others=others) as new:
    if kind == "folder":
        new.mkdir()
        (new / "x").write_text("new")
    else:
        for path in (new, *(new.parent / other.name for other in others)):
            path.write_text("new")
"""
NAMES = {"file": ["a"], "folder": ["a/x"], "set": ["a", "b", "c"]}


def contents(folder: Path, kind: str) -> list[str]:
    return [path.read_text() if (path := folder / name).exists() else "" for name in NAMES[kind]]


def faulty_writes(tmp_path: Path, kind: str, code: int, *, exchange: bool = True):
    """Replace an old output with each call failing in turn (code 0: a kill), to the first clean run."""
    for nth in itertools.count(1):
        folder = tmp_path / f"{nth}"
        for name in NAMES[kind]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("old")
        fault = faults.Fault(folder, nth, code, exchange=exchange)
        run = faults.run([sys.executable, "-c", WRITER, folder / "a", kind], fault)
        yield folder, run
        if run.n_calls < nth:
            assert run.code == 0 and contents(folder, kind) == ["new"] * len(NAMES[kind])
            return


@faults.needed
@pytest.mark.parametrize(
    ("kind", "exchange"), [("file", True), ("folder", True), ("folder", False), ("set", True)]
)
def test_a_kill_at_any_call_leaves_all_old_or_all_new(tmp_path, kind, exchange):
    """Also where folders cannot be swapped, and for outputs of several files: what was begun is finished."""
    seen = []
    for folder, run in faulty_writes(tmp_path, kind, faults.KILL, exchange=exchange):
        files.recover(folder)
        found = contents(folder, kind)
        assert set(found) in ({"old"}, {"new"}) and not litter(folder)
        seen.append((run.code, found[0]))
    assert {(-signal.SIGKILL, "old"), (-signal.SIGKILL, "new"), (0, "new")} == set(seen)
    assert len(seen) >= 10


@faults.needed
def test_a_kill_at_any_call_never_takes_a_folder_out_of_sight(tmp_path):
    for folder, _ in faulty_writes(tmp_path, "folder", faults.KILL):
        assert contents(folder, "folder") in (["old"], ["new"])  # before anybody looks after it


@faults.needed
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("kind", "exchange"), [("file", True), ("folder", True), ("folder", False), ("set", True)]
)
def test_an_error_at_any_call_is_one_line_and_leaves_all_old_or_all_new(tmp_path, kind, exchange, code):
    seen = []
    for folder, run in faulty_writes(tmp_path, kind, code, exchange=exchange):
        if run.code:
            assert f"StorageError: cannot write {folder / 'a'}: {os.strerror(code)}; " in run.errors
            assert not litter(folder)
        assert set(contents(folder, kind)) in ({"old"}, {"new"})
        seen.append((run.code, contents(folder, kind)[0]))
    assert (1, "old") in seen and len(seen) >= 10


def test_a_writer_out_of_sight_keeps_what_it_is_writing(tmp_path):
    """In a container of its own a process has a number that means nobody, or somebody else, outside."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare (util-linux)")
    script = (
        "import sys; from pathlib import Path; from edgellm import files\n"
        "with files.atomic_path(Path(sys.argv[1])) as t:\n"
        "    t.write_bytes(b'theirs'); print('here', flush=True); sys.stdin.read()\n"
    )
    theirs, ours = tmp_path / "theirs.bin", tmp_path / "ours.bin"
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        sys.executable,
        "-c",
        script,
        str(theirs),
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with child:
        if child.stdout.readline() != b"here\n":
            pytest.skip(f"no namespaces here: {child.stderr.read().decode().strip()}")
        files.write_bytes(ours, b"ours")
        with pytest.raises(StorageError, match=r"theirs\.bin is being written by another process"):
            files.write_bytes(theirs, b"mine")
        child.stdin.close()
    assert child.returncode == 0
    assert (theirs.read_bytes(), ours.read_bytes()) == (b"theirs", b"ours")
    assert not litter(tmp_path)


@pytest.mark.fault(7)
def test_a_strangers_note_of_what_to_rename_leads_nowhere(tmp_path):
    inner = tmp_path / "inner"
    place = inner / f"{files._PREFIX}0123"
    place.mkdir(parents=True)
    (tmp_path / "precious").write_text("old")
    (place / files._COMMIT).write_text('["../../precious", {}]')
    files.recover(inner)
    assert (tmp_path / "precious").read_text() == "old"
    assert not litter(inner)
