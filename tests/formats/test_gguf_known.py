"""A header that was checked before is known by its bytes: whatever else lies there is checked as if never seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hostile_gguf import STRUCTURED, RawFile

from edgellm.errors import ArtifactError
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf import known, reader
from edgellm.formats.gguf.reader import read_header


@pytest.fixture
def model(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good file that was opened, in a cache of its own."""
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "_MIN_STRINGS", 1)
    return opened(shutil.copy(good, tmp_path / "model.gguf"))


def opened(path: Path) -> Path:
    reader.forget()
    Artifact.open(path)
    reader.forget()
    return path


def record(path: Path) -> Path:
    (found,) = (path.parent / "cache" / "headers").iterdir()
    return found


def test_what_is_known_reads_as_it_did(good: Path, model: Path) -> None:
    again, fresh = read_header(model), read_header(good)
    assert again.checked and not fresh.checked
    assert again.tensors == fresh.tensors and again.value_types == fresh.value_types
    assert again.metadata == fresh.metadata and again.string_arrays
    assert [list(array.raws()) for array in again.string_arrays] == [
        list(array.raws()) for array in fresh.string_arrays
    ]
    assert all(again.raw_value(key) == fresh.raw_value(key) for key in fresh.metadata)
    assert again.digest == fresh.digest and again.data_offset == fresh.data_offset


@pytest.mark.parametrize("way", ["in place", "another inode"])
def test_every_fault_in_a_known_file_is_refused(good: Path, raw: RawFile, model: Path, way: str) -> None:
    """With the old time of modification put back, as `rsync -t` and `cp -p` do."""
    before = model.stat()
    for mutant in STRUCTURED:
        other = model if way == "in place" else model.with_name("other.gguf")
        other.write_bytes(mutant.make(raw))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(model)
        with pytest.raises(ArtifactError):
            opened(model)
        opened(shutil.copy(good, model))


def test_a_token_that_became_another_one_is_refused_at_the_same_size(model: Path) -> None:
    data = model.read_bytes()
    tokens = read_header(model).metadata["tokenizer.ggml.tokens"]
    first, second = (tokens.starts[i] for i in [i for i in range(len(tokens)) if len(tokens.raw(i)) == 1][:2])
    model.write_bytes(data[:second] + data[first : first + 1] + data[second + 1 :])
    with pytest.raises(ArtifactError, match="there twice"):
        opened(model)


def test_a_known_file_that_was_cut_is_refused(model: Path) -> None:
    header = read_header(model)
    for size in (header.size - 1, header.data_offset, header.header_bytes - 1, 100, 0):
        os.truncate(model, size)
        with pytest.raises(ArtifactError):
            opened(model)


def test_a_damaged_record_is_no_record(model: Path) -> None:
    path, fresh = record(model), read_header(model)
    whole = path.read_bytes()
    places = {0, 5, len(known._MAGIC), len(known._MAGIC) + 32, len(known._MAGIC) + 64, len(whole) - 1}
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for data in (*damaged, whole[:-8], whole[:20], b"", whole + b"\0"):
        path.write_bytes(data)
        reader.forget()
        again = read_header(model)
        assert not again.checked and again.metadata == fresh.metadata
    opened(model)
    assert read_header(model).checked and path.read_bytes() == whole


def test_a_record_of_another_file_is_not_taken(model: Path, raw: RawFile) -> None:
    other = model.with_name("other.gguf")
    keys = tuple((key, value) for key, value in raw.keys if key != b"general.name")
    other.write_bytes(RawFile(keys=keys, tensors=raw.tensors, data=raw.data).bytes())
    mine = record(model)
    opened(other)
    (its,) = {*mine.parent.iterdir()} - {mine}
    shutil.copy(its, mine)
    assert not read_header(model).checked
