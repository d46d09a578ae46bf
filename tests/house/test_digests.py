"""Digests that are remembered: never another file's, whatever its path, size and times say."""

import hashlib
import os
import shutil
import sys

import pytest

from edgellm import digests, files

BIG = digests._SMALL_BYTES + 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)  # remember at once


@pytest.fixture
def hashed(monkeypatch):
    """Files that were read whole, in order."""
    read: list[str] = []

    def sha256(*paths, **more):
        read.extend(path.name for path in paths)
        return original(*paths, **more)

    original = files.sha256
    monkeypatch.setattr(files, "sha256", sha256)
    return read


def put(path, data: bytes, like: os.stat_result | None = None) -> None:
    """Write, with the times of `like`, at a moment the file system's clock tells apart."""
    before = path.stat().st_ctime_ns if path.exists() else None
    while True:
        path.write_bytes(data)
        if like:
            os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))
        if path.stat().st_ctime_ns != before:
            return


@pytest.mark.parametrize("size", [0, 7, BIG])
def test_it_is_the_files_sha256(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert digests.of(path) == digests.of(path) == hashlib.sha256(b"x" * size).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="hashed every time there")
def test_a_large_file_is_read_once(tmp_path, hashed):
    put(tmp_path / "file", b"x" * BIG)
    assert digests.of(tmp_path / "file") == digests.of(tmp_path / "file")
    digests._remembered.cache_clear()  # another process
    digests.of(tmp_path / "file")
    assert hashed == ["file"]


@pytest.mark.parametrize("how", ["in place", "another inode"])
def test_other_bytes_of_the_same_size_and_times_are_seen(tmp_path, how):
    path = tmp_path / "file"
    put(path, b"x" * BIG)
    old, first = path.stat(), digests.of(path)
    if how == "in place":
        put(path, b"y" * BIG, like=old)
    else:
        put(tmp_path / "other", b"y" * BIG, like=old)
        shutil.move(tmp_path / "other", path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert digests.of(path) == hashlib.sha256(b"y" * BIG).hexdigest() != first


def test_what_has_just_changed_is_not_remembered(tmp_path, monkeypatch, hashed):
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**12)
    put(tmp_path / "file", b"x" * BIG)
    assert digests.of(tmp_path / "file") == digests.of(tmp_path / "file")
    assert hashed == ["file", "file"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"file": 1}'])
def test_a_damaged_record_is_made_again(tmp_path, text):
    put(tmp_path / "file", b"x" * BIG)
    right = digests.of(tmp_path / "file")
    digests._remembered.cache_clear()  # another process
    for record in (tmp_path / "cache" / "digests").iterdir():
        record.write_text(text)
    assert digests.of(tmp_path / "file") == right


def test_names_order_and_what_else_counts_are_part_of_a_key(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    a, b = tmp_path / "a", tmp_path / "b"
    keys = {digests.of_all(paths, *more) for paths in ([a], [b], [a, b], [b, a]) for more in ((), ("v2",))}
    assert len(keys) == 8
